"""Commands run with one fault each: at every call that changes or reads a file, counted, not picked (see `faults/`)."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.store import rejected_path

HERE = Path(__file__).parent / "faults"
GROW, SYNC, NAME = 1, 2, 4  # takes space; flushes; renames or removes
OPEN, READ, STAT = 8, 16, 32  # opens to read; reads or lists; asks for size or kind
EVERY = int(os.environ.get("FAULTS_EVERY", "10"))  # every so-many-th call: `make faults` takes each
Tree = dict[str, bytes]


@dataclass(frozen=True)
class Fault:
    """What happens at a call: an errno, or minus a signal; to which kinds of calls; whether to all later ones, too."""

    name: str
    error: int
    kinds: int = GROW | SYNC | NAME
    lasting: bool = False


KILL = Fault("kill -9", -signal.SIGKILL)
TERM = Fault("SIGTERM", -signal.SIGTERM)
FULL = Fault("disk full", errno.ENOSPC, GROW, lasting=True)
BROKEN = Fault("I/O error", errno.EIO)
READ_ONLY = Fault("read-only", errno.EROFS, lasting=True)
WRITES = (KILL, FULL, BROKEN, READ_ONLY)
BAD_SECTOR = Fault("I/O error", errno.EIO, OPEN | READ | STAT)
TROUBLES = (
    Fault("too many open files", errno.EMFILE, OPEN, lasting=True),
    Fault("too many open files in the system", errno.ENFILE, OPEN),
    Fault("no memory", errno.ENOMEM, OPEN | READ | STAT),
    Fault("stale handle", errno.ESTALE, OPEN | READ | STAT, lasting=True),
    Fault("time-out", errno.ETIMEDOUT, OPEN | READ | STAT),
)
READS = (BAD_SECTOR, *TROUBLES)


@dataclass(frozen=True)
class Outcome:
    """Exit code (minus the signal it died of, None where it hung), calls counted, what it said on standard error."""

    code: int | None
    calls: int
    said: str


class Server:
    """Runs commands in children of a process that has everything imported."""

    def __init__(self, folder: Path, grid: Mapping[str, int]) -> None:
        """Build the library in `folder`; dSprites are a small `grid` of sizes by factor."""
        library = folder / "faults.so"
        compiler = shutil.which("cc") or "cc"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        environment["FAULTS_GRID"] = json.dumps(dict(grid))
        words = [sys.executable, HERE / "server.py", library]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def run(
        self, words: list[str], root: Path, fault: Fault = KILL, at: int = 0, inputs: Path | None = None
    ) -> Outcome:
        """Run ``pipe words``; call number `at` below `root`, or reading `inputs` (from 1; 0 for none), meets the fault."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"words": words, "root": str(root), "inputs": str(inputs or ""), "at": at, "seconds": 60}
        request |= {"error": fault.error, "kinds": fault.kinds, "lasting": int(fault.lasting)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Command:
    """A command, the folder it changes and what lies there before.

    Attributes
    ----------
    words:
        As given to ``pipe``; ``ROOT`` stands for the folder.
    before:
        A folder that is copied to be the root; none for an empty start.
    inputs:
        A folder of what it reads besides.
    sound:
        Says what is wrong with a root, which must be nothing whatever happened.
    """

    name: str
    words: list[str]
    before: Path | None = None
    inputs: Path | None = None
    sound: Callable[[Path], list[str]] = lambda _root: []


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run makes of what lay there before, and the progress it tells on standard error."""

    made: Tree
    before: Tree
    said: set[str]


@dataclass
class Campaign:
    """Every fault at every call of a command."""

    server: Server
    folder: Path
    injected: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def run(self, command: Command, faults: Sequence[Fault]) -> None:
        """Inject each fault at each call; a folder is read-only from the start."""
        usual = self._undisturbed(command)
        for place, fault in enumerate(faults):
            root = self._root(command)
            words = _place(command.words, root)
            calls = 1 if fault is READ_ONLY else self.server.run(words, root, fault, inputs=command.inputs).calls
            for at in range(1 + place % min(EVERY, calls), calls + 1, EVERY):
                for what in self._inject(command, fault, at, usual):
                    self.failures.append(f"{command.name}, {fault.name} at call {at} of {calls}: {what}")
                self.injected[fault.name] = self.injected.get(fault.name, 0) + 1

    def _root(self, command: Command) -> Path:
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        if command.before:
            shutil.copytree(command.before, root)
        else:
            root.mkdir()
        return root

    def _undisturbed(self, command: Command) -> Undisturbed:
        root = self._root(command)
        old = read_tree(root)
        done = self.server.run(_place(command.words, root), root)
        assert done.code == 0, (command.name, done)
        return Undisturbed(read_tree(root), old, set(done.said.splitlines()))

    def _inject(self, command: Command, fault: Fault, at: int, usual: Undisturbed) -> Iterator[str]:
        root = self._root(command)
        words = _place(command.words, root)
        outcome = self.server.run(words, root, fault, at, command.inputs)
        message = [line for line in outcome.said.splitlines() if line not in usual.said]
        found = read_tree(root)
        if outcome.code == 0 and fault is BAD_SECTOR and _is_told(root):
            return  # one input less, which the table of what was rejected says
        yield from _manners(outcome, message, fault, done=found == usual.made)
        if fault in TROUBLES and outcome.code == 1 and re.search("damaged|overwrite", outcome.said):
            yield f"takes what is whole for damaged: {outcome.said[-600:]!r}"
        if fault in READS and outcome.code == 1 and not any(str(it) in outcome.said for it in (root, command.inputs)):
            yield f"does not name what it could not read: {outcome.said[-600:]!r}"
        yield from (f"left something unsound: {what}" for what in command.sound(root))
        if lost := _lost(found, usual):
            yield f"lost {lost}"
        if fault is READ_ONLY and found != usual.before:
            yield "changed something although nothing can be written"
        if found in (usual.before, usual.made):
            return  # what an undisturbed run makes of that is known
        again = self.server.run(words, root)
        if again.code != 0:
            yield f"run again: exit {again.code}, {again.said.strip()[-600:]!r}"
        elif (found := read_tree(root)) != usual.made:
            yield f"run again: other bytes in {sorted(_differing(found, usual.made))}"


def _lost(found: Tree, usual: Undisturbed) -> list[str]:
    """What lay there before and lies nowhere now, nor was replaced; what is to go may be gone once all that is new is there.

    Manifests are left out: they are told by what the command makes when it is run again.
    """
    there = set(found.values())
    if set(usual.made.values()) <= there:
        return []
    gone = {name for name, content in usual.before.items() if content not in there}
    return sorted(name for name in gone if found.get(name) != usual.made.get(name, b"") and not name.endswith(".json"))


def _is_told(root: Path) -> bool:
    """Whether a store's table of rejected items tells of a bad sector."""
    path = rejected_path(root)
    return path.exists() and any(os.strerror(errno.EIO) in text for text in pd.read_parquet(path)["detail"])


def _manners(outcome: Outcome, message: list[str], fault: Fault, *, done: bool) -> Iterator[str]:
    """A command that fails says so in three lines and exits with 1."""
    if outcome.code is None:
        yield "hung"
    elif outcome.code in (-signal.SIGKILL, -signal.SIGTERM):
        if fault not in (KILL, TERM):
            yield f"died of signal {-outcome.code}"
    elif outcome.code == 0 and not done:
        yield "claims success, but other bytes lie there"
    elif outcome.code not in (0, 1):
        yield f"exit {outcome.code}: {outcome.said[-1500:]}"
    elif outcome.code == 1 and not (1 <= len(message) <= 3 and not re.search("Traceback|Unexpected", outcome.said)):
        yield f"said {outcome.said[-1500:]!r}"


def _place(words: list[str], root: Path) -> list[str]:
    return [word.replace("ROOT", str(root)) for word in words]


def _differing(found: Tree, expected: Tree) -> set[str]:
    return {name for name in {*found, *expected} if found.get(name) != expected.get(name)}


def read_tree(root: Path) -> Tree:
    """Every file but locks and TensorBoard's events, which hold times."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith((".lock", "events."))]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
