"""Clusters of bounded size: large ones are cut in two, again and again, so that none dominates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.groups.kmeans import Groups

LEAST = 3  # two halves of four are the smallest that leave no member alone

Ids = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


def split_large(groups: Groups, most: int, points_of: Callable[[Ids], npt.NDArray[Any]]) -> Groups:
    """Cut groups of more than `most` members in halves of equal size until none is larger.

    Each cut lies at the median along the direction in which the members vary most; of members equally far along it, those of
    lower id come first. The first part keeps the group's number, the others get new ones, and each part's centroid is its mean.
    The points of all members of large groups are in memory.

    Parameters
    ----------
    most:
        `LEAST` or more.
    points_of:
        Gives the points (n, d) of samples (n,), in the units of the centroids.
    """
    large = groups.sizes > most
    rows = np.flatnonzero(large[groups.group])
    if not len(rows):
        return groups
    points = np.asarray(points_of(rows), np.float64)
    own = groups.group[rows]
    order = np.argsort(own, kind="stable")
    group, distance, centroids = groups.group.copy(), groups.distance.copy(), [*groups.centroids]
    for whole in np.split(order, np.flatnonzero(np.diff(own[order])) + 1):
        number = int(own[whole[0]])
        for part in _parts(points, whole, most):
            centroid = points[part].mean(axis=0)
            group[rows[part]], distance[rows[part]] = number, np.linalg.norm(points[part] - centroid, axis=1)
            if number == len(centroids):
                centroids.append(centroid)
            else:
                centroids[number] = centroid
            number = len(centroids)
    return replace(groups, centroids=np.stack(centroids).astype(np.float32), group=group, distance=distance)


def _parts(points: Points, members: Ids, most: int) -> Iterator[Ids]:
    """Cut members (ascending) until no part is larger than `most`; members of each part ascend."""
    if len(members) <= most:
        yield members
        return
    centred = points[members] - points[members].mean(axis=0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    direction *= np.sign(direction[np.abs(direction).argmax()])  # either sign would do, but not now one, now the other
    order = np.argsort(centred @ direction, kind="stable")
    for half in np.split(order, [len(members) // 2]):
        yield from _parts(points, members[np.sort(half)], most)
