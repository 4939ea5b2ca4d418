from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from gated_vae.pairing.groups.kmeans import Groups, group_kmeans
from gated_vae.pairing.groups.resolution import (
    MEMBERS,
    Choice,
    _fewest,
    choose_clusters,
    partners_apart,
    repeated_apart,
)
from gated_vae.pairing.rules.uniform import draw_partners
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.simulate.labels import AU_NOISE, POSE_NOISE


@pytest.mark.parametrize("blobs", [1, 9, 40])
def test_blobs_seen_with_known_error_are_told_apart(blobs: int) -> None:
    """Fixed points of a lattice, each seen often: as many clusters as points, less what a sixteenth may add."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(blobs)))
    true = np.stack(np.divmod(np.arange(blobs), side), axis=1)[rng.integers(0, blobs, 100 * blobs)]
    points = true + rng.normal(0, 0.02, true.shape)
    choice = choose_clusters(points, 1.1 * np.sqrt(4 * 0.02**2))
    assert blobs <= choice.k <= max(blobs + 1, 1.25 * blobs)  # K-Means may split one before it finds all
    assert choice.apart <= choice.repeated
    assert choose_clusters(points, 1.1 * np.sqrt(4 * 0.02**2)) == choice


def test_a_smooth_spread_gets_clusters_as_wide_as_the_error() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (20_000, 1))
    choice = choose_clusters(points, 0.01)
    # Two points of an interval of length w lie w / sqrt(6) apart (root mean square): 1 / w clusters do it.
    assert choice.k == pytest.approx(1 / (0.01 * np.sqrt(6)), rel=0.25)


def test_clusters_keep_twenty_members_where_the_error_is_finer() -> None:
    points = np.random.default_rng(0).normal(size=(1000, 10))
    choice = choose_clusters(points, 0.1)
    assert (choice.k, choice.most) == (50, 1000 // MEMBERS)
    assert choice.apart > choice.repeated
    assert choose_clusters(points[:7], 0.1).k == 1


def test_the_distance_of_partners_is_what_drawing_them_gives() -> None:
    points = np.random.default_rng(0).normal(size=(3000, 3))
    groups = group_kmeans(points, 300)
    alone = np.flatnonzero(groups.sizes[groups.group] == 1)
    means = np.stack([points[groups.group == g].mean(axis=0) for g in range(300)])
    exact = Groups(means.astype(np.float32), groups.group, np.linalg.norm(points - means[groups.group], axis=1))
    kept = np.setdiff1d(np.arange(3000), alone)
    group = groups.group[kept]
    squares = [
        np.square(points[kept] - points[kept][draw_partners(group, draw=draw)]).sum(axis=1).mean() for draw in range(50)
    ]
    assert partners_apart(exact) == pytest.approx(np.sqrt(np.mean(squares)), rel=0.01)
    one = Groups(np.zeros((1, 3), np.float32), np.zeros(50, np.int32), np.linalg.norm(points[:50], axis=1))
    assert partners_apart(one) == pytest.approx(
        np.sqrt(2 * 50 / 49 * np.square(points[:50]).sum(axis=1).mean()), rel=1e-6
    )
    assert np.isclose(
        np.sqrt(np.square(pdist(points[:50])).mean()),
        np.sqrt(2 * 50 / 49 * np.square(points[:50] - points[:50].mean(axis=0)).sum(axis=1).mean()),
    )
    assert partners_apart(Groups(np.zeros((2, 1), np.float32), np.arange(2, dtype=np.int32), np.zeros(2))) == 0


@pytest.mark.parametrize("fewest", [1, 2, 3, 7, 64, 65, 700, 1000])
def test_the_search_finds_the_fewest_to_a_sixteenth(fewest: int) -> None:
    k, found = _fewest(lambda k: 1.0 if k < fewest else 0.4, 0.5, 1000)
    assert fewest <= k <= fewest + max(1, fewest // 15)
    assert found == 0.4
    assert _fewest(lambda _k: 1.0, 0.5, 1000) == (1000, 1.0)


def test_the_error_of_repeated_labels_is_the_measured_one() -> None:
    pose, unit = ["pose_Rx", "pose_Ry"], np.array([0.5, 2.0])
    assert repeated_apart(pose, np.ones(2)) == pytest.approx(np.sqrt(2) * np.hypot(*POSE_NOISE[:2]))
    assert repeated_apart(pose, unit) == pytest.approx(np.sqrt(2) * np.hypot(*(POSE_NOISE[:2] / unit)))
    assert repeated_apart(["AU12_r"], np.ones(1)) == pytest.approx(np.sqrt(2) * AU_NOISE[8])
    with pytest.raises(GatedVAEError, match=r"AU43_r is not known.\nGive it as a number"):
        repeated_apart(["AU12_r", "AU43_r"], np.ones(2))


def test_a_choice_says_what_it_rests_on() -> None:
    choice = choose_clusters(np.random.default_rng(0).normal(size=(400, 2)), 1.0)
    assert isinstance(choice, Choice)
    assert choice.most == 20
    assert choice.repeated == 1.0
