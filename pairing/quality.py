"""How good pairs are: alike in what they should share, and in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pairing.draws import Ints

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


def column_quality(name: str, values: Values, target: Ints, uniform: Ints, *, shared: bool) -> ColumnQuality:
    """Compare inputs with their targets in one column.

    Parameters
    ----------
    values:
        The column (N,): radians where `name` is a pose's, else taken as they are.
    target, uniform:
        Each sample's partner as drawn, and as drawn uniformly from its group (N,).
    """
    unit = "degrees" if name.startswith("pose_R") else "intensity"
    values = np.degrees(values) if unit == "degrees" else values
    return ColumnQuality(
        shared=shared,
        unit=unit,
        apart=float(np.abs(values - values[target]).mean()),
        apart_random=mean_difference(values),
        correlation=correlation(values, target),
        correlation_uniform=correlation(values, uniform),
    )


def mean_difference(values: Values) -> float:
    """Mean absolute difference between two different samples (Gini's mean difference), over all pairs of them."""
    count = len(values)
    ranks = 2.0 * np.arange(count) - (count - 1)
    return float(2 * (np.sort(values) * ranks).sum() / (count * (count - 1)))


def correlation(values: Values, target: Ints) -> float | None:
    """Pearson's correlation between inputs and targets; None where either is constant."""
    both = np.stack([values, values[target]]).astype(np.float64)
    both -= both.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(both).sum(axis=1))
    if not (spread > 1e-12 * np.abs(values).max()).all():
        return None
    return float(both[0] @ both[1] / spread.prod())


def same_share(labels: npt.NDArray[Any], target: Ints) -> float:
    """Share of pairs whose two samples carry the same label."""
    return float((labels == labels[target]).mean())


def size_histogram(sizes: Ints) -> dict[str, int]:
    """Count groups by size: none, 1, 2-3, 4-7, 8-15 ..., up to the largest there is."""
    bins = np.bincount(np.frexp(sizes)[1])  # 0 for 0, else 1 + floor(log2(size))
    names = ["0", "1", *(f"{2**power}-{2 ** (power + 1) - 1}" for power in range(1, len(bins)))]
    return {name: int(count) for name, count in zip(names, bins, strict=False)}
