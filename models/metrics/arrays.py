"""What every metric does first: check the two arrays, split the rows, scale the columns, derive seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class Split:
    """Which rows a predictor is fitted on, and on which it is judged: integer row numbers, disjoint, any order."""

    train: Rows
    test: Rows


def random_split(n: int, *, test_fraction: float = 0.25, seed: int = 0) -> Split:
    """Hold out a random share of n rows.

    Raises
    ------
    ValueError
        When either side would have fewer than two rows.
    """
    order = np.random.default_rng(seed).permutation(n)
    held_out = round(n * test_fraction)
    if min(held_out, n - held_out) < 2:
        raise ValueError(f"{n} rows with test_fraction {test_fraction} leave fewer than two rows on one side")
    return Split(np.sort(order[held_out:]), np.sort(order[:held_out]))


def group_split(groups: npt.ArrayLike, *, test_fraction: float = 0.25, seed: int = 0) -> Split:
    """Hold out a random share of the groups, whole: no group (say, no person) is on both sides.

    Parameters
    ----------
    groups:
        One label per row (n,), of any sortable dtype.

    Raises
    ------
    ValueError
        When either side would have no group or fewer than two rows.
    """
    labels, member = np.unique(np.asarray(groups), return_inverse=True)
    held_out = np.random.default_rng(seed).permutation(len(labels))[: round(len(labels) * test_fraction)]
    in_test = np.isin(member, held_out)
    split = Split(np.flatnonzero(~in_test), np.flatnonzero(in_test))
    if min(len(split.train), len(split.test)) < 2:
        raise ValueError(f"{len(labels)} groups with test_fraction {test_fraction} leave one side nearly empty")
    return split


def check_arrays(codes: npt.ArrayLike, factors: npt.ArrayLike) -> tuple[Array, Array]:
    """Give codes (n, M) and factors (n, K) as float64; ValueError when shapes or values make no sense."""
    checked = _check_table("codes", codes), _check_table("factors", factors)
    if len(checked[0]) != len(checked[1]):
        raise ValueError(f"codes have {len(checked[0])} rows, factors have {len(checked[1])}")
    return checked


def check_split(split: Split | None, n: int, seed: int) -> Split:
    """Give the split asked for, or a random quarter held out; ValueError when it does not fit n rows."""
    if split is None:
        return random_split(n, seed=seed)
    train, test = np.asarray(split.train), np.asarray(split.test)
    for name, rows in (("train", train), ("test", test)):
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) < 2:
            raise ValueError(f"split.{name} must hold at least two integer row numbers")
        if rows.min() < 0 or rows.max() >= n:
            raise ValueError(f"split.{name} names rows outside 0 .. {n - 1}")
    if len(np.intersect1d(train, test)):
        raise ValueError("split.train and split.test share rows")
    return Split(train.astype(np.int64), test.astype(np.int64))


def varies(values: Array) -> npt.NDArray[np.bool_]:
    """Tell which columns of (n, d) hold more than one value."""
    return np.asarray((values != values[0]).any(axis=0))


def can_judge(train: Array, test: Array) -> npt.NDArray[np.bool_]:
    """Tell which columns vary in both, the second's std being at least a tenth of the first's.

    Errors relative to the spread of held-out rows that are nearly all the same say nothing, and may be of any size.
    """
    spread = test.std(axis=0) >= LEAST_SPREAD * train.std(axis=0)
    return np.asarray(varies(train) & varies(test) & spread)


def standardise(fitted: Array, other: Array) -> tuple[Array, Array]:
    """Shift and scale the columns of both so that those of the first have mean 0 and std 1 (ddof 0), or are all 0."""
    mean = fitted.mean(axis=0)
    centred = fitted - mean
    std = np.sqrt(np.einsum("nd,nd->d", centred, centred) / len(fitted))
    factor = np.divide(1.0, std, out=np.zeros_like(std), where=varies(fitted) & (std > 0))
    return centred * factor, (other - mean) * factor


def is_discrete(column: Array) -> bool:
    """Tell whether a factor holds class numbers: whole numbers only, at most 100 different ones."""
    return bool((column == np.round(column)).all()) and len(np.unique(column)) <= 100


def derived_seed(*parts: int) -> int:
    """Mix (seed, factor, ...) into one 32-bit seed, so that every predictor has its own."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _check_table(name: str, values: npt.ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} must be a non-empty array of two dimensions (rows, columns), not {table.shape}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"{name} must be finite, but row {row}, column {column} is {table[row, column]}")
    return table
