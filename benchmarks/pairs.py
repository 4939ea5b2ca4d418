"""Drawing partners and writing pair tables: `python -m benchmarks.pairs [--repeats 5]`.

CelebA's size: 202,599 samples in 2,500 and 4,000 groups of uneven sizes. Drawing is set against one random gather of as
many ids, and against pandas' shuffle within groups; tables against four raw int32 columns and against `DataFrame.to_parquet`.
All runs alternate, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.timing import alternate
from pairing.draws import Members
from pairing.tables import DRAWS, PairTable, write_pairs
from preprocessing.store import pairs_path

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


def report(stage: str, groups: int, ours: np.ndarray[Any, Any], rows: int, **facts: Any) -> None:
    rate = rows / ours / 1e6
    spread = {"median": np.median(rate), "low": rate.min(), "high": rate.max()}
    millions = {f"M/s {key}": round(float(value), 1) for key, value in spread.items()}
    print(json.dumps({"stage": stage, "groups": groups, **millions, **facts}))


def ratios(times: dict[str, np.ndarray[Any, Any]], name: str) -> dict[str, float]:
    ours = times[name]
    return {f"time / {peer}": round(float(np.median(ours / t)), 3) for peer, t in times.items() if peer != name}


def draws(groups: int, repeats: int) -> bool:
    group, ids = uneven_groups(groups), np.arange(SAMPLES)
    members, scattered = Members.of(group), np.random.default_rng(0).permutation(SAMPLES)
    frame = pd.DataFrame({"group": group})
    runs: dict[str, Callable[[], object]] = {
        "partners": lambda: members.partners(ids, seed=0, draw=0),
        "sort": lambda: Members.of(group),
        "gather": lambda: members.ids[scattered],
        "pandas": lambda: frame.groupby("group").sample(frac=1, random_state=0),
    }
    times = alternate(runs, repeats)
    both = {"partners and sort": times["partners"] + times["sort"], "pandas": times["pandas"]}
    facts = ratios({name: times[name] for name in ("partners", "gather", "pandas")}, "partners")
    met = SAMPLES / np.median(times["partners"]) >= PARTNERS_PER_SECOND
    report("partners", groups, times["partners"], SAMPLES, **facts, met=bool(met))
    report("partners and sort", groups, both["partners and sort"], SAMPLES, **ratios(both, "partners and sort"))
    return bool(met)


def tables(groups: int, count: int, repeats: int, folder: Path) -> bool:
    group = uneven_groups(groups)
    members = Members.of(group)
    rows, path = SAMPLES * count, pairs_path(folder, "ours")

    def ours() -> None:
        write_pairs(folder, "ours", group, lambda ids, draw: members.partners(ids, seed=0, draw=draw), count)

    ours()
    frame = pd.read_parquet(path, partitioning=None)

    def raw() -> None:
        with (folder / "raw").open("wb") as file:
            for name in frame:
                frame[name].to_numpy().tofile(file)
            os.fsync(file.fileno())

    runs = {"table": ours, "raw": raw, "pandas": lambda: frame.to_parquet(folder / "pandas")}
    times = alternate(runs, repeats)
    table = PairTable(path)
    read = alternate({"read": lambda: [table.block(index, 0) for index in range(table.blocks)]}, repeats)["read"]
    sizes = {"B/row": path.stat().st_size / rows, "pandas B/row": (folder / "pandas").stat().st_size / rows}
    facts = {**ratios(times, "table"), **{key: round(size, 2) for key, size in sizes.items()}}
    met = sizes["B/row"] <= BYTES_PER_ROW and rows / np.median(times["table"]) >= ROWS_PER_SECOND
    report(f"table of {count} draws", groups, times["table"], rows, **facts, met=bool(met))
    report(f"reading a draw of {count}", groups, read, SAMPLES)
    return bool(met) or count != DRAWS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for groups in (2500, 4000):
            met &= draws(groups, repeats)
            for count in (1, DRAWS):
                met &= tables(groups, count, repeats, Path(folder))
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
