"""Folders as a stranger may leave them: ``python -m tests.robustness.hostile --seconds 240`` prints how many were tried.

Each file and folder of a store, a run, OpenFace's output and an experiment's results is replaced in turn by what is no such file:
pipes, devices, links to what is private, files without an end, tables of others; manifests and tables say what cannot be. Then each
command that reads it runs in a process of its own. It must end in time, take no memory to speak of, say what is wrong in three
lines, show nothing private, and leave alone all but what it is to write. Cases come in an order that the seed decides, each with
some of the commands, until the time is over; without end (``--seconds 0``) all are tried with all.
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

SECONDS = 40.0  # of a command, ten times what the slowest takes
BYTES = 1 << 30  # that it may take beyond what its parent has
SOME = 4  # commands of a case where time is short
MARKER = b"nobody's business: 4f1c8a"
SHOWN = {MARKER} | {base64.b64encode(b"." * n + MARKER)[4:28] for n in range(3)}
HEAVY = (
    "tensorboard.summary.writer torch._dynamo faiss matplotlib.pyplot gated_vae.pairing.service.server"
    " gated_vae.pairing.cluster gated_vae.pairing.exact gated_vae.pipelines.experiments.faces"
    " gated_vae.pipelines.evaluation.report gated_vae.pipelines.verify"
)
TINY = "--network fc --hidden 8 --batch-size 8 --latent pose=2,expression=2 --steps 4 --precision fp32"
STORE = f"""inspect STORE
inspect STORE --pairs OUT/pairs.png
verify STORE
serve STORE --port 0
encode RUN STORE --out OUT/codes.parquet
train STORE --out OUT/new {TINY}
evaluate RUN
traverse RUN --out OUT/traversals.png
report RUN
preprocess celeba --openface OF --size 16 --workers 1 --out STORE
cluster STORE --pose 3 --expression 2 --draws 2 --seed 1 --overwrite
pair STORE --share smile=AU12_r --overwrite
preprocess celeba --openface OF --size 16 --workers 1 --out STORE --overwrite"""
RUN = f"""inspect RUN
verify RUN
encode RUN STORE --out OUT/codes.parquet
finetune RUN --out OUT/tuned --steps 2
evaluate RUN
traverse RUN --out OUT/traversals.png
report RUN
train STORE --out RUN {TINY}"""
COMMANDS = {  # what reads a folder; those that write into it last
    "store": STORE.splitlines(),
    "run": RUN.splitlines(),
    "of": ["preprocess celeba --openface OF --identities OF/identity.txt --size 16 --workers 1 --out OUT/new"],
    "results": ["reproduce faces STORE --out RESULTS --seeds 1 --steps 4 --only gated --workers 1"],
}
WRITES = {"evaluate": "run", "report": "run", "cluster": "store", "pair": "store"}  # and what --out names


class Ended(NamedTuple):
    """How a command ended: exit code or what was done to it, what it said on both channels."""

    code: int | str
    printed: str
    said: str


def run(words: list[str], folder: Path) -> Ended:
    """Run ``pipe words`` in a child, which is killed when it takes too long or too much."""
    channels = [folder / "printed", folder / "said"]
    pid = os.fork()
    if not pid:
        _become(words, channels)
    own, end, code = _resident(os.getpid()), time.monotonic() + SECONDS, "took too long"
    done = 0
    while not done and time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done and _resident(pid) > own + BYTES:
            code = "took too much memory"
            break
        time.sleep(0.005)
    if not done:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    texts = [channel.open("rb").read(1 << 20).decode(errors="replace") for channel in channels]
    return Ended(os.waitstatus_to_exitcode(status) if done else code, *texts)


def _become(words: list[str], channels: list[Path]) -> None:
    code = 99
    try:
        os.setsid()
        for number, path in enumerate([Path(os.devnull), *channels]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
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

Attack = Callable[[Path, Path], None]


def _instead(make: Callable[[Path], None], path: Path, _outside: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def _void(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def _private(path: Path, outside: Path, *, keep: bool) -> None:
    """A link to a private file; with `keep` to one of the right kind, as far as its beginning tells."""
    (outside / "private").write_bytes((path.read_bytes() if keep else b"") + MARKER * 3)
    path.unlink()
    path.symlink_to(outside / "private")


def _moved(path: Path, outside: Path) -> None:
    shutil.move(path, outside / "moved")
    path.symlink_to(outside / "moved")


def _of_another(made: Path, path: Path, outside: Path) -> None:
    """What lies at the same place of other data: fewer samples, other sizes."""
    other = made / "of_another" / path.relative_to(outside.parent)
    if other.exists():
        shutil.copy(other, path)


REPLACED: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.touch(),
    "a terabyte of zeros": _void,
}
FILES: dict[str, Attack] = {
    **{name: partial(_instead, make) for name, make in REPLACED.items()},
    "a link to a private file": partial(_private, keep=False),
    "a link to a private file of its kind": partial(_private, keep=True),
    "followed by a terabyte of zeros": lambda path, _: os.truncate(path, 1 << 40),
    **({} if os.geteuid() == 0 else {"not to be read": lambda path, _: path.chmod(0)}),
}
MOVED = "moved elsewhere"
FOLDERS = {MOVED: _moved, **{name: partial(_instead, REPLACED[name]) for name in [*REPLACED][:4]}}


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


def _marked(key: str, value: str, table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), f"gated_vae.{key}".encode(): value})


def _numbered(number: int, table: pa.Table) -> pa.Table:
    """A table of pairs whose targets and groups are all of one number."""
    wrong = pa.array([number] * len(table), pa.int32())
    return table.set_column(1, table.schema.field(1), wrong).set_column(
        3, table.schema.field(3).with_type(pa.int32()), wrong
    )


TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "all text": lambda table: table.cast(pa.schema([(name, pa.string()) for name in table.column_names])),
    "all null": lambda table: pa.table({name: pa.nulls(len(table)) for name in table.column_names}),
    "lists": lambda table: pa.table({name: [[1]] * len(table) for name in table.column_names}),
    "without rows": lambda table: table.slice(0, 0),
    "without columns": lambda table: table.select([]),
    "every row twice": lambda table: pa.concat_tables([table, table]),
}
LAYOUTS = {
    f"{key} = {value}": partial(_marked, key, value)
    for key in ("inputs", "draws", "block")
    for value in ("0", "-1", "many")
}
LAYOUTS |= {f"{key} = {2**60}": partial(_marked, key, str(2**60)) for key in ("inputs", "draws", "block")}
LAYOUTS |= {f"targets {number}": partial(_numbered, number) for number in (-5, 2**31 - 1)}


def lies(path: Path, chance: random.Random, count: int = 40) -> Iterator[tuple[str, Attack]]:
    """Manifests that contradict the data or themselves, `count` of them with any one value that cannot be; tables likewise."""
    if path.suffix == ".parquet":
        changes = TABLES | (LAYOUTS if path.name == "pairs.parquet" else {})
        yield from ((name, partial(_rewritten, change)) for name, change in changes.items())
    if path.suffix != ".json":
        return
    yield "nested 200,000 deep", lambda path, _: path.write_text('{"a":' * 200_000) and None
    for name, told in LIES.get(path.name, {}).items():
        yield name, partial(_told, partial(_merged, told))
    places = [place for place in _leaves(json.loads(path.read_bytes())) if place]
    for _ in range(count):
        place, odd = chance.choice(places), chance.choice(ODD)
        yield f"{'.'.join(map(str, place))} = {json.dumps(odd)}", partial(_told, partial(_put, place, odd))


def _rewritten(change: Callable[[pa.Table], pa.Table], path: Path, _outside: Path) -> None:
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)


def _told(change: Callable[[Any], Any], path: Path, _outside: Path) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))


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


def _merged(told: dict[str, Any], value: Any) -> Any:
    return {**value, **{key: _merged(it, value[key]) if key == "train" else it for key, it in told.items()}}


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
        if victim.parts[0] in COMMANDS and len(victim.parts) > 1 and not _is_like_another(victim):
            attacks = FOLDERS if path.is_dir() else {**FILES, "that of another": partial(_of_another, made)}
            found += [Case(victim, name, attack) for name, attack in (*attacks.items(), *lies(path, chance))]
    chance.shuffle(found)
    return found


def _is_like_another(victim: Path) -> bool:
    name = victim.parts[1]
    return name.startswith("events.") or (victim.parts[0] == "of" and name[:1].isdigit() and not name.startswith("03"))


def try_case(case: Case, lines: list[str], made: Path, folder: Path, *, show: bool) -> Iterator[tuple[str, str]]:
    """Command and what is wrong with how it took the case; with `show` what each said is printed.

    All lies in `folder`, which is the one where it was made: a run knows where its store is.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder, symlinks=True)
    for name in ("outside", "out"):
        (folder / name).mkdir()
    case.attack(folder / case.victim, folder / "outside")
    for line in lines:
        verb, *words = (_place(word, folder) for word in line.split())
        writes = {WRITES.get(verb, ""), *(word.lower() for word in line.partition("--out ")[2].split()[:1])}
        before = _state(folder, writes)
        ended = run([verb, *words], folder)
        if show:
            print(
                f"{case.victim}: {case.name}: {verb} {ended.code}\n    {ended.said.replace(str(folder), '')}",
                flush=True,
            )
        yield from ((line, fault) for fault in _faults(ended))
        if case.name == MOVED and ended.code and "--overwrite" not in line:
            yield line, f"does not follow a link: {ended.said!r}"
        changed = {path for path, *_ in before ^ _state(folder, writes)}
        if case.name == MOVED:  # a run's own figures, say, wherever they lie; and with --overwrite what is new there
            kept = {path for path, *_ in before} if "--overwrite" in line else set()
            changed = {path for path in changed if path in kept or path.parts[:2] != ("outside", "moved")}
        if changed:
            yield line, f"changed {sorted(map(str, changed))}"
        if case.victim.parts[0] != "of":  # where links are followed, as data sets are kept so: SECURITY.md
            yield from ((line, f"shows what is private in {path}") for path in _leaks(folder))


