"""Partners among the nearest members of the group: closer in what is shared than any member, and fewer to choose from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gated_vae.pairing.rules.base import Floats, Grouping, Ids, Ints, Members, random_below

BLOCK_VALUES = 1 << 20  # differences of coordinates in memory at a time
_OWN = np.uint64(2**64 - 1)  # sorts last
_PLACE = np.uint64(2**32 - 1)


@dataclass(frozen=True, eq=False)
class NearestPartners:
    """For every sample, a few members of its group to draw from: 4 bytes each (8 above 2**31 samples).

    Attributes
    ----------
    near:
        The nearest other members of each sample's group, the nearest first, (N, K); -1 where the group has no more.
    available:
        How many there are, (N,), 1 .. K.
    """

    near: Ints
    available: Ints

    @classmethod
    def of(cls, members: Members, points: Floats, count: int) -> NearestPartners:
        """Find the `count` nearest, or all others in groups of no more.

        Distances are Euclidean, in float32; of members equally far the one of lower id is nearer. Beside the points and the
        table, a few blocks of `BLOCK_VALUES` are in memory. Time grows with the squares of groups' sizes. `GatedVAEError` when a
        sample is alone in its group.
        """
        members.check()
        count = min(count, len(points))
        available = np.minimum(members.sizes - 1, count)[members.group].astype(np.int32)
        near = np.full((len(points), int(available.max(initial=0))), -1, members.ids.dtype)
        for group in np.flatnonzero(members.sizes):
            ids = members.ids[members.offsets[group] : members.offsets[group + 1]]
            places = _nearest(points[ids], min(count, len(ids) - 1))
            near[ids, : places.shape[1]] = ids[places]
        return cls(near, available)

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) one of its nearest, uniformly; element by element, in any order."""
        chosen = random_below(self.available[ids], ids, seed=seed, draw=draw)
        return self.near[ids, chosen].astype(np.int64, copy=False)


def prepare(grouping: Grouping, count: int) -> NearestPartners:
    """Prepare the rule for `gated_vae.pairing.rules`: one of the `count` nearest."""
    return NearestPartners.of(grouping.members, grouping.points(), count)


def _nearest(points: Floats, count: int) -> Ids:
    """Find the places (m, count) of the points nearest to each of points (m, d), the nearest first.

    A key is the bits of a squared distance, which are ordered as the distance is, and the place behind them.
    """
    places = np.empty((len(points), count), np.int64)
    everyone, rows = np.arange(len(points), dtype=np.uint64), max(1, BLOCK_VALUES // points.size)
    for start in range(0, len(points), rows):
        block = slice(start, start + rows)
        squares = np.square(points - points[block, None]).sum(axis=2)
        keys = squares.view(np.uint32).astype(np.uint64) << np.uint64(32) | everyone
        np.fill_diagonal(keys[:, start:], _OWN)
        keys.partition(count - 1, axis=1)
        places[block] = np.sort(keys[:, :count], axis=1) & _PLACE
    return places
