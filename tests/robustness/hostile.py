"""Folders as a stranger may leave them: ``python -m tests.robustness.hostile --seconds 240`` prints how many were tried.

Each file and folder of a store, a run, OpenFace's output and an experiment's results is replaced in turn by what is no such file:
pipes, devices, links to what is private, files without an end, tables of others; manifests say what cannot be. Then each
command that reads it runs in a process of its own. It must end in time, take no memory to speak of, say what is wrong in three
lines, show nothing private, and leave alone all but what it is to write. Cases come in an order that the seed decides, until the
time is over; without end (``--seconds 0``) all are tried.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.robustness.fuzz import make_artefacts

SECONDS = 60.0  # of a command, thrice what the slowest takes on busy cores
BYTES = 1 << 30  # that it may take beyond what its parent has
MARKER = b"nobody's business: 4f1c8a"
SHOWN = {MARKER} | {base64.b64encode(b"." * n + MARKER)[4 : 8 * len(MARKER) // 6 - 4] for n in range(3)}
HEAVY = "tensorboard.summary.writer torch._dynamo faiss matplotlib.pyplot gated_vae.pipelines.experiments.faces gated_vae.pipelines"
HEAVY += ".verify gated_vae.pipelines.evaluation.report gated_vae.pairing.service.server gated_vae.pairing.cluster gated_vae.pairing.exact"
TINY = ["--network", "fc", "--hidden", "8", "--batch-size", "8", "--latent", "pose=2,expression=2", "--steps", "4", "--precision", "fp32"]
CLUSTER = ["--pose", "3", "--expression", "2", "--draws", "2"]
EXPERIMENT = ["--out", "RESULTS", "--seeds", "1", "--steps", "4", "--only", "gated", "--workers", "1"]
READS_STORE = [
    "inspect STORE",
    "inspect STORE --pairs OUT/pairs.png",
    "verify STORE",
    "serve STORE --port 0",
    "encode RUN STORE --out OUT/codes.parquet",
    " ".join(["train STORE --out OUT/new", *TINY]),
]
READS_RUN = ["inspect RUN", "verify RUN", "evaluate RUN", "traverse RUN --out OUT/traversals.png", "report RUN"]
COMMANDS = {  # what reads a folder, those that write into it last
    "store": [
        *READS_STORE,
        *READS_RUN[2:],
        " ".join(["cluster STORE --seed 1 --overwrite", *CLUSTER]),
        "pair STORE --share smile=AU12_r --overwrite",
    ],
    "run": [
        *READS_RUN,
        READS_STORE[4],
        "finetune RUN --out OUT/tuned --steps 2",
        " ".join(["train STORE --out RUN", *TINY]),
    ],
    "of": ["preprocess celeba --openface OF --identities OF/identity.txt --out OUT/new --size 16 --workers 1"],
    "results": [" ".join(["reproduce faces STORE", *EXPERIMENT])],
}
WRITES = {"cluster": ["store"], "pair": ["store"], "evaluate": ["run"], "report": ["run"], "reproduce": ["results"]}


class Ended(NamedTuple):
    """How a command ended: exit code or what was done to it, what it said on both channels."""

    code: int | str
    printed: str
    said: str


def run(words: list[str], folder: Path) -> Ended:
    """Run ``pipe words`` in a child, which is killed when it takes too long or too much."""
    channels = [(folder / name).open("w+b") for name in ("printed", "said")]
    pid = os.fork()
    if not pid:
        _become(words, [channel.fileno() for channel in channels])
    own, end, code = _resident(os.getpid()), time.monotonic() + SECONDS, "took too long"
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        if _resident(pid) > own + BYTES:
            code = "took too much memory"
            break
        time.sleep(0.005)
    if isinstance(code, str):
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    texts = []
    for channel in channels:
        with channel:
            channel.seek(0)
            texts.append(channel.read(1 << 20).decode(errors="replace"))
    return Ended(code, *texts)


def _become(words: list[str], channels: list[int]) -> None:
    code = 99
    try:
        os.setsid()
        for number, target in enumerate([os.open(os.devnull, os.O_RDWR), *channels]):
            os.dup2(target, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
        signal.sigwait = lambda signals: min(signals)  # `serve` ends once it answers
        import_module("gated_vae.pipelines.cli").main(words)
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


# Attacks on a path; `outside` is a folder that is nobody's to change


def _instead(make: Callable[[Path], None], path: Path, outside: Path) -> None:  # noqa: ARG001
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def _private(path: Path, outside: Path, keep: bool) -> None:
    """A link to a private file; with `keep` to one of the right kind, as far as its beginning tells."""
    (outside / "private").write_bytes((path.read_bytes() if keep else b"") + MARKER * 3)
    path.unlink()
    path.symlink_to(outside / "private")


def _endless(path: Path, outside: Path) -> None:  # noqa: ARG001
    os.truncate(path, 1 << 40)


def _void(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def _locked_up(path: Path, outside: Path) -> None:  # noqa: ARG001
    path.chmod(0)


def _moved(path: Path, outside: Path) -> None:
    shutil.move(path, outside / "moved")
    path.symlink_to(outside / "moved")


def _of_another(made: Path, path: Path, outside: Path) -> None:
    """What lies at the same place of other data: fewer samples, other sizes."""
    parts = ("of_another", *path.relative_to(outside.parent).parts)
    if made.joinpath(*parts).exists():
        shutil.copy(made.joinpath(*parts), path)


REPLACED: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.touch(),
    "a terabyte of zeros": _void,
}
Attack = Callable[[Path, Path], None]
FILES: dict[str, Attack] = {
    **{name: partial(_instead, make) for name, make in REPLACED.items()},
    "a link to a private file": partial(_private, keep=False),
    "a link to a private file of its kind": partial(_private, keep=True),
    "followed by a terabyte of zeros": _endless,
    **({} if os.geteuid() == 0 else {"not to be read": _locked_up}),
}
FOLDERS = {"moved elsewhere": _moved, **{name: partial(_instead, REPLACED[name]) for name in [*REPLACED][:4]}}


# Lies

ODD = [None, -1, 0, 2**60, 1e308, float("nan"), "", "../../etc", [], {}, True, [[]], [2**60], {"a": 2**60}]
LIES: dict[str, dict[str, Any]] = {
    "store.json": {
        "factors whose product is not N": {"factors": {"AU12_r": 3, "pose_Rx": 5}},
        "factors that are no columns": {"factors": {"a": 9, "b": 10}},
        "factors without end": {"factors": {"a": 2**30, "b": 2**30}},
        "more samples than there are": {"taken": 2**39, "seen": 2**39},
        "fewer samples than there are": {"taken": 40, "rejected": 50},
        "images without end": {"image_shape": [65535, 65535]},
        "a grid of another kind": {"kind": "dsprites", "factors": {"shape": 3, "scale": 30}},
    },
    "config.json": {"a store that is a device": {"train": {"store": "/dev/zero"}}},
    "metrics.json": {"scores that are none": {"evaluate": {}}, "scores of words": {"evaluate": {"kl": "much"}}},
}


def _told(change: Callable[[Any], Any], path: Path, outside: Path) -> None:  # noqa: ARG001
    value = json.loads(path.read_bytes())
    changed = change(value)
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _leaves(inner, (*place, key))


def _put(place: tuple[Any, ...], odd: Any, value: Any) -> Any:
    node = value
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = odd
    return value


def lies(path: Path, chance: random.Random, count: int) -> Iterator[tuple[str, Attack]]:
    """Manifests that contradict the data or themselves, `count` of them with any one value that cannot be."""
    yield "nested 200,000 deep", partial(_told, lambda _: '{"a":' * 200_000)
    for name, changes in LIES.get(path.name, {}).items():
        yield name, partial(_told, lambda value, changes=changes: _merged(value, changes))
    places = [place for place in _leaves(json.loads(path.read_bytes())) if place]
    for _ in range(count):
        place, odd = chance.choice(places), chance.choice(ODD)
        name = f"{'.'.join(map(str, place))} = {json.dumps(odd)}"
        yield name, partial(_told, partial(_put, place, odd))


def _merged(value: Any, changes: dict[str, Any]) -> Any:
    return {**value, **{k: _merged(value.get(k, {}), v) if isinstance(v, dict) else v for k, v in changes.items()}}


def layouts() -> Iterator[tuple[str, Attack]]:
    """Pair tables whose metadata or rows lie."""
    for key in ("inputs", "draws", "block"):
        for value in ("0", "-1", str(2**60), "many"):
            yield f"{key} = {value}", partial(_rewritten, {f"gated_vae.{key}": value}, None)
    for target in (-5, 2**31 - 1):
        yield f"targets {target}", partial(_rewritten, {}, target)


def _rewritten(metadata: dict[str, str], target: int | None, path: Path, outside: Path) -> None:  # noqa: ARG001
    table = pq.read_table(path, partitioning=None)
    if target is not None:
        table = table.set_column(3, "target_id", pa.array([target] * len(table), pa.int32()))
    kept = {**(table.schema.metadata or {}), **{key.encode(): value.encode() for key, value in metadata.items()}}
    pq.write_table(table.replace_schema_metadata(kept), path)


# Cases


@dataclass(frozen=True)
class Case:
    """An attack on one path of what was made."""

    victim: Path  # relative
    name: str
    attack: Attack


def cases(made: Path, chance: random.Random) -> list[Case]:
    """Every attack on every path; of many faces one."""
    found = []
    for path in sorted(made.rglob("*")):
        victim = path.relative_to(made)
        if victim.parts[0] not in COMMANDS or len(victim.parts) < 2 or _is_like_another(victim):
            continue
        attacks = FOLDERS if path.is_dir() else {**FILES, "that of another": partial(_of_another, made)}
        found += [Case(victim, name, attack) for name, attack in attacks.items()]
        if path.suffix == ".json":
            found += [Case(victim, *lie) for lie in lies(path, chance, 60)]
        if path.name == "pairs.parquet":
            found += [Case(victim, *lie) for lie in layouts()]
    chance.shuffle(found)
    return found


def _is_like_another(victim: Path) -> bool:
    name = victim.parts[1]
    return name.startswith("events.") or (victim.parts[0] == "of" and name[:1].isdigit() and not name.startswith("03"))


def try_case(case: Case, made: Path, folder: Path, *, show: bool) -> Iterator[tuple[str, str]]:
    """Command and what is wrong with how it took the case; with `show` what each said is printed.

    All lies in `folder`, which is the one where it was made: a run knows where its store is.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder, symlinks=True)
    for name in ("outside", "out"):
        (folder / name).mkdir()
    case.attack(folder / case.victim, folder / "outside")
    for line in COMMANDS[case.victim.parts[0]]:
        verb, *rest = (_place(word, folder) for word in line.split())
        writes = {"out", *WRITES.get(verb, [])} | ({"run"} if line.startswith("train STORE --out RUN") else set())
        before = _state(folder, writes)
        ended = run([verb, *rest], folder)
        if show:
            print(f"{case.victim}: {case.name}: {verb} {ended.code}\n    {ended.said.replace(str(folder), '')}", flush=True)
        yield from ((line, fault) for fault in _faults(ended, moved=case.name == "moved elsewhere"))
        if changed := before ^ _state(folder, writes):
            yield line, f"changed {sorted({str(path) for path, *_ in changed})}"
        if any(shown in text.encode() for text in ended[1:] for shown in SHOWN):
            yield line, "shows what is private"
    yield from (("all", f"wrote what is private to {path}") for path in _leaks(folder))