def _place(word: str, folder: Path) -> str:
    name, _, rest = word.partition("/")
    return str(folder / name.lower() / rest) if name in ("STORE", "RUN", "OF", "RESULTS", "OUT") else word


def _faults(ended: Ended) -> Iterator[str]:
    lines = [line for line in ended.said.strip().splitlines() if " so far" not in line]  # of progress
    if ended.code not in (0, 1, 2):
        yield f"{ended.code}: {ended.said[-300:]!r}"
    elif (ended.code and not 1 <= len(lines) <= 3) or "Unexpected" in ended.said or "Traceback" in ended.said:
        yield f"says {ended.said[-900:]!r}"
    elif ended.code == 0 and lines:
        yield f"ends well and says {ended.said[-500:]!r}"


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
        if stat.S_ISREG(it.st_mode) and it.st_size < 1 << 26 and not path.is_relative_to(folder / "outside"):
            data = path.read_bytes()
            if path.suffix == ".parquet" and data[:4] == data[-4:] == b"PAR1":
                data += pd.read_parquet(path, partitioning=None).to_csv().encode()
            if any(shown in data for shown in SHOWN):
                yield path.relative_to(folder)


def make(folder: Path) -> Path:
    """A store, a run that was judged, OpenFace's output and results; and others of fewer faces and another size."""
    made, other = make_artefacts(folder, 90), make_artefacts(folder / "fewer", 50, ["--hidden", "4"])
    for of, home in ((folder / "of", made), (folder / "fewer" / "of", other)):
        (of / "identity.txt").write_text("".join(f"{number:02d}.jpg {number % 9}\n" for number in range(90)))
        shutil.move(of, home)
    shutil.move(other, made / "of_another")
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
    chance = random.Random(options.seed)
    tried, commands, bad, findings = Counter[str](), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        place = make(Path(folder))
        made = Path(shutil.copytree(place, Path(folder) / "kept"))
        end = time.monotonic() + (options.seconds or 1e9)
        for case in cases(made, chance):
            if time.monotonic() > end:
                break
            kind = case.victim.parts[0]
            lines = COMMANDS[kind]
            if options.seconds and len(lines) > SOME:
                lines = [lines[number] for number in sorted(chance.sample(range(len(lines)), SOME))]
            if options.only not in f"{case.victim}: {case.name}":
                continue
            tried[kind], commands[kind] = tried[kind] + 1, commands[kind] + len(lines)
            found = list(try_case(case, lines, made, place, show=options.show))
            bad, findings = bad + bool(found), findings + len(found)
            for line, fault in found:
                print(
                    f"FINDING {case.victim}: {case.name}\n    pipe {line}\n    {fault.replace(str(place), '')}",
                    flush=True,
                )
    print(
        "".join(f"{name}: {count} cases, {commands[name]} commands\n" for name, count in sorted(tried.items())), end=""
    )
    print(f"{tried.total()} cases, {commands.total()} commands, {findings} findings in {bad} cases")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
