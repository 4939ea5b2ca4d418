"""Partition scores and circular rotation, on codes where the answer is known, and beside scikit-learn's ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from gated_vae.models.metrics import (
    Split,
    circular_uninformativeness,
    partition_scores,
    plain_rotation_floor,
    random_split,
)

RNG = np.random.default_rng(0)  # of what tests share; each draws from an `rng` of its own
N = 3000
YAW, SMILE = RNG.normal(size=(2, N))
FACTORS = np.column_stack([YAW, SMILE])
PARTITIONS = {"pose": slice(0, 2), "expression": slice(2, 5)}
OWNER = {"yaw": "pose", "smile": "expression"}
CODES = np.column_stack([YAW, RNG.normal(size=N), RNG.normal(size=(N, 2)), SMILE])


@pytest.mark.parametrize("regressor", ["ridge", "random_forest"])
def test_separate_partitions_score_one(regressor: str) -> None:
    result = partition_scores(CODES, FACTORS, PARTITIONS, OWNER, regressor=regressor)
    assert result.partitions == ("pose", "expression", "full")
    tolerance = 0.01 if regressor == "ridge" else 0.1
    np.testing.assert_allclose(np.clip(result.r2, 0, 1), [[1, 0], [0, 1], [1, 1]], atol=tolerance)
    assert result.mean == pytest.approx(1, abs=tolerance)


def test_what_another_partition_knows_is_taken_off(rng: np.random.Generator) -> None:
    leak = CODES.copy()
    leak[:, 2] = YAW + rng.normal(size=N)  # half of this code's variance is yaw
    result = partition_scores(leak, FACTORS, PARTITIONS, OWNER)
    assert result.r2[1, 0] == pytest.approx(0.5, abs=0.05)
    assert list(result.per_factor.values()) == pytest.approx([0.5, 1], abs=0.05)
    allowed = partition_scores(leak, FACTORS, PARTITIONS, OWNER, sharers={"yaw": ["pose", "expression"]})
    assert allowed.per_factor["yaw"] == pytest.approx(1, abs=0.05)
    swapped = partition_scores(leak, FACTORS, PARTITIONS, {"yaw": "expression", "smile": "pose"})
    assert swapped.per_factor["yaw"] == pytest.approx(-0.5, abs=0.05)


def test_ridge_is_scikit_learns_with_the_stated_penalties(rng: np.random.Generator) -> None:
    codes = CODES @ rng.normal(size=(5, 5)) + 5 * rng.normal(size=(N, 5))
    train, test = np.arange(60), np.arange(60, N)
    result = partition_scores(codes, FACTORS, PARTITIONS, OWNER, split=Split(train, test))
    x = (codes - codes[train].mean(0)) / codes[train].std(0)
    for row, part in enumerate([slice(0, 2), slice(2, 5), slice(0, 5)]):
        for column in range(2):
            y = FACTORS[:, column]
            model = RidgeCV(alphas=10.0 ** np.arange(-2, 7)).fit(x[train][:, part], y[train] / y[train].std())
            expected = r2_score(y[test], model.predict(x[test][:, part]) * y[train].std())
            assert result.r2[row, column] == pytest.approx(expected, abs=1e-6)


def test_a_bad_prediction_stays_negative_in_the_table_but_earns_no_score() -> None:
    train, test = np.arange(20), np.arange(20, 500)
    result = partition_scores(
        CODES[:500], FACTORS[:500], PARTITIONS, OWNER, regressor="gradient_boosting", split=Split(train, test)
    )
    assert result.r2[1, 0] < 0
    assert result.per_factor["yaw"] == pytest.approx(result.r2[0, 0])


def test_constant_labels_give_zeros_and_are_named() -> None:
    factors = np.insert(FACTORS, 1, 0.0, axis=1)
    owner = {"yaw": "pose", "AU45": "expression", "smile": "expression"}
    result = partition_scores(CODES, factors, PARTITIONS, owner)
    assert result.constant_factors == ("AU45",)
    assert not result.r2[:, 1].any()
    assert result.mean == pytest.approx(partition_scores(CODES, FACTORS, PARTITIONS, OWNER).mean)
    assert np.isfinite(result.r2).all()
    assert partition_scores(CODES, np.zeros((N, 2)), PARTITIONS, OWNER).mean == 0
    faint = np.column_stack([YAW, np.where(np.arange(N) < 2000, SMILE, 0.01 * SMILE)])  # where it is judged
    split = Split(np.arange(2000), np.arange(2000, N))
    result = partition_scores(CODES, faint, PARTITIONS, OWNER, split=split)
    assert result.constant_factors == ("smile",)
    assert not result.r2[:, 1].any()


def test_a_dead_partition_knows_nothing() -> None:
    codes = CODES.copy()
    codes[:, 2:] = 0
    result = partition_scores(codes, FACTORS, PARTITIONS, OWNER)
    np.testing.assert_allclose(result.r2[1], 0, atol=0.01)


def test_the_seed_decides_everything() -> None:
    split = random_split(N)
    first, again, other = (
        partition_scores(CODES, FACTORS, PARTITIONS, OWNER, regressor="random_forest", seed=seed, split=split).r2
        for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("partitions", "owner", "message"),
    [
        ({"pose": slice(0, 5)}, OWNER, "two or more"),
        ({"pose": slice(0, 5), "full": slice(0, 5)}, OWNER, "'full'"),
        ({"pose": slice(0, 5), "expression": slice(5, 9)}, OWNER, "none of the 5"),
        (PARTITIONS, {"yaw": "pose"}, "1 factors"),
        (PARTITIONS, {"yaw": "pose", "smile": "mouth"}, "mouth"),
    ],
)
def test_bad_partitions_are_named(partitions: Any, owner: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partition_scores(CODES, FACTORS, partitions, owner)
    with pytest.raises(ValueError, match="regressor must be one of"):
        partition_scores(CODES, FACTORS, PARTITIONS, OWNER, regressor="tree")


ANGLE = RNG.uniform(0, 2 * np.pi, N)
SHAPE = RNG.integers(0, 3, N)
ORDER = np.array([4, 2, 1])[SHAPE]


def on_its_circle(angle: Any, order: Any) -> Any:
    return np.column_stack([np.cos(order * angle), np.sin(order * angle)])


@pytest.mark.parametrize("regressor", ["ridge", "random_forest"])
def test_the_phase_of_each_shape_is_all_there_is_to_know(regressor: str) -> None:
    codes = on_its_circle(ANGLE, ORDER)
    result = circular_uninformativeness(codes, ANGLE, order=ORDER, groups=SHAPE, regressor=regressor)
    assert result.mean < 0.06
    assert list(result.per_group) == [0, 1, 2]


def test_codes_of_the_wrong_symmetry_know_nothing() -> None:
    codes = on_its_circle(ANGLE, 1)  # linear in these, cos 2a and cos 4a have no trace
    result = circular_uninformativeness(codes, ANGLE, order=ORDER, groups=SHAPE, regressor="ridge")
    np.testing.assert_allclose(list(result.per_group.values()), [1, 1, 0], atol=0.02)
    assert result.mean == pytest.approx(2 / 3, abs=0.02)


def test_noise_shows_as_its_share() -> None:
    # Code = unit vector + noise of std s per axis: the best line leaves s^2 / (1/2 + s^2) of the variance.
    codes = on_its_circle(ANGLE, 1) + 0.5 * np.random.default_rng(1).normal(size=(N, 2))
    result = circular_uninformativeness(codes, ANGLE, order=1, regressor="ridge")
    assert result.mean == pytest.approx(np.sqrt(0.25 / 0.75), abs=0.03)


def test_both_coordinates_count() -> None:
    """The cosine alone leaves half of the variance; half a circle has less of it, and knowing nothing is still 1."""
    cosine = circular_uninformativeness(np.cos(ANGLE)[:, None], ANGLE, order=1, regressor="ridge")
    assert cosine.mean == pytest.approx(np.sqrt(0.5), abs=0.02)
    nothing = circular_uninformativeness(CODES, ANGLE / 2, order=1, regressor="ridge")
    assert nothing.mean == pytest.approx(1, abs=0.02)


def test_turning_by_a_symmetry_changes_nothing(rng: np.random.Generator) -> None:
    codes = on_its_circle(ANGLE, 4) + 0.2 * rng.normal(size=(N, 2))
    turned = ANGLE + rng.integers(0, 4, N) * np.pi / 2
    straight, moved = (circular_uninformativeness(codes, a, order=4, regressor="ridge").mean for a in (ANGLE, turned))
    assert straight == pytest.approx(moved)


def test_a_constant_angle_is_left_out_of_the_mean() -> None:
    angle = np.where(SHAPE == 0, 1.0, ANGLE)
    codes = on_its_circle(angle, ORDER)
    result = circular_uninformativeness(codes, angle, order=ORDER, regressor="ridge")
    assert result.per_group[4] == 1
    assert result.mean == pytest.approx(np.mean([result.per_group[1], result.per_group[2]]))
    assert circular_uninformativeness(codes, np.ones(N), order=1).mean == 1


def test_a_split_is_kept_within_each_group(rng: np.random.Generator) -> None:
    rows = np.random.default_rng(0).permutation(N)
    split = Split(rows[:2000], rows[2000:])
    codes = on_its_circle(ANGLE, ORDER) + 0.3 * rng.normal(size=(N, 2))
    whole = circular_uninformativeness(codes, ANGLE, order=ORDER, groups=SHAPE, regressor="ridge", split=split)
    hearts = np.flatnonzero(SHAPE == 2)
    train, test = (np.flatnonzero(np.isin(hearts, part)) for part in (split.train, split.test))
    alone = circular_uninformativeness(
        codes[hearts], ANGLE[hearts], order=1, regressor="ridge", split=Split(train, test)
    )
    assert whole.per_group[2] == pytest.approx(alone.mean)


def test_the_floor_of_a_plain_regression() -> None:
    assert plain_rotation_floor([4, 2, 1]) == pytest.approx(0.75)
    # By force: knowing shape and phase, predict the mean of the angles that look the same.
    phase = np.arange(3600)
    errors = []
    for order in (4, 2, 1):
        alike = phase % (3600 // order)
        best = np.bincount(alike, phase) / np.bincount(alike)
        errors.append(np.mean((phase - best[alike]) ** 2) / phase.var())
    assert np.sqrt(np.mean(errors)) == pytest.approx(0.75, abs=1e-3)


def test_the_floor_is_higher_when_both_ends_of_the_index_are_one_angle() -> None:
    index = np.arange(40)
    best = np.where((index == 0) | (index == 39), 19.5, index)
    heart = np.mean((index - best) ** 2) / index.var()
    assert heart == pytest.approx(0.14, abs=0.005)
    assert np.sqrt(np.mean([15 / 16, 3 / 4, heart])) == pytest.approx(0.78, abs=0.005)


def test_orders_must_make_sense() -> None:
    with pytest.raises(ValueError, match="more than one order"):
        circular_uninformativeness(CODES, ANGLE, order=ORDER, groups=np.zeros(N))
    with pytest.raises(ValueError, match="at least 1"):
        circular_uninformativeness(CODES, ANGLE, order=ORDER - 1)
    with pytest.raises(ValueError, match="regressor must be one of"):
        circular_uninformativeness(CODES, ANGLE, order=1, regressor="tree")
