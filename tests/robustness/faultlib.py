"""Commands run with one fault each: at every call that changes a file, counted, not picked (see `tests/robustness/faults/`)."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "faults"
GROW, SYNC, NAME = 1, 2, 4  # takes space; flushes; renames or removes
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
FAULTS = (KILL, FULL, BROKEN)


@dataclass(frozen=True)
class Outcome:
    """Exit code (minus the signal it died of, None where it hung), calls counted, what it said on standard error."""

    code: int | None
    calls: int
    said: str


class Server:
    """Runs commands in children of a process that has everything imported."""

    def __init__(self, folder: Path) -> None:
        library = folder / "faults.so"
        compiler = shutil.which("cc") or "cc"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, HERE / "server.py", library]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def run(self, words: list[str], root: Path, fault: Fault = KILL, at: int = 0, seconds: float = 60) -> Outcome:
        """Run ``pipe words``; call number `at` below `root` (from 1; 0 for none) meets the fault."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"words": words, "root": str(root), "at": at, "seconds": seconds}
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
    sound:
        Says what is wrong with a root, which must be nothing whatever happened.
    """

    name: str
    words: list[str]
    before: Path | None = None
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

    def run(self, command: Command, faults: tuple[Fault, ...] = FAULTS) -> None:
        """Inject each fault at each call; and let the folder be read-only from the start."""
        usual = self._undisturbed(command)
        for fault in (*faults, READ_ONLY):
            calls = self._on(command, lambda words, root: self.server.run(words, root, fault)).calls  # noqa: B023
            if fault is READ_ONLY:
                calls = 1
            for at in range(1, calls + 1, EVERY):
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

    def _on(self, command: Command, run: Callable[[list[str], Path], Any]) -> Any:
        root = self._root(command)
        return run(_place(command.words, root), root)

    def _undisturbed(self, command: Command) -> Undisturbed:
        root = self._root(command)
        old = read_tree(root)
        done = self.server.run(_place(command.words, root), root)
        assert (done.code, done.calls > 0) == (0, True), (command.name, done)
        return Undisturbed(read_tree(root), old, set(done.said.splitlines()))

    def _inject(self, command: Command, fault: Fault, at: int, usual: Undisturbed) -> Iterator[str]:
        root, expected = self._root(command), usual.made
        words = _place(command.words, root)
        outcome = self.server.run(words, root, fault, at)
        message = [line for line in outcome.said.splitlines() if line not in usual.said]
        yield from _manners(outcome, message, fault, done=read_tree(root) == expected)
        yield from (f"left something unsound: {what}" for what in command.sound(root))
        if fault is READ_ONLY and at == 1 and read_tree(root) != usual.before:
            yield "changed something although nothing can be written"
        again = self.server.run(words, root)
        if again.code != 0:
            yield f"run again: exit {again.code}, {again.said.strip()[-600:]!r}"
        elif (found := read_tree(root)) != expected:
            yield f"run again: other bytes in {sorted(_differing(found, expected))}"


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
