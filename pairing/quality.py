"""How good pairs are: alike in what they should share, and in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ColumnQuality:
    """What pairs have in common in one column.

    Attributes
    ----------
    shared:
        Whether the groups were made from this column.
    unit:
        ``degrees`` or ``intensity`` (OpenFace's action units, 0 .. 5).
    apart, apart_random:
        Mean absolute difference between an input and its target, and between two samples at random, in `unit`.
    correlation:
        Pearson's, between inputs and targets: near 1 where the column is shared, 0 where pairs should not tell of it.
    correlation_uniform:
        The same for partners drawn uniformly from the group. None for each where a column is constant.
    """

    shared: bool
    unit: str
    apart: float
    apart_random: float
    correlation: float | None
    correlation_uniform: float | None


def column_quality(name: str, own: Values, target: Values, uniform: Values, *, shared: bool) -> ColumnQuality:
    """Compare inputs with their targets in one column.

    Parameters
    ----------
    own, target, uniform:
        Values of the inputs, of their targets as drawn, and of targets drawn uniformly from the group, (n,) each:
        radians where `name` is a pose's, else taken as they are.
    """
    unit, factor = ("degrees", 180 / np.pi) if name.startswith("pose_R") else ("intensity", 1.0)
    return ColumnQuality(
        shared=shared,
        unit=unit,
        apart=float(factor * np.abs(own - target).mean(dtype=np.float64)),
        apart_random=factor * mean_difference(own),
        correlation=correlation(own, target),
        correlation_uniform=correlation(own, uniform),
    )


def mean_difference(values: Values) -> float:
    """Mean absolute difference between two different samples (Gini's mean difference), over all pairs of them."""
    count = len(values)
    ranks = 2.0 * np.arange(count) - (count - 1)
    return float(2 * (np.sort(values) * ranks).sum() / (count * (count - 1)))


def correlation(a: Values, b: Values) -> float | None:
    """Pearson's correlation; None where either is constant."""
    both = np.stack([a, b]).astype(np.float64)
    smallest = 1e-12 * np.abs(both).max()
    both -= both.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(both).sum(axis=1))
    return float(both[0] @ both[1] / spread.prod()) if (spread > smallest).all() else None


def size_histogram(sizes: npt.NDArray[np.integer[Any]]) -> dict[str, int]:
    """Count groups by size: none, 1, 2-3, 4-7, 8-15 ..., up to the largest there is."""
    bins = np.bincount(np.frexp(sizes)[1])  # 0 for 0, else 1 + floor(log2(size))
    names = ["0", "1", *(f"{2**power}-{2 ** (power + 1) - 1}" for power in range(1, len(bins)))]
    return {name: int(count) for name, count in zip(names, bins, strict=False)}
