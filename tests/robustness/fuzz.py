"""Bounded fuzzing of everything that is read: ``python -m tests.robustness.fuzz --seconds 150`` prints how many inputs were tried.

Inputs are real files (cut to a few rows; GATED_VAE_DATA) and made ones, damaged by random and structured changes. CSVs are
chosen by coverage: an input that reaches a new edge of the readers joins the corpus. Every finding is printed with the seed
that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

import gated_vae.preprocessing.openface.cells
from gated_vae.preprocessing import read_openface
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.sources.grids.dsprites import read_official
from gated_vae.preprocessing.store import open_store, rejected_path
from tests.folders import write_image_faces, write_picture

HEADER = "frame, face_id, timestamp, confidence, success, pose_Rx, pose_Ry, x_0, X_0, AU01_r, AU28_c"
ROW = "1, 0, 0.000, 0.98, 1, -0.109, 0.128, 602.6, -13.1, 0.05, 1.00"
GOOD = "\n".join([HEADER, *(f"{number}{ROW[1:]}" for number in range(1, 6)), ""]).encode()
# Correctly rounded, which is the default from pandas 3.1 on (where saying so is deprecated).
EXACT: dict[str, Any] = {} if pd.__version__ >= "3.1" else {"float_precision": "round_trip"}

CELLS = (
    b"|0|-0|1e999|-1e-400|4.8e7|1.7976931348623157e308|123456789012345678901234567890|9223372036854775808|nan|-nan(ind)"
)
CELLS += (
    b'|1.#IND|inf|-Infinity|0x1F|1_000|1,5|+1| 1 |1e5|.5|5.|True|None|\xff|\xc3\xa4|\'1\'|"1"|"1\n"|-|e|1e|--1|1d5|\0'
)
NUMBERS = CELLS.split(b"|")
PIECES = [
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b'"',
    b'\n"',
    b'",',
    b", ,",
    b"\t",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b" " * 9,
]
SECONDS_EACH = 15.0  # of the processor: thrice what the slowest takes while it is traced on a quiet core


@dataclass
class Tally:
    """What a campaign did."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0


def campaign(seconds: float, seed: int, step: Callable[[random.Random, Tally, Path], None]) -> Tally:
    """Repeat `step`, each time with a generator seeded by (seed, number), until the time is over."""
    tally, end = Tally(), time.monotonic() + seconds
    while time.monotonic() < end and len(tally.findings) < 10:
        chance = random.Random(f"{seed}-{tally.inputs}")
        started = time.process_time()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            try:
                step(chance, tally, Path(folder))
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                tally.findings.append(f"input {tally.inputs}, {where}: {type(error).__name__}: {str(error)[:500]}")
        took = time.process_time() - started
        tally.slowest = max(tally.slowest, took)
        if took > SECONDS_EACH:
            tally.findings.append(f"input {tally.inputs} took {took:.1f} s")
        tally.inputs += 1
    return tally


# Damage


def damage(chance: random.Random, data: bytes) -> bytes:
    """Flip bits, cut, repeat or put pieces in, a few times."""
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        data = chance.choice([_flip, _cut, _repeat, _insert])(chance, data)
    return data


