from __future__ import annotations

import numpy as np
from scipy import stats

from gated_vae.pairing.groups.kmeans import group_kmeans
from gated_vae.pairing.rules.independent import IndependentPartners

STRATA = np.array([[0.0], [1.0], [3.0]], np.float32)


def drawn(partners: IndependentPartners, draws: int) -> np.ndarray:
    ids = np.arange(len(partners.group))
    return np.stack([partners.partners(ids, seed=0, draw=draw) for draw in range(draws)])


def test_every_group_draws_its_targets_strata_from_all_samples() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 600)
    stratum = np.concatenate([rng.choice(3, 600, p=share) for share in ([0.8, 0.1, 0.1], [0.1, 0.2, 0.7])])
    targets = drawn(IndependentPartners.of(group, stratum, STRATA), 20)
    overall = np.bincount(stratum) / len(stratum)
    for g in (0, 1):
        found = np.bincount(stratum[targets[:, group == g]].ravel(), minlength=3)
        assert stats.chisquare(found, overall * found.sum()).pvalue > 1e-4


def test_partners_are_others_of_the_same_group_and_any_slice_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(60), rng.integers(2, 9, 60)))
    partners = IndependentPartners.of(group, rng.integers(0, 3, len(group)), STRATA)
    targets = drawn(partners, 10)
    assert (group[targets] == group).all()
    assert (targets != np.arange(len(group))).all()
    some = rng.permutation(len(group))[:50]
    assert np.array_equal(partners.partners(some, seed=0, draw=4), targets[4, some])


def test_a_stratum_without_members_is_stood_in_for_by_the_nearest_that_has_some() -> None:
    # Group 0 has strata 0 (samples 0, 1) and 2 (sample 2); stratum 1, which all of group 1 is in, is nearer to 0 than to 2.
    group = np.array([0, 0, 0, *[1] * 97])
    stratum = np.array([0, 0, 2, *[1] * 97])
    targets = drawn(IndependentPartners.of(group, stratum, STRATA), 200)
    assert (targets[:, :3] != [0, 1, 2]).all()
    assert np.isin(targets[:, 2], [0, 1]).all()  # alone in its stratum, so it takes the next nearest
    assert (targets[:, 0] == 1).mean() > 0.95  # stratum 2 is asked for once in a hundred
    assert set(targets[:, 2]) == {0, 1}


def test_partners_within_a_stratum_are_equally_likely() -> None:
    group, stratum = np.zeros(6, int), np.array([0, 0, 0, 0, 2, 2])
    targets = drawn(IndependentPartners.of(group, stratum, STRATA), 3000)
    counts = np.bincount(targets[:, 0], minlength=6)
    # Stratum 0 comes up 4 times in 6 and has 3 others to choose from; stratum 2 comes up 2 times in 6 and has 2.
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], 3000 * np.array([2 / 9, 2 / 9, 2 / 9, 1 / 6, 1 / 6])).pvalue > 1e-4


def test_a_draw_says_nothing_of_the_next() -> None:
    """Neither do its numbers: where in its stratum a partner is, and of which stratum the next one is."""
    stratum = np.repeat([0, 1], 200)
    targets = drawn(IndependentPartners.of(np.zeros(400, int), stratum, STRATA[:2]), 40)
    for before in (targets[:-1] % 200, stratum[targets[:-1]]):
        assert abs(np.corrcoef(before.ravel(), stratum[targets[1:]].ravel())[0, 1]) < 4 / np.sqrt(before.size)


def test_what_groups_leak_of_another_label_is_gone() -> None:
    rng = np.random.default_rng(0)
    yaw = rng.normal(size=5000)
    smile = rng.normal(size=5000) + 0.7 * yaw
    group = group_kmeans(smile[:, None], 50).group
    strata = group_kmeans(yaw[:, None], 16)
    ids = np.arange(5000)
    plain = IndependentPartners.of(group, np.zeros(5000, int), STRATA[:1]).partners(ids, seed=0, draw=0)
    apart = IndependentPartners.of(group, strata.group, strata.centroids).partners(ids, seed=0, draw=0)
    assert np.corrcoef(yaw, yaw[plain])[0, 1] > 0.25
    assert abs(np.corrcoef(yaw, yaw[apart])[0, 1]) < 0.08
    assert np.corrcoef(smile, smile[apart])[0, 1] > 0.98