def _place(word: str, folder: Path) -> str:
    for name in ("store", "run", "of", "results", "out"):
        if word == name.upper() or word.startswith(f"{name.upper()}/"):
            return f"{folder}/{name}{word[len(name) :]}"
    return word


def _faults(ended: Ended, *, moved: bool) -> Iterator[str]:
    lines = ended.said.strip().splitlines()
    if ended.code not in (0, 1, 2):
        yield f"{ended.code}: {ended.said[-300:]!r}"
    elif (ended.code and not 1 <= len(lines) <= 3) or "Unexpected" in ended.said or "Traceback" in ended.said:
        yield f"says {ended.said[-900:]!r}"
    elif ended.code == 0 and lines:
        yield f"ends well and says {ended.said[-500:]!r}"
    elif moved and ended.code:
        yield f"does not follow a link: {ended.said!r}"


def _state(folder: Path, writes: set[str]) -> set[tuple[Path, int, int, int, int]]:
    """What lies in all folders but those that a command writes into."""
    found = set()
    for name in {*COMMANDS, "outside"} - writes:
        for path in [folder / name, *(folder / name).rglob("*")]:
            it = path.lstat()
            if not (stat.S_ISDIR(it.st_mode) or path.name == ".lock"):
                found.add((path.relative_to(folder), it.st_ino, it.st_mode, it.st_size, it.st_mtime_ns))
    return found