def _flip(chance: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + (b"" if chance.random() < 0.5 else data[start + chance.randrange(1, 20) :])


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    part = data[start : start + chance.randrange(1, 200)]
    return data[:start] + part * chance.randrange(2, 5) + data[start:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + chance.choice(PIECES) + data[start + chance.randrange(3) :]


def damage_csv(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage, or a change that keeps the form: cells, columns, encodings, joined files."""
    kind = chance.randrange(10)
    if kind < 4:
        return damage(chance, data)
    if kind < 7:
        return _change_cells(chance, data)
    if kind == 7:
        extra = range(chance.choice([1, 3, 3000]))
        return b"\n".join(
            line + b"".join(b", %s" % (b"c%d" % n if not number else b"%d" % n) for n in extra)
            for number, line in enumerate(data.split(b"\n"))
        )
    if kind == 8:
        text = data.decode("utf-8", "replace")
        return text.encode(chance.choice(["utf-16", "utf-16-le", "latin-1", "utf-8-sig", "cp1252"]), "replace")
    return data[: chance.randrange(len(data) + 1)] + chance.choice(others)


def _change_cells(chance: random.Random, data: bytes) -> bytes:
    cells = re.split(rb"([,;\n])", data)
    for _ in range(chance.randrange(1, 6)):
        cells[2 * chance.randrange(len(cells) // 2 + 1)] = chance.choice(NUMBERS)
    return b"".join(cells)


# CSVs


class Coverage:
    """Edges between lines of the readers that have been passed."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self._new = False

    def reaches_more(self, call: Callable[[], None]) -> bool:
        self._new, before = False, sys.gettrace()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(before)
        return self._new

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:  # noqa: ARG002
        name = frame.f_code.co_filename
        if "/preprocessing/openface" not in name:
            return None
        last = 0

        def line(frame: FrameType, event: str, argument: object) -> Any:  # noqa: ARG001
            nonlocal last
            edge = (name, last, frame.f_lineno)
            self._new |= edge not in self.seen
            self.seen.add(edge)
            last = frame.f_lineno
            return line

        return line


def real_pieces() -> list[bytes]:
    """Header and first rows of one real file of every flavour."""
    root = os.environ.get("GATED_VAE_DATA")
    if not root:
        return []
    files = [*Path(root).glob("openface/*/*.csv"), *sorted(Path(root).glob("celeba/processed/*.csv"))[:3]]
    return [b"".join(path.read_bytes().splitlines(keepends=True)[:4]) for path in files]


def csv_step() -> Callable[[random.Random, Tally, Path], None]:
    corpus, coverage = [GOOD, GOOD.replace(b", ", b","), *real_pieces()], Coverage()

    def step(chance: random.Random, tally: Tally, folder: Path) -> None:
        data = damage_csv(chance, chance.choice(corpus), corpus)
        (folder / "a.csv").write_bytes(data)
        (folder / "b.csv").write_bytes(GOOD)
        if coverage.reaches_more(lambda: check_csv(folder, data, tally)) and len(data) < 100_000:
            corpus.append(data)
        tally.outcomes["edges"], tally.outcomes["corpus"] = len(coverage.seen), len(corpus)

    return step


def check_csv(folder: Path, data: bytes, tally: Tally) -> None:
    frame = read_openface(folder)
    ours, neighbour = (frame[frame["source"] == name] for name in ("a.csv", "b.csv"))
    rejected = [entry["row"] for entry in frame.attrs["rejected"]]
    assert neighbour["row"].tolist() == [0, 1, 2, 3, 4], "the neighbour lost rows"
    if rejected == [None]:
        assert ours.empty, "a rejected file has rows"
        tally.outcomes["files rejected"] += 1
        return
    lines = [line for line in re.split(rb"\r\n|\r|\n", data) if line.strip()]
    accounted = sorted([*ours["row"].tolist(), *rejected])
    assert accounted == list(range(len(lines) - 1)), f"{len(lines) - 1} rows, accounted for {accounted}"
    tally.outcomes["rows taken"] += len(ours)
    tally.outcomes["rows rejected"] += len(rejected)
    tally.outcomes["values compared"] += compare_with_pandas(ours, lines)


def compare_with_pandas(ours: pd.DataFrame, lines: list[bytes]) -> int:
    """Hold every number taken against plain pandas reading the same lines; return how many were compared."""
    text = b"\n".join([lines[0].lstrip(), *(lines[1 + row] for row in ours["row"]), b""])
    text_lines = text.decode("utf-8-sig", "backslashreplace")
    head = text_lines.partition("\n")[0]
    try:
        theirs = pd.read_csv(
            io.StringIO(text_lines),
            sep=";" if head.count(";") > head.count(",") else ",",
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
            **EXACT,
        ).rename(columns=str.strip)
    except (ValueError, pd.errors.ParserError):
        return 0
    if len(theirs) != len(ours) or not theirs.columns.is_unique or ours.empty:
        return 0
    compared = 0
    for name in theirs.columns.intersection(list(ours)):
        if not gated_vae.preprocessing.openface.cells.is_numeric_name(name):
            continue
        values = pd.to_numeric(theirs[name], errors="coerce").to_numpy(float, na_value=np.nan)
        known = ~np.isnan(values)
        got = ours[name].to_numpy(float)
        same = np.array_equal(got[known], values[known])
        assert same, f"{name}: {got[known].tolist()[:5]}, pandas {values[known].tolist()[:5]}"
        compared += int(known.sum())
    return compared


# Folders

NAMES = [
    "a",
    "b",
    "new\nline",
    "com,ma",
    "üñí",
    "sp ace",
    "a.b",
    "semi;colon",
    "per%cent",
    "-dash",
    "d/e",
    "quo'te\"",
    "A",
]


def folder_step(chance: random.Random, tally: Tally, folder: Path) -> None:
    root, outside = folder / "of", folder / "outside"
    write_image_faces(root, "sound", [{}])
    write_picture(outside / "other.bmp", 1)
    for name in chance.sample(NAMES, chance.randrange(1, 6)):
        _add_image(chance, root, outside, name)
    if chance.random() < 0.3:
        (root / "loop").symlink_to(root)
    if chance.random() < 0.2:
        os.mkfifo(root / "pipe.csv")
    identities = folder / "identity.txt"
    identities.write_bytes(
        b"sound.jpg 1\na.jpg 2\na.png 3\n" if chance.random() < 0.7 else damage(chance, b"a.jpg 1\nb.jpg 2\n")
    )
    options = CelebaOptions(root, identities=identities if chance.random() < 0.5 else None, size=8)
    try:
        preprocess_celeba(options, folder / "store", workers=1)
    except GatedVAEError as error:
        tally.outcomes["refused"] += 1
        lines = str(error).splitlines()
    else:
        lines = check_account(folder / "store", root, tally)
    assert len(lines) <= 3, lines


def _add_image(chance: random.Random, root: Path, outside: Path, name: str) -> None:
    given = f"{name.rpartition('/')[2]}{chance.choice(['.jpg', '.png'])}"
    place = name.rpartition("/")
    folder = root / place[0] if place[0] else root
    stem = place[2]
    write_image_faces(folder, stem, [{"confidence": chance.choice([0.1, 0.98])}] * chance.randrange(0, 4), given=given)
    csv, face = folder / f"{stem}.csv", folder / f"{stem}_aligned" / "face_det_000000.bmp"
    details = folder / f"{stem}_of_details.txt"
    kind = chance.randrange(12)
    if kind < 3 and csv.exists():
        csv.write_bytes(damage_csv(chance, csv.read_bytes(), [GOOD]))
    elif kind == 3:
        csv.write_bytes(
            chance.choice([b"", b"\n", HEADER.encode(), b"\xff\xfe", csv.read_bytes() if csv.exists() else b"x"])
        )
    elif kind == 4:
        details.write_bytes(damage(chance, details.read_bytes()))
    elif kind == 5 and face.exists():
        face.write_bytes(damage(chance, face.read_bytes()))
    elif kind == 6 and face.exists():
        face.unlink()
        face.symlink_to(outside / "other.bmp")
    elif kind == 7 and face.exists():
        claims = face.read_bytes()[:18] + (60000).to_bytes(4, "little") * 2 + face.read_bytes()[26:]
        face.write_bytes(claims)
    elif kind == 8:
        details.unlink()
    elif kind == 9 and not csv.exists():
        csv.symlink_to(outside / "other.bmp")
    elif kind == 10 and face.exists():
        shutil.rmtree(face.parent)
        face.parent.symlink_to(outside)
    elif kind == 11 and not csv.exists():
        csv.mkdir()


def check_account(path: Path, root: Path, tally: Tally) -> list[str]:
    """Every line of every file in the folder, counted here, is a sample or a rejected item, exactly once."""
    store = open_store(path)
    rejected = pd.read_parquet(rejected_path(path))
    assert len(store.samples) + len(rejected) == store.manifest["seen"]
    entries: dict[str, list[int | None]] = {}
    for table in (store.samples, rejected):
        for source, row in zip(table["source"], table["row"], strict=True):
            entries.setdefault(source, []).append(None if pd.isna(row) else int(row))
    expected = dict(_expected(root))
    assert entries.keys() == expected.keys(), f"{sorted(entries)} are not {sorted(expected)}"
    for source, lines in expected.items():
        found = entries[source]
        assert found == [None] or sorted(found, key=str) == sorted(range(lines), key=str), (
            f"{source}: {found} of {lines}"
        )
    tally.outcomes["samples"] += len(store)
    tally.outcomes["rejected"] += len(rejected)
    tally.outcomes.update({f"  {reason}": count for reason, count in rejected["reason"].value_counts().items()})
    return []


def _expected(root: Path) -> Iterator[tuple[str, int]]:
    """Sources that must be accounted for, and the lines under each one's header."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.endswith("_aligned")]
        csvs = {name for name in [*files, *folders] if name.lower().endswith(".csv")}
        for name in files:
            path = Path(folder) / name
            if name.lower().endswith(".csv"):
                data = path.read_bytes() if path.is_file() else b""
                lines = [line for line in re.split(rb"\r\n|\r|\n", data) if line.strip()]
                yield str(path.relative_to(root)), len(lines) - 1
            elif name.endswith("_of_details.txt"):
                stem = name.removesuffix("_of_details.txt")
                if f"{stem}.csv" not in csvs or (Path(folder) / f"{stem}.csv").is_dir():
                    yield str(path.relative_to(root)), 0


# Stores, runs and archives


def artefact_step(made: Path) -> Callable[[random.Random, Tally, Path], None]:
    """Damage one file of a store or run, then run the commands that read it."""
    files = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file() and path.name[0] != "."]
    files = [path for path in files if not path.name.startswith("events.")]

    def step(chance: random.Random, tally: Tally, folder: Path) -> None:
        shutil.copytree(made, folder / "made")
        victim = chance.choice(files)
        path = folder / "made" / victim
        before = path.read_bytes()
        change = change_json if path.suffix == ".json" and chance.random() < 0.8 else damage
        path.write_bytes(change(chance, before))
        if path.read_bytes() == before:
            return
        store, run = folder / "made" / "store", folder / "made" / "run"
        target = store if victim.parts[0] == "store" else run
        found = pipe(tally, "verify", target)
        if victim.name in ("images.npy", "samples.parquet", "rejected.parquet"):
            assert found == 1, f"verify finds nothing wrong with {victim}"
        tally.outcomes["damage found by verify" if found else "damage without effect"] += 1
        pipe(tally, "inspect", target)
        if target is run or chance.random() < 0.3:
            pipe(tally, "encode", run, store, "--out", folder / "codes.parquet")
        else:
            words = ["--network", "fc", "--hidden", "8", "--batch-size", "16", "--steps", "2", "--precision", "fp32"]
            pipe(tally, "train", store, "--out", folder / "new", "--latent", "pose=1,expression=1", *words)

    return step


def pipe(tally: Tally, *words: object) -> int:
    """Run a command here; it must exit with 0 or 1 and say what is wrong in three lines."""
    from gated_vae.pipelines.cli import main

    said, code = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main([str(word) for word in words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    lines = said.getvalue().strip().splitlines()
    assert code in (0, 1), f"{words[0]} exits with {code}: {said.getvalue()}"
    assert not (code and (not 1 <= len(lines) <= 3 or "Unexpected" in lines[0])), f"{words[0]} says {said.getvalue()!r}"
    tally.outcomes[f"{words[0]} exits with {code}"] += 1
    return code


ODD = [None, -1, 0, 1e308, 2**70, "", "x" * 1000, [], {}, True, [[]], "../../etc", {"a": {}}, [1, 2], 0.5, "\ud800"]


def change_json(chance: random.Random, data: bytes) -> bytes:
    """Replace, remove or rename one entry."""
    value = json.loads(data)
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = chance.choice(keys)
        if not (isinstance(node[key], dict | list) and node[key]) or chance.random() < 0.2:
            break
        node = node[key]
    if chance.random() < 0.2:
        del node[key]
    elif isinstance(node, dict) and chance.random() < 0.2:
        node[chance.choice(["", "../out", "a/b", "x\ny"])] = node.pop(key)
    else:
        node[key] = chance.choice(ODD)
    return json.dumps(value, indent=2).encode()


def make_artefacts(folder: Path, faces: int = 12, options: Sequence[str] = ()) -> Path:
    """A small store with pairs and a run."""
    for number in range(faces):
        write_image_faces(folder / "of", f"{number:02d}", [{"pose_Rx": number % 3 * 0.3, "AU12_r": number % 2 * 4.0}])
    tally, store, run = Tally(), folder / "made" / "store", folder / "made" / "run"
    tiny = ["--network", "fc", "--hidden", "8", "--batch-size", "8", "--latent", "pose=2,expression=2", "--steps", "4"]
    assert pipe(tally, "preprocess", "celeba", "--openface", folder / "of", "--out", store, "--size", "16") == 0
    assert pipe(tally, "cluster", store, "--pose", "3", "--expression", "2", "--draws", "2") == 0
    assert pipe(tally, "train", store, "--out", run, *tiny, "--precision", "fp32", *options) == 0
    return folder / "made"


FACTORS = {"shape": 3, "scale": 2, "orientation": 2, "posX": 2, "posY": 2}


def sprite_arrays(factors: Mapping[str, int] = FACTORS) -> dict[str, Any]:
    """The arrays of an npz as that of dSprites, for a grid of other sizes."""
    classes = np.indices(tuple(factors.values())).reshape(5, -1).T
    ends = [(1, factors["shape"]), (0.5, 1), (0, 2 * np.pi), (0, 1), (0, 1)]
    values = [
        np.linspace(*end, size)[column] for end, size, column in zip(ends, factors.values(), classes.T, strict=True)
    ]
    return {
        "imgs": (classes[:, :1, None] % 2 + np.zeros((1, 64, 64))).astype(np.uint8),
        "latents_classes": _by_rows([np.zeros((len(classes), 1), np.int64), classes]),
        "latents_values": _by_rows([np.ones((len(classes), 1)), np.stack(values, axis=1)]),
    }


def npz_step(chance: random.Random, tally: Tally, folder: Path) -> None:
    arrays = sprite_arrays()
    if chance.random() < 0.2:  # an array of objects would have to be unpickled
        arrays[chance.choice(list(arrays))] = np.array([Hostile()] * 48, object)
    np.savez_compressed(folder / "d.npz", **arrays)
    if chance.random() < 0.9:
        (folder / "d.npz").write_bytes(damage(chance, (folder / "d.npz").read_bytes()))
    try:
        count = sum(len(block) for block in read_official(folder / "d.npz", FACTORS))
        assert count == 48
        tally.outcomes["read"] += 1
    except GatedVAEError:
        tally.outcomes["refused"] += 1


def _by_rows(parts: list[Any]) -> Any:
    return np.ascontiguousarray(np.hstack(parts))


class Hostile:
    """Unpickling it ends the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (66,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, findings = 0, 0
    with tempfile.TemporaryDirectory(prefix="fuzz-made-") as folder:
        steps = {
            "CSVs": csv_step(),
            "folders": folder_step,
            "stores and runs": artefact_step(make_artefacts(Path(folder))),
            "npz": npz_step,
        }
        shares = {"CSVs": 0.4, "folders": 0.25, "stores and runs": 0.25, "npz": 0.1}
        for name, step in steps.items():
            tally = campaign(options.seconds * shares[name], options.seed, step)
            total, findings = total + tally.inputs, findings + len(tally.findings)
            print(
                f"{name}: {tally.inputs:,} inputs, the slowest {tally.slowest:.2f} s of CPU, {len(tally.findings)} findings"
            )
            print("".join(f"    {count:>9,} {what}\n" for what, count in sorted(tally.outcomes.items())), end="")
            print("".join(f"    FINDING (--seed {options.seed}) {finding}\n" for finding in tally.findings), end="")
    print(f"{total:,} inputs, {findings} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
