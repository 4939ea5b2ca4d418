"""Mutual information of binned codes and factors, which MIG and modularity are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, is_discrete

Bins = npt.NDArray[np.int64]


def bin_codes(codes: Array, bins: int) -> Bins:
    """Cut each column of (n, M) into `bins` equal widths between its least and greatest value; a dead one has one bin."""
    if bins < 2:
        raise ValueError(f"bins must be at least 2, not {bins}")
    low, high = codes.min(axis=0), codes.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.asarray(np.minimum((codes - low) / width * bins, bins - 1), np.int64)


def bin_factors(factors: Array, bins: int) -> Bins:
    """Number each column's classes; a column that does not hold classes is cut into `bins` equal widths."""
    columns = [
        np.unique(column, return_inverse=True)[1] if is_discrete(column) else bin_codes(column[:, None], bins)[:, 0]
        for column in factors.T
    ]
    return np.column_stack(columns).astype(np.int64)


def mutual_information(left: Bins, right: Bins) -> Array:
    """Mutual information in nats of every column of (n, M) with every column of (n, K), from their joint counts: (M, K)."""
    information = [[_column_information(a, b) for b in right.T] for a in left.T]
    return np.array(information, dtype=np.float64)


def entropy(values: Bins) -> Array:
    """Entropy in nats of every column of (n, K): (K,)."""
    return np.array([_entropy_of_counts(np.bincount(column)) for column in values.T])


def _column_information(a: Bins, b: Bins) -> float:
    joint = np.bincount(a * (b.max() + 1) + b)
    information = _entropy_of_counts(np.bincount(a)) + _entropy_of_counts(np.bincount(b)) - _entropy_of_counts(joint)
    return max(information, 0.0)


def _entropy_of_counts(counts: npt.NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
