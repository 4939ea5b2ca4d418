"""What the benchmarks share: alternating runs, ratios with their spread, one line of JSON for each bar."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


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


def ratio(stage: str, peer: str, ours: Seconds, theirs: Seconds, bar: float, *, at_most: bool = True) -> dict[str, Any]:
    """Ours over theirs (`at_most`) or theirs over ours, turn by turn: median, least, greatest, and whether the bar is met."""
    values = ours / theirs if at_most else theirs / ours
    median = float(np.median(values))
    spread = {"ratio": round(median, 3), "low": round(float(values.min()), 3), "high": round(float(values.max()), 3)}
    met = median <= bar if at_most else median >= bar
    return {"stage": stage, "peer": peer, **spread, "bar": f"{'<=' if at_most else '>='} {bar:g}", "met": bool(met)}


def show(records: list[dict[str, Any]]) -> int:
    """Print one JSON line a record; the exit code is 0 when every bar is met."""
    for record in records:
        print(json.dumps(record))
    return 0 if all(record["met"] for record in records) else 1
