"""Pairs of neighbours in a sequence, such as frames of one video that are a few frames apart: alike because time is short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.groups.equal import group_by_labels
from gated_vae.pairing.partition import Grouped, Record
from gated_vae.pairing.rules.base import Ids, drawing, random_below
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.store import Store

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NeighbourPartners:
    """Samples in the order of their sequences, and how far each one's neighbours reach in it.

    Attributes
    ----------
    order:
        Sample ids by (group, place in it, id), (N,).
    place:
        Where each sample stands in `order`, (N,).
    first, last:
        Where its neighbours begin in `order`, and the place after their end, itself among them, (N,); there are two or more.
    further:
        How many have none so near, and are given the nearest.
    """

    order: Ids
    place: Ids
    first: Ids
    last: Ids
    further: int

    @classmethod
    def of(cls, group: npt.NDArray[np.int32], at: Values, apart: float) -> NeighbourPartners:
        """Find every sample's neighbours: those of its group at most `apart` from it; where there are none, the nearest.

        Parameters
        ----------
        group:
            Group of each sample (N,), two samples at the least in each.
        at:
            Where in its sequence each sample is, (N,).
        """
        order = np.lexsort((at, group))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        # Groups one behind the other on one axis, further apart than any two of one group: one search finds all ends.
        own, where = group[order].astype(np.int64), at[order] - at.min()
        axis = own * (2 * where.max() + apart + 1) + where
        first, last = np.searchsorted(axis, axis - apart, "left"), np.searchsorted(axis, axis + apart, "right")
        lonely = last - first == 1
        before, after = np.diff(axis, prepend=-np.inf), np.diff(axis, append=np.inf)
        first -= lonely & (before <= after)
        last += lonely & (after <= before)
        return cls(order, place, first[place], last[place], int(lonely.sum()))

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) one of its neighbours, uniformly; element by element, in any order."""
        first, own = self.first[ids], self.place[ids]
        other = first + random_below(self.last[ids] - first - 1, ids, seed=seed, draw=draw)
        other += other >= own
        found: Ids = self.order[other]
        return found


@dataclass(frozen=True)
class Follow:
    """What pairs of neighbours are.

    Attributes
    ----------
    sequence:
        The columns that say which sequence a sample is of.
    order:
        The column of numbers that says where in it: a frame number, a time.
    apart:
        How far at most two samples of a pair are apart, in that column's unit.
    """

    method: ClassVar[str] = "follow"
    sequence: tuple[str, ...]
    order: str
    apart: float = 1.0

    def decides(self, store: Store) -> Record:
        """What decides the pairs, for the partition's record."""
        for column in (*self.sequence, self.order):
            if column not in store.schema.names:
                known = ", ".join(name for name in store.schema.names if name != "sample_id")
                raise GatedVAEError(f"There is no column {column}.", f"There are {known}.", "Name some of them.")
        return {"shared": [*self.sequence, self.order], "apart": float(self.apart)}

    def group(self, store: Store, record: Record) -> Grouped:
        """Group samples by sequence; one that is alone in its sequence joins the next.

        `GatedVAEError` when a sample that trains has no place in a sequence, most sequences have one sample, or most samples no
        other so near.
        """
        labels = store.sample_columns([*self.sequence, self.order])
        group, merged = group_by_labels(labels[[*self.sequence]], store.training)
        at = _places(store, labels[self.order].iloc[: store.training], self.order)
        found = NeighbourPartners.of(group[: store.training], at, self.apart)
        if 2 * found.further > store.training:
            what = f"Pairs cannot follow {self.order} {self.apart:g} apart."
            why = f"{found.further} of {store.training} samples have no other of their sequence so near."
            raise GatedVAEError(what, why, "Give a larger K, in the unit of the column.")
        results = {"groups": int(group[: store.training].max()) + 1, "merged": merged, "further": found.further}
        return Grouped(group, drawing(found, record["stream"]), results)


def _places(store: Store, values: npt.ArrayLike, column: str) -> Values:
    """The places in sequences as numbers; refused where one is none."""
    what, remedy = f"Pairs cannot follow {column}.", "Name a column of numbers, such as frames or seconds."
    try:
        if np.asarray(values).dtype.kind in "mM":
            raise TypeError  # dates: nobody could say in which unit K is
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise GatedVAEError(what, "It holds no numbers.", remedy) from None
    wrong = ~np.isfinite(found)
    if wrong.any():
        image = store.sample_columns(["image"])["image"].iloc[int(wrong.argmax())]
        raise GatedVAEError(what, f"{wrong.sum()} of {len(found)} samples have no number in it, {image} first.", remedy)
    return found


def parse_follow(text: str) -> tuple[str, Follow]:
    """Read ``NAME=SEQUENCE[,SEQUENCE...],ORDER[:K]``: the partition's name, and what its pairs are.

    `UsageError` when it cannot be read.
    """
    remedy = "Write --follow NAME=SEQUENCE,ORDER:K, for example --follow pose=video,frame:5."
    name, _, listed = text.partition("=")
    listed, colon, number = listed.partition(":")
    columns = tuple(column.strip() for column in listed.split(","))
    try:
        apart = float(number) if colon else 1.0
    except ValueError:
        apart = 0.0
    if len(columns) < 2 or not all(columns) or len(set(columns)) < len(columns) or not 0 < apart < float("inf"):
        why = "It needs a sequence, an order, and a K above 0." if colon else "It needs a sequence and an order."
        raise UsageError(f"--follow {text} cannot be read.", why, remedy)
    return name.strip(), Follow(columns[:-1], columns[-1], apart)
