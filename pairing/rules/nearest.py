"""Partners among the nearest members of the group: closer in what is shared than any member, and fewer to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from gated_vae.pairing.rules.base import Floats, Grouping, Ids, Ints, Members, random_below

BLOCK_VALUES = 1 << 20  # differences of coordinates in memory at a time
SPARE = 8  # candidates beyond those wanted: labels of three decimals are often equally far
_CERTAIN = 1 - 1e-5  # what float32 may be wrong by, and more
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
        table, a few blocks of `BLOCK_VALUES` are in memory. In many dimensions time grows with the squares of groups' sizes.

        Parameters
        ----------
        members:
            The groups; none has a single member.
        points:
            float32 (N, d).
        count:
            1 or more.

        Raises
        ------
        GatedVAEError
            When a sample is alone in its group.
        """
        members.check()
        available = np.minimum(members.sizes - 1, count)[members.group].astype(np.int32)
        near = np.full((len(points), int(available.max(initial=0))), -1, members.ids.dtype)
        for start, stop in zip(members.offsets[:-1], members.offsets[1:], strict=True):
            if start == stop:
                continue
            ids = members.ids[start:stop]
            for rows, places in _nearest(points[ids], min(count, len(ids) - 1)):
                near[ids[rows], : places.shape[1]] = ids[places]
        return cls(near, available)

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) one of its nearest, uniformly; element by element, in any order."""
        chosen = random_below(self.available[ids], ids, seed=seed, draw=draw)
        return self.near[ids, chosen].astype(np.int64, copy=False)


def prepare(grouping: Grouping, count: int) -> NearestPartners:
    """Prepare the rule for `gated_vae.pairing.rules`: one of the `count` nearest."""
    return NearestPartners.of(grouping.members, grouping.points(), count)


def _nearest(points: Floats, count: int) -> Iterator[tuple[slice, Ids]]:
    """Find the places (n, count) of the points nearest to each of points (m, d), the nearest first; some rows at a time.

    A tree finds candidates. Where the last of them may be as near as the last wanted, others may be too, and all are compared.
    """
    size = len(points)
    asked = min(size, count + 1 + SPARE)
    tree, everyone = cKDTree(points), np.arange(size)
    rows = max(1, BLOCK_VALUES // (asked * points.shape[1]))
    for start in range(0, size, rows):
        own = everyone[start : start + rows]
        apart, candidates = tree.query(points[own], k=asked)
        places, last = _first(points, own, candidates, count)
        doubtful = np.flatnonzero(last >= _CERTAIN * apart[:, -1] ** 2) if asked < size else everyone[:0]
        for some in np.array_split(doubtful, -(-doubtful.size * points.size // BLOCK_VALUES) or 1):
            others = np.broadcast_to(everyone, (len(some), size))
            places[some] = _first(points, own[some], others, count)[0]
        yield slice(start, start + rows), places


def _first(points: Floats, own: Ids, candidates: Ids, count: int) -> tuple[Ids, Floats]:
    """Find those of the candidates (n, c) nearest to points `own` (n,), (n, count), and the squared distance of the last.

    A key is the bits of a squared distance, which are ordered as the distance is, and the place behind them.
    """
    squares = np.square(points[candidates] - points[own][:, None]).sum(axis=2)
    keys = squares.view(np.uint32).astype(np.uint64) << np.uint64(32) | candidates.astype(np.uint64)
    keys[candidates == own[:, None]] = _OWN
    keys.partition(count - 1, axis=1)
    keys = np.sort(keys[:, :count], axis=1)
    last = (keys[:, -1] >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return (keys & _PLACE).astype(np.int64), last
