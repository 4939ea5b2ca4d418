"""Drawing partners and writing pair tables: `python -m benchmarks.pairs [--repeats 5]`.

CelebA's size: 202,599 samples in 2,500 and 4,000 groups of uneven sizes. Drawing is set against pandas' shuffle
within groups; tables against four raw int32 columns and against `DataFrame.to_parquet`.
All runs alternate, on one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.timing import Record, alternate, figure, ratio, show
from gated_vae.pairing.rules.base import Members
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import DRAWS, write_pairs
from gated_vae.preprocessing.store import pairs_path

SAMPLES = 202_599
PARTNERS_PER_SECOND, ROWS_PER_SECOND, BYTES_PER_ROW = 50e6, 30e6, 3.0

Group = np.ndarray[Any, np.dtype[np.int32]]


def uneven_groups(groups: int) -> Group:
    """Groups as K-Means leaves them: sizes spread widely, none of a single member."""
    rng = np.random.default_rng(0)
    share = rng.gamma(2.0, size=groups)
    group = rng.choice(groups, SAMPLES, p=share / share.sum()).astype(np.int32)
    sizes = np.bincount(group, minlength=groups)
    group[sizes[group] < 2] = sizes.argmax()
    return group


def draws(groups: int, repeats: int) -> Iterator[Record]:
    group, ids = uneven_groups(groups), np.arange(SAMPLES)
    rule = UniformPartners(Members.of(group))
    frame = pd.DataFrame({"group": group})
    runs: dict[str, Callable[[], object]] = {
        "partners": lambda: rule.partners(ids, seed=0, draw=0),
        "sort": lambda: Members.of(group),
        "pandas": lambda: frame.groupby("group").sample(frac=1, random_state=0),
    }
    times = alternate(runs, repeats)
    stage = f"partners, {SAMPLES:,} samples, {groups:,} groups"
    yield figure(stage, "", SAMPLES / times["partners"] / 1e6, "M/s", PARTNERS_PER_SECOND / 1e6, at_most=False)
    yield ratio(stage, "pandas, sorting included", times["partners"] + times["sort"], times["pandas"], at_most=False)


def tables(groups: int, count: int, repeats: int, folder: Path) -> Iterator[Record]:
    group = uneven_groups(groups)
    rule = UniformPartners(Members.of(group))
    rows, path = SAMPLES * count, pairs_path(folder, "ours")

    def ours() -> None:
        write_pairs(pairs_path(folder, "ours"), group, lambda ids, draw: rule.partners(ids, seed=0, draw=draw), count)

    ours()
    frame = pd.read_parquet(path, partitioning=None)

    def raw() -> None:
        with (folder / "raw").open("wb") as file:
            for name in frame:
                frame[name].to_numpy().tofile(file)
            os.fsync(file.fileno())

    times = alternate({"ours": ours, "raw": raw, "pandas": lambda: frame.to_parquet(folder / "pandas")}, repeats)
    stage = f"pair table of {count} draw{'s' * (count > 1)}, {groups:,} groups"
    yield figure(f"{stage}, size", "", path.stat().st_size / rows, "bytes a row", BYTES_PER_ROW)
    yield figure(stage, "", rows / times["ours"] / 1e6, "M rows/s", ROWS_PER_SECOND / 1e6, at_most=False)
    yield ratio(stage, "raw columns, synced", times["ours"], times["raw"])
    yield ratio(stage, "DataFrame.to_parquet", times["ours"], times["pandas"], at_most=False)


def compare(folder: Path, repeats: int) -> Iterator[Record]:
    for groups in (2500, 4000):
        yield from draws(groups, repeats)
        for count in (1, DRAWS):
            yield from tables(groups, count, repeats, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        return show(compare(Path(folder), repeats))


if __name__ == "__main__":
    sys.exit(main())
