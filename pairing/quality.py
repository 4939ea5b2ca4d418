"""How good pairs are: alike in what they should share, and in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.groups.columns import unrolled
from gated_vae.pairing.groups.equal import number_classes
from gated_vae.pairing.labels import Label, coordinates, owner, registered
from gated_vae.pairing.rules.base import Partners
from gated_vae.preprocessing.store import REBUILD, Store, check_numbers, samples_path

MEASURED_PAIRS = 1 << 18

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ColumnQuality:
    """What pairs have in common in one column.

    Attributes
    ----------
    shared:
        Whether the groups were made from this column.
    unit:
        As the column's label says (see `gated_vae.pairing.labels`).
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


def measure_pairs(
    store: Store, labels: Iterable[Label], shared: Sequence[str], partners: Partners, uniform: Partners
) -> dict[str, Any]:
    """Measure pairs of draw 0, at most `MEASURED_PAIRS` evenly spread; one column in memory at a time.

    Parameters
    ----------
    labels:
        Whose columns are compared.
    shared:
        The columns that groups were made from.
    partners, uniform:
        The partners as drawn, and as the same groups give them uniformly.

    Returns
    -------
    ``same``: label -> share of pairs that are equal in it, of those registered of which something is known; and ``quality``:
    coordinate -> what `column_quality` finds, as plain values.
    """
    labels = [*labels]
    ids = np.arange(0, store.training, -(-store.training // MEASURED_PAIRS))
    target = partners(ids, 0)
    rows = np.concatenate([ids, target, uniform(ids, 0)])
    quality = {}
    for column in store.schema.names:
        label = owner(column, labels)
        if label is not None:
            table = store.sample_columns([column])
            check_numbers(table, samples_path(store.path), REBUILD)
            values = table[column].to_numpy()[rows]
            if values.dtype.kind != "f":  # differences of bytes wrap around, those of truth values do not exist
                values = values.astype(np.float64)
            turn = label.turns.get(column)
            for name, coordinate in zip(coordinates([column], label.turns), unrolled(values, turn).T, strict=True):
                found = column_quality(label, *np.split(coordinate, 3), shared=column in shared)
                quality[name] = asdict(found)
    classes = {label.name: number_classes(store, label) for label in registered("equal")}
    same = {name: float((found[ids] == found[target]).mean()) for name, found in classes.items() if found is not None}
    return {"same": same, "quality": quality}


def column_quality(label: Label, own: Values, target: Values, uniform: Values, *, shared: bool) -> ColumnQuality:
    """Compare inputs with their targets in one column of a label.

    Parameters
    ----------
    own, target, uniform:
        Values of the inputs, of their targets as drawn, and of targets drawn uniformly from the group, (n,) each.
    """
    return ColumnQuality(
        shared=shared,
        unit=label.unit,
        apart=float(label.per_unit * np.abs(own - target).mean(dtype=np.float64)),
        apart_random=label.per_unit * mean_difference(own),
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
