"""Reading OpenFace's CSVs beside opening them: `taskset -c 0 python -m benchmarks.openface_csv [FOLDER] [--repeats 5]`.

FOLDER holds what FaceLandmarkImg wrote, one CSV per image (default: celeba/processed of GATED_VAE_DATA; without it,
files of the same form are made up). The floor is open, read and close of the same files, whose names are known; ours is
`read_openface` on the folder, finding the files included, for the columns that preprocessing needs. Peers read file by
file (pandas) or scan lazily (polars, pyarrow dataset), the first --peer-files only; times are per file, runs alternate.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.dataset

from benchmarks.timing import Record, ratio, seconds, show
from gated_vae.preprocessing import read_openface

INTENSITIES = [f"AU{unit:02d}_r" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)]
COLUMNS = ["face", "confidence", "pose_Rx", "pose_Ry", "pose_Rz", *INTENSITIES]
STAGE = "OpenFace CSVs, one an image"
SPEEDS = {"pandas, per file": 50.0, "polars, per file": 10.0, "pyarrow dataset": None}  # least times the peer's speed

Files = list[Path]


def bare(files: Files) -> None:
    for path in map(os.fspath, files):
        handle = os.open(path, os.O_RDONLY)
        os.read(handle, 1 << 16)
        os.close(handle)


def with_pandas(files: Files) -> pd.DataFrame:
    def wanted(name: str) -> bool:
        return name.strip() in COLUMNS

    return pd.concat([pd.read_csv(file, usecols=wanted, skipinitialspace=True) for file in files])


def with_polars(files: Files) -> Any:
    import polars as pl  # type: ignore[import-not-found, unused-ignore]

    frame = pl.scan_csv(files)
    names = {name.strip(): name for name in frame.collect_schema().names()}
    return frame.select(names[name] for name in COLUMNS).collect()


def with_dataset(files: Files) -> Any:
    names = files[0].read_text().partition("\n")[0].split(",")
    spelled = [name for name in names if name.strip() in COLUMNS]
    return pyarrow.dataset.dataset([*map(os.fspath, files)], format="csv").to_table(columns=spelled)


def make_up(folder: Path, count: int) -> None:
    """Files of FaceLandmarkImg's form: 711 columns, `, `, one row; 690 of them landmarks."""
    rng = np.random.default_rng(0)
    header = ", ".join([*COLUMNS[:2], *(f"eye_lmk_x_{i}" for i in range(689)), *COLUMNS[2:]])
    for number in range(count):
        cells = ["0", "0.983", *(f"{value:.1f}" for value in rng.uniform(-200, 600, 689))]
        cells += [f"{value:.3f}" for value in rng.normal(0, 0.2, 3)] + [
            f"{value:.2f}" for value in rng.uniform(0, 5, 17)
        ]
        (folder / f"{number:06d}.csv").write_text(header + "\n" + ", ".join(cells) + "\n")


def compare(folder: Path, repeats: int, peer_files: int) -> list[Record]:
    files = sorted(folder.rglob("*.csv"))
    some = files[:peer_files]
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: read_openface(folder, COLUMNS), len(files)),
        "open, read, close": (lambda: bare(files), len(files)),
        "pandas, per file": (lambda: with_pandas(some), len(some)),
        "pyarrow dataset": (lambda: with_dataset(some), len(some)),
    }
    if find_spec("polars"):
        runs["polars, per file"] = (lambda: with_polars(some), len(some))
    for work, _ in runs.values():  # warm up
        work()
    times = {name: np.empty(repeats) for name in runs}
    for turn in range(repeats):
        for name, (work, count) in runs.items():
            times[name][turn] = seconds(work) / count
    ours, floor = times.pop("ours"), times.pop("open, read, close")
    return [
        ratio(STAGE, "open, read, close", ours, floor, 4.0),
        *(ratio(STAGE, peer, ours, theirs, SPEEDS[peer], at_most=False) for peer, theirs in times.items()),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = os.environ.get("GATED_VAE_DATA")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(real, "celeba", "processed") if real else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-files", type=int, default=500)
    parser.add_argument("--files", type=int, default=5000, help="how many to make up when there is no folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made_up:
        if arguments.folder is None:
            make_up(Path(made_up), arguments.files)
        return show(compare(arguments.folder or Path(made_up), arguments.repeats, arguments.peer_files))


if __name__ == "__main__":
    sys.exit(main())
