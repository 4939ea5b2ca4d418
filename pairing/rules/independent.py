"""Partners whose other labels say nothing about the input's.

Drawn uniformly, partners are independent within a group, but groups differ: where one leans to the left, input and
partner both do, and a network can tell from the group what it should not know. Here every group draws its targets' other
labels from the same distribution, that of all samples: first the stratum of a sample drawn from everywhere, then a member
of the group in that stratum, or in the nearest stratum where the group has members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gated_vae.pairing.rules.base import Floats, Grouping, Ids, Ints, Members, random_below

_COUNTERS = 16  # of random numbers that one draw has to itself; two are used


@dataclass(frozen=True, eq=False)
class IndependentPartners:
    """Groups cut into cells, one per stratum that has members, to draw partners from.

    Attributes
    ----------
    stratum:
        Stratum of each sample (N,).
    cells:
        The cells, as groups of their own.
    nearest, second:
        Cell that stands in for a stratum in a group, and the next nearest one (or the same where there is no other),
        (groups, strata) each.
    """

    group: Ints
    stratum: Ints
    cells: Members
    nearest: Ints
    second: Ints

    @classmethod
    def of(cls, group: Ints, stratum: Ints, centroids: Floats) -> IndependentPartners:
        """Prepare the cells of samples' groups (N,) and strata (N,), both from 0; `centroids` (strata, d) is where strata lie."""
        strata = len(centroids)
        occupied, cell = np.unique(group.astype(np.int64) * strata + stratum, return_inverse=True)
        index = np.full((int(group.max()) + 1, strata), -1)
        index.ravel()[occupied] = np.arange(len(occupied))
        nearest, second = _stand_ins(index, centroids)
        return cls(group, stratum, Members.of(cell), nearest, second)

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) another member of its group; element by element, in any order."""
        counter = draw * _COUNTERS
        wanted = self.stratum[random_below(len(self.stratum), ids, seed=seed, draw=counter)]
        group, own, sizes = self.group[ids], self.cells.group[ids], self.cells.sizes
        cell = self.nearest[group, wanted]
        alone = (cell == own) & (sizes[cell] == 1)
        cell = np.where(alone, self.second[group, wanted], cell)
        inside = cell == own
        other = random_below(sizes[cell] - inside, ids, seed=seed, draw=counter + 1)
        other += inside & (other >= self.cells.rank[ids])
        other += self.cells.offsets[cell]
        return self.cells.ids[other].astype(np.int64, copy=False)


def prepare(grouping: Grouping, strata: int) -> IndependentPartners:
    """Prepare the rule for `gated_vae.pairing.rules`: independent of everything else, cut into so many strata."""
    return IndependentPartners.of(grouping.members.group, *grouping.strata(strata))


def _stand_ins(index: Ids, centroids: Floats) -> tuple[Ints, Ints]:
    """Find for every group and stratum the nearest and the second nearest cell of the group."""
    apart = np.linalg.norm(centroids[:, None] - centroids[None], axis=2)
    nearest, second = np.full_like(index, -1), np.full_like(index, -1)
    for stratum, order in enumerate(np.argsort(apart, axis=1, kind="stable")):
        cells = index[:, order]
        occupied = np.take_along_axis(cells, np.argsort(cells < 0, axis=1, kind="stable")[:, :2], axis=1)
        nearest[:, stratum], second[:, stratum] = occupied[:, 0], occupied[:, -1]
    return nearest, np.where(second < 0, nearest, second)
