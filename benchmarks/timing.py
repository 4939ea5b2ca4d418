"""What the benchmarks share: alternating runs, figures with their spread, one line of JSON for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Record = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, Seconds]:
    """Time every run `repeats` times in turn, A B C A B C, after one turn that is not counted."""
    for work in runs.values():
        work()
    turns = [[seconds(work) for work in runs.values()] for _ in range(repeats)]
    return dict(zip(runs, np.array(turns).T, strict=True))


def ratio(
    stage: str, peer: str, ours: Seconds, theirs: Seconds, bar: float | None = None, *, at_most: bool = True
) -> Record:
    """Our time over theirs (`at_most`) or our speed over theirs, turn by turn."""
    values, unit = (ours / theirs, "x the time") if at_most else (theirs / ours, "x the speed")
    return figure(stage, peer, values, unit, bar, at_most=at_most)


def figure(
    stage: str, peer: str, values: npt.ArrayLike, unit: str, bar: float | None = None, *, at_most: bool = True
) -> Record:
    """One record: median, least and greatest of `values`, and whether the median meets the bar (null without one)."""
    median, low, high = (float(f"{f(np.asarray(values)):.4g}") for f in (np.median, np.min, np.max))
    record = {"stage": stage, "peer": peer, "ratio": median, "low": low, "high": high, "unit": unit}
    if bar is None:
        return {**record, "bar": "", "met": None}
    return {**record, "bar": f"{'<=' if at_most else '>='} {bar:g}", "met": median <= bar if at_most else median >= bar}


def show(records: Iterable[Record]) -> int:
    """Print one JSON line a record, as it comes; the exit code is 0 when every bar is met."""
    missed = False
    for record in records:
        print(json.dumps(record), flush=True)
        missed |= record["met"] is False
    return int(missed)
