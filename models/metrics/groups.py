"""Groups of rows that share one factor's value, drawn from given arrays: what stands in for a sampler.

The metrics of Higgins et al. and of Kim & Mnih ask a generator for images that share a factor. Here the rows at hand are the
population: a group is drawn among the rows that hold the same value, so the other factors vary as they do in the arrays.
Codes of 10,000 rows or more, drawn at random from the grid of factors, come close to the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, Rows, varies


@dataclass(frozen=True)
class SameValue:
    """A factor's rows, arranged so that rows of one value lie side by side.

    `order` lists row numbers by value. The value of the row at place p fills order[start[p] : start[p] + count[p]].
    `anchors` are the places whose value enough rows hold.
    """

    order: Rows
    start: Rows
    count: Rows
    anchors: Rows

    @classmethod
    def of(cls, factor: Array, least: int) -> SameValue:
        """Arrange a factor (n,); values held by fewer than `least` rows are never drawn.

        Raises
        ------
        ValueError
            When no value is held by so many rows.
        """
        _, value, counts = np.unique(factor, return_inverse=True, return_counts=True)
        count = np.repeat(counts, counts)
        anchors = np.flatnonzero(count >= least)
        if not len(anchors):
            raise ValueError(f"no value of a factor is shared by {least} rows: pass more rows or bin the factor")
        start = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(np.argsort(value, kind="stable"), start, count, anchors)

    def draw(self, groups: int, size: int, rng: np.random.Generator) -> Rows:
        """Draw row numbers (groups, size), with replacement; a value comes up as often as rows hold it."""
        place = rng.choice(self.anchors, (groups, 1))
        return np.asarray(self.order[self.start[place] + rng.integers(0, self.count[place], (groups, size))])

    def draw_pairs(self, pairs: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Draw `pairs` pairs of different rows of one value; needs values held by two rows at least."""
        place = rng.choice(self.anchors, pairs)
        start, count = self.start[place], self.count[place]
        partner = start + (place - start + rng.integers(1, count)) % count
        return self.order[place], self.order[partner]


def varying_columns(factors: Array) -> npt.NDArray[np.int64]:
    """Give the factors that can be told apart; ValueError when all are constant."""
    columns = np.flatnonzero(varies(factors))
    if not len(columns):
        raise ValueError("every factor is constant: nothing can be shared")
    return columns