def _leaks(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        it = path.lstat()
        if not stat.S_ISREG(it.st_mode) or it.st_size > 1 << 26 or path.is_relative_to(folder / "outside"):
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet" and data[:4] == data[-4:] == b"PAR1":
            data += pd.read_parquet(path, partitioning=None).to_csv().encode()
        if any(shown in data for shown in SHOWN):
            yield path.relative_to(folder)


def make(folder: Path) -> Path:
    """A store, a run that was judged, OpenFace's output and results, and another of each but the results."""
    made = make_artefacts(folder, 90)
    make_artefacts(folder / "smaller", 50, ["--hidden", "4"])
    shutil.move(folder / "smaller" / "made", made / "of_another")
    for of in (folder, folder / "smaller"):
        lines = [f"{number:02d}.jpg {number % 9}" for number in range(90)]
        (of / "of" / "identity.txt").write_text("\n".join(lines))
        shutil.move(of / "of", made if of == folder else made / "of_another")
    for line in ("evaluate RUN", "report RUN", *COMMANDS["results"]):
        ended = run([_place(word, made) for word in line.split()], folder)
        assert ended.code == 0, ended
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of what a case is called")
    parser.add_argument("--show", action="store_true", help="print what every command says")
    options = parser.parse_args()
    for name in HEAVY.split():
        import_module(name)
    end, findings, tried = time.monotonic() + (options.seconds or 1e9), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="hostile-made-") as folder:
        place = make(Path(folder))
        made = Path(shutil.copytree(place, Path(folder) / "kept"))
        for case in cases(made, random.Random(options.seed)):
            if time.monotonic() > end:
                break
            if options.only not in f"{case.victim}: {case.name}":
                continue
            tried[case.victim.parts[0]] += 1
            for command, fault in try_case(case, made, place, show=options.show):
                findings[f"{case.victim}: {case.name}"] += 1
                text = fault.replace(str(place), "")
                print(f"FINDING {case.victim}: {case.name}\n    pipe {command}\n    {text}", flush=True)
    runs = {name: count * len(COMMANDS[name]) for name, count in tried.items()}
    print("".join(f"{name}: {tried[name]} cases, {runs[name]} commands\n" for name in sorted(tried)), end="")
    print(f"{sum(tried.values())} cases, {sum(runs.values())} commands, {sum(findings.values())} findings in {len(findings)}")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
