"""DCI: hand-worked importances, codes of known score, scikit-learn's own fits, dead codes and constant factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import Lasso
from sklearn.metrics import r2_score

from gated_vae.models.metrics import (
    DCI,
    Split,
    code_weights,
    completeness_per_factor,
    dci,
    disentanglement_per_code,
    group_split,
    nrmse,
    random_split,
)
from gated_vae.models.metrics.arrays import derived_seed, standardise

REGRESSORS = ("lasso", "random_forest", "gradient_boosting")
RNG = np.random.default_rng(0)  # of what tests share; each draws from an `rng` of its own
FACTORS = RNG.normal(size=(2000, 3))


def scores(result: DCI) -> list[float]:
    return [result.disentanglement, result.completeness, result.uninformativeness]


def test_entropies_by_hand() -> None:
    importance = [[1.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]
    # Code 0 is torn between two of three factors: 1 - log_3 2. Factor 0 has shares 1/5 and 4/5 of four codes.
    torn = 1 - np.log(2) / np.log(3)
    split = 1 + (0.2 * np.log(0.2) + 0.8 * np.log(0.8)) / np.log(4)
    np.testing.assert_allclose(disentanglement_per_code(importance), [torn, 1, 0, 1])
    np.testing.assert_allclose(completeness_per_factor(importance), [split, 1, 1])
    np.testing.assert_allclose(code_weights(importance), [2 / 8, 2 / 8, 0, 4 / 8])


def test_nothing_matters() -> None:
    nothing = np.zeros((3, 2))
    for result in (disentanglement_per_code(nothing), completeness_per_factor(nothing), code_weights(nothing)):
        assert not result.any()


@pytest.mark.parametrize("regressor", REGRESSORS)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["one to one", "permuted"])
def test_one_code_per_factor_is_perfect(regressor: Any, order: list[int]) -> None:
    result = dci(FACTORS[:, order] * [1e-3, 1, 1e3] + 7, FACTORS, regressor)
    assert result.disentanglement > 0.99
    assert result.completeness > 0.99
    assert result.uninformativeness < 0.06
    assert (result.importance.argmax(axis=0) == np.argsort(order)).all()


def test_lasso_shrinks_a_perfect_code_by_its_penalty() -> None:
    # With one standardised code equal to the target, the Lasso's coefficient is 1 - 0.02 and its error 0.02.
    result = dci(FACTORS, FACTORS, split=Split(np.arange(1000), np.arange(1000, 2000)))
    np.testing.assert_allclose(np.diag(result.importance), 0.98, atol=0.01)
    assert result.uninformativeness == pytest.approx(0.02, abs=0.005)


def test_rotated_pair_is_shared_by_both_codes() -> None:
    x, y, z = FACTORS.T
    result = dci(np.column_stack([x + y, x - y, z]), FACTORS, split=random_split(2000, seed=3))
    shared = 1 - np.log(2) / np.log(3)  # half and half of three, for the two mixed codes and factors
    np.testing.assert_allclose(result.disentanglement_per_code, [shared, shared, 1], atol=0.02)
    np.testing.assert_allclose(result.completeness_per_factor, [shared, shared, 1], atol=0.02)
    # Each mixed code has coefficient 1/sqrt(2) for two factors, less the penalty; the third has 1.
    weights = 2 * (np.sqrt(0.5) - 0.02), 0.98
    expected = (2 * weights[0] * shared + weights[1]) / (2 * weights[0] + weights[1])
    assert result.disentanglement == pytest.approx(expected, abs=0.02)


def test_a_noisy_twin_costs_completeness_but_not_disentanglement() -> None:
    twins = np.hstack([FACTORS, FACTORS]) + 0.1 * np.random.default_rng(1).normal(size=(2000, 6))
    result = dci(twins, FACTORS, "random_forest")
    assert result.disentanglement > 0.9
    # Two equal halves of six codes: 1 - log_6 2, if the forest finds each twin as often.
    assert result.completeness == pytest.approx(1 - np.log(2) / np.log(6), abs=0.08)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_codes_that_know_nothing_are_as_good_as_the_mean(regressor: Any) -> None:
    result = dci(np.random.default_rng(5).normal(size=(2000, 4)), FACTORS, regressor)
    assert result.uninformativeness == pytest.approx(1.0, abs=0.12)
    if regressor != "lasso":  # the Lasso's few chance coefficients are sparse, which entropy takes for order
        assert result.disentanglement < 0.1


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_dead_codes_count_nothing(regressor: Any) -> None:
    codes = FACTORS + 0.2 * np.random.default_rng(2).normal(size=FACTORS.shape)
    alone = dci(codes, FACTORS, regressor)
    padded = dci(np.hstack([codes, np.full((2000, 2), 0.1)]), FACTORS, regressor)
    assert not padded.importance[3:].any()
    assert not padded.disentanglement_per_code[3:].any()
    assert padded.uninformativeness == pytest.approx(alone.uninformativeness, abs=0.02)
    assert padded.disentanglement == pytest.approx(alone.disentanglement, abs=0.03)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_all_codes_dead(regressor: Any) -> None:
    result = dci(np.zeros((200, 3)), FACTORS[:200], regressor)
    assert scores(result)[:2] == [0.0, 0.0]
    assert result.uninformativeness == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_constant_factors_change_no_score(rng: np.random.Generator, regressor: Any) -> None:
    codes = FACTORS @ rng.normal(size=(3, 4))
    padded = dci(codes, np.insert(FACTORS, 1, 0.1, axis=1), regressor)
    assert scores(padded) == scores(dci(codes, FACTORS, regressor))
    assert padded.constant_factors == (1,)
    assert padded.completeness_per_factor[1] == 0
    assert padded.uninformativeness_per_factor[1] == 1


def test_a_factor_that_hardly_varies_where_it_is_judged_is_left_out(rng: np.random.Generator) -> None:
    """Of 30 held-out rows all but one are alike, and an error is many times so small a spread, whatever is predicted."""
    split = Split(np.arange(1970), np.arange(1970, 2000))
    rare = rng.exponential(0.4, 2000)
    rare[split.test] = 0.01 * (np.arange(30) == 0)
    codes = np.column_stack([FACTORS, rare]) + rng.normal(0, 0.1, (2000, 4))
    found = dci(codes, 100 * np.column_stack([FACTORS, rare]), split=split)  # in whatever unit
    assert found.constant_factors == (3,)
    assert scores(found) == pytest.approx(scores(dci(codes, FACTORS, split=split)))
    slope, base = np.polyfit(codes[split.train, 3], rare[split.train], 1)
    error = rare[split.test] - (slope * codes[split.test, 3] + base)
    assert np.sqrt(np.square(error).mean()) / rare[split.test].std() > 10


def test_only_constant_factors() -> None:
    assert scores(dci(FACTORS, np.ones((2000, 2)))) == [0.0, 0.0, 1.0]


def test_one_factor_or_one_code() -> None:
    result = dci(FACTORS[:, :1], FACTORS[:, :1])
    assert (result.disentanglement, result.completeness) == (1.0, 1.0)


@pytest.mark.parametrize("regressor", ["lasso", "random_forest"])
def test_agrees_with_scikit_learn_by_hand(rng: np.random.Generator, regressor: Any) -> None:
    codes = np.tanh(FACTORS @ rng.normal(size=(3, 5))) + 0.1 * rng.normal(size=(2000, 5))
    train, test = np.arange(500, 2000), np.arange(500)
    result = dci(codes, FACTORS, regressor, split=Split(train, test))
    x = (codes - codes[train].mean(0)) / codes[train].std(0)
    for k in range(3):
        if regressor == "lasso":
            y = (FACTORS[:, k] - FACTORS[train, k].mean()) / FACTORS[train, k].std()
            model = Lasso(alpha=0.02).fit(x[train], y[train])
            np.testing.assert_allclose(result.importance[:, k], np.abs(model.coef_), atol=1e-9)
            expected = np.sqrt(1 - r2_score(y[test], model.predict(x[test])))
            assert result.uninformativeness_per_factor[k] == pytest.approx(expected, abs=1e-9)
        else:
            model = RandomForestRegressor(10, max_depth=12, random_state=derived_seed(0, k))
            model.fit(x[train], (FACTORS[train, k] - FACTORS[train, k].mean()) / FACTORS[train, k].std())
            np.testing.assert_allclose(result.importance[:, k], model.feature_importances_, atol=2e-3)  # ties apart


def test_gradient_boosting_tells_classes_as_elsewhere() -> None:
    rng = np.random.default_rng(7)
    factors = np.column_stack([rng.integers(0, 3, 800), rng.normal(size=800)])
    codes = factors + rng.normal(size=factors.shape) / 2
    train, test = np.arange(600), np.arange(600, 800)
    result = dci(codes, factors, "gradient_boosting", split=Split(train, test))
    model = GradientBoostingClassifier(random_state=0).fit(codes[train], factors[train, 0].astype(int))
    accuracy = model.score(codes[test], factors[test, 0].astype(int))
    assert result.uninformativeness_per_factor[0] == pytest.approx(1 - accuracy, abs=0.02)
    np.testing.assert_allclose(result.importance[:, 0], model.feature_importances_, atol=0.01)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_the_seed_decides_everything(rng: np.random.Generator, regressor: Any) -> None:
    codes = FACTORS[:600] @ rng.normal(size=(3, 4))
    first, again, other = (dci(codes, FACTORS[:600], regressor, seed=seed) for seed in (3, 3, 4))
    assert scores(first) == scores(again)
    assert (first.importance == again.importance).all()
    assert scores(first) != scores(other)


def test_every_forest_has_its_own_seed(rng: np.random.Generator) -> None:
    codes = FACTORS @ rng.normal(size=(3, 4))
    importance = dci(codes, FACTORS[:, [0, 0]], "random_forest").importance
    assert (importance[:, 0] != importance[:, 1]).any()


def test_order_and_units_of_codes_do_not_matter_to_the_lasso(rng: np.random.Generator) -> None:
    codes = FACTORS @ rng.normal(size=(3, 4)) + rng.normal(size=(2000, 4))
    order = [3, 0, 2, 1]
    moved = dci(codes[:, order] * [1, -2, 30, 1e-4] + 5, FACTORS * 3 - 1)
    straight = dci(codes, FACTORS)
    np.testing.assert_allclose(scores(moved), scores(straight), atol=1e-3)
    np.testing.assert_allclose(moved.importance, straight.importance[order], atol=1e-3)


def test_nrmse_of_the_mean_is_one() -> None:
    target = FACTORS
    np.testing.assert_allclose(nrmse(target, np.broadcast_to(target.mean(axis=0), target.shape)), 1.0)


def test_no_group_is_on_both_sides() -> None:
    people = np.random.default_rng(0).integers(0, 40, 500).astype(str)
    split = group_split(people, seed=2)
    assert not set(people[split.train]) & set(people[split.test])
    assert sorted([*split.train, *split.test]) == list(range(500))
    assert len(set(people[split.test])) == 10
    with pytest.raises(ValueError, match="nearly empty"):
        group_split(np.zeros(50))


def test_two_rows_are_enough_to_judge_on() -> None:
    """A quarter of seven, to the nearest whole row."""
    assert [len(split.test) for split in (random_split(7), group_split(np.arange(7)))] == [2, 2]


def test_scaled_columns_have_mean_0_and_std_1_or_are_0() -> None:
    """Also where the mean of equal values is not that value, and where squares are below all numbers."""
    equal, small = np.full(6, 0.1), np.repeat([0.0, 1e-200], 3)
    assert equal.mean() != 0.1
    train, test = standardise(np.column_stack([[1.0, 5] * 3, equal, small]), np.array([[9.0, 1, 1]]))
    assert train.T.tolist() == [[-1, 1] * 3, [0] * 6, [0] * 6]
    assert test.tolist() == [[3, 0, 0]]


@pytest.mark.parametrize(
    ("codes", "factors", "options", "message"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), {}, "codes have 5 rows, factors have 4"),
        (np.zeros(5), np.zeros((5, 2)), {}, "two dimensions"),
        (np.full((50, 2), np.nan), np.zeros((50, 2)), {}, "row 0, column 0"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"regressor": "ridge"}, "lasso"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"split": Split(np.arange(30), np.arange(29, 50))}, "share"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"split": Split(np.arange(30), np.arange(30, 51))}, "outside"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"split": Split(np.arange(-1, 30), np.arange(30, 50))}, "outside"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"split": Split(np.arange(50) < 30, np.arange(30, 50))}, "train must"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"split": Split(np.arange(30), np.arange(49, 50))}, "test must"),
        (
            np.zeros((50, 2)),
            np.zeros((50, 2)),
            {"split": Split(np.arange(30)[:, None], np.arange(30, 50))},
            "train must",
        ),
        (np.zeros((3, 2)), np.zeros((3, 2)), {}, "fewer than two"),
    ],
)
def test_bad_input_is_named(codes: Any, factors: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dci(codes, factors, **options)
