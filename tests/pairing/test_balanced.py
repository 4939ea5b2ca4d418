from __future__ import annotations

import numpy as np
import pytest

from gated_vae.pairing.groups.balanced import split_large
from gated_vae.pairing.groups.kmeans import Groups, group_kmeans


def split(points: np.ndarray, groups: Groups, most: int) -> Groups:
    return split_large(groups, most, lambda rows: points[rows])


@pytest.mark.parametrize("most", [3, 4, 7, 50, 10_000])
def test_no_group_is_larger_than_asked_for_and_parts_make_up_the_whole(most: int) -> None:
    points = np.random.default_rng(0).gamma(0.5, 1.0, (3000, 4))
    before = group_kmeans(points, 30)
    after = split(points, before, most)
    assert after.sizes.max() <= max(most, 3)
    whole = [set(after.group[before.group == g]) for g in range(30)]
    assert sum(map(len, whole)) == len(set.union(*whole)) == len(np.unique(after.group))  # no part joins two groups
    assert len(after.centroids) == after.group.max() + 1
    small = (before.sizes <= most)[before.group]
    assert np.array_equal(after.group[small], before.group[small])
    assert np.array_equal(after.distance[small], before.distance[small])
    assert (after.sizes[after.group[~small]] >= 2).all()
    for g in np.unique(after.group[~small]):
        part = points[after.group == g]
        assert np.allclose(after.centroids[g], part.mean(axis=0), atol=1e-5)
        assert np.allclose(
            after.distance[after.group == g], np.linalg.norm(part - part.mean(axis=0), axis=1), atol=1e-5
        )
        assert len(part) > most / 2 - 1  # halves of equal size
    again = split(points, before, most)
    assert np.array_equal(again.group, after.group)


def test_a_cut_lies_across_the_longest_direction_at_the_median() -> None:
    along = np.random.default_rng(0).permutation(100)
    points = along[:, None] * np.array([[3.0, 4.0]]) + np.random.default_rng(1).normal(0, 1, (100, 2))
    groups = Groups(np.zeros((1, 2), np.float32), np.zeros(100, np.int32), np.zeros(100, np.float32))
    after = split(points, groups, 50)
    assert np.array_equal(after.group, along >= 50)


def test_members_at_one_place_are_cut_by_id() -> None:
    groups = Groups(np.zeros((2, 2), np.float32), np.repeat([0, 1], [9, 2]).astype(np.int32), np.zeros(11, np.float32))
    after = split(np.ones((11, 2)), groups, 3)
    assert after.group.tolist() == [0, 0, 2, 2, 3, 3, 4, 4, 4, 1, 1]
    assert after.sizes.tolist() == [2, 2, 2, 2, 3]
