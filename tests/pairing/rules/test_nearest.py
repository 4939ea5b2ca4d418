from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from gated_vae.pairing.rules import nearest
from gated_vae.pairing.rules.base import Members
from gated_vae.pairing.rules.nearest import NearestPartners
from gated_vae.preprocessing.errors import GatedVAEError


def brute_force(group: np.ndarray, points: np.ndarray, sample: int, count: int) -> list[int]:
    apart = cdist(points[[sample]], points)[0]
    others = [other for other in range(len(group)) if group[other] == group[sample] and other != sample]
    return sorted(others, key=lambda other: (apart[other], other))[:count]


@pytest.mark.parametrize("values", [1, 1 << 20])  # differences in memory at a time: a row, or all
@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_nearest_are_those_of_all_distances_and_ties_go_by_id(
    monkeypatch: pytest.MonkeyPatch, count: int, values: int
) -> None:
    monkeypatch.setattr(nearest, "BLOCK_VALUES", values)
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(12), rng.integers(2, 40, 12)))
    points = rng.integers(0, 4, (len(group), 3)).astype(np.float32)  # on a lattice: many ties, many at the same place
    found = NearestPartners.of(Members.of(group), points, count)
    for sample in range(len(group)):
        expected = brute_force(group, points, sample, count)
        assert found.available[sample] == len(expected)
        assert found.near[sample].tolist() == expected + [-1] * (found.near.shape[1] - len(expected))


def test_each_of_the_nearest_is_equally_likely_and_any_slice_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    group, points = rng.integers(0, 5, 200), rng.normal(size=(200, 2)).astype(np.float32)
    partners, ids = NearestPartners.of(Members.of(group), points, 4), np.arange(200)
    targets = np.stack([partners.partners(ids, seed=1, draw=draw) for draw in range(400)])
    for sample in range(0, 200, 20):
        found = [(targets[:, sample] == other).sum() for other in brute_force(group, points, sample, 4)]
        assert sum(found) == 400
        assert stats.chisquare(found).pvalue > 1e-4
    some = rng.permutation(200)[:30]
    assert np.array_equal(partners.partners(some, seed=1, draw=7), targets[7, some])


def test_a_whole_group_at_one_place_is_told_apart_by_id() -> None:
    partners = NearestPartners.of(Members.of(np.zeros(300, int)), np.ones((300, 17), np.float32), 2)
    assert partners.near[[0, 1, 2, 299]].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_groups_without_members_do_no_harm_and_single_samples_are_refused() -> None:
    points = np.zeros((4, 2), np.float32)
    partners = NearestPartners.of(Members.of(np.array([0, 3, 3, 0])), points, 9)
    assert partners.near.tolist() == [[3], [2], [1], [0]]
    with pytest.raises(GatedVAEError, match="1 samples are alone"):
        NearestPartners.of(Members.of(np.array([0, 1, 1, 1])), points, 1)
