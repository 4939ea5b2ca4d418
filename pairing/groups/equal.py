"""Groups of samples whose labels are equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from gated_vae.pairing.labels import Label
from gated_vae.pairing.rules.base import Ids
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store


def group_by_labels(labels: pd.DataFrame, training: int | None = None) -> tuple[npt.NDArray[np.int32], int]:
    """Group rows that agree in every column; rows that agree with no other join the nearest group in sorted order.

    Parameters
    ----------
    training:
        How many of the rows, the first ones, are to be paired; all when None. The others take the groups of these, or form
        groups of their own behind them; -1 where a value is missing.

    Returns
    -------
    Group of each row, int32 (N,), numbered in the sorted order of the labels, and how many rows joined another group.

    Raises
    ------
    GatedVAEError
        When a value is missing, or most rows agree with no other.
    """
    paired, what = labels.iloc[:training], f"Pairs cannot share {', '.join(labels.columns)}."
    if missing := int(paired.isna().any(axis=1).sum()):
        why = f"{missing} of {len(paired)} samples have no value."
        raise GatedVAEError(what, why, "Preprocess again with a source that labels them all.")
    code = paired.groupby(list(labels.columns), sort=True).ngroup().to_numpy()
    sizes = np.bincount(code)
    alone = int((sizes == 1).sum())
    if 2 * alone > len(code):
        why = f"{alone} of {len(code)} samples agree with no other."
        raise GatedVAEError(what, why, "Share fewer columns, or group by likeness: `pipe cluster`.")
    group = _nearest_shared(sizes)[code].astype(np.int32)
    return (_extend(group, labels) if len(group) < len(labels) else group), alone


def _extend(group: npt.NDArray[np.int32], labels: pd.DataFrame) -> npt.NDArray[np.int32]:
    """Groups of the first rows (T,) and, after them, of all others (N,)."""
    code = labels.groupby(list(labels.columns), sort=False).ngroup().fillna(-1).to_numpy(np.int64)
    known = np.full(code.max() + 1, -1, np.int64)
    known[code[: len(group)]] = group
    new = np.flatnonzero(known < 0)
    known[new] = group.max() + 1 + np.arange(len(new))
    return np.concatenate([group, np.where(code < 0, -1, known[code])[len(group) :]]).astype(np.int32)


def _nearest_shared(sizes: npt.NDArray[np.int64]) -> Ids:
    """Renumber groups so that each of one member takes the number of the nearest that has more (the earlier of two)."""
    shared = np.flatnonzero(sizes > 1)
    after = np.searchsorted(shared, np.arange(len(sizes))).clip(max=len(shared) - 1)
    before = (after - 1).clip(min=0)
    distance = np.abs(shared[[before, after]] - np.arange(len(sizes)))
    return np.where(distance[0] <= distance[1], before, after)


def number_classes(store: Store, label: Label) -> Ids | None:
    """Number what a label says of every sample (N,), each unknown one apart; None where nothing is known."""
    columns = label.find(store.schema.names)
    if not columns:
        return None
    classes = store.sample_columns(columns).groupby(columns, sort=False).ngroup()
    code: Ids = classes.fillna(-1).to_numpy(np.int64, copy=True)
    unknown = code < 0
    code[unknown] = code.max() + 1 + np.arange(np.count_nonzero(unknown))
    return None if unknown.all() else code
