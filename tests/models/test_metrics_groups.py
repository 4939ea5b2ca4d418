"""The beta-VAE and FactorVAE metrics, and the groups they draw, on codes whose score is known."""

from __future__ import annotations

import numpy as np
import pytest

from gated_vae.models.metrics import beta_vae, factor_vae
from gated_vae.models.metrics.groups import SameValue

RNG = np.random.default_rng(0)  # of what tests share; each draws from an `rng` of its own
FACTORS = RNG.integers(0, [3, 6, 10], (4000, 3)).astype(float)


def test_groups_share_the_value_and_reach_every_row() -> None:
    factor = np.array([5, 1, 5, 5, 1, 9], dtype=float)  # 9 stands alone and cannot be shared
    rows = SameValue.of(factor, 2).draw(2000, 3, np.random.default_rng(0))
    assert (factor[rows] == factor[rows[:, :1]]).all()
    assert set(rows.ravel()) == {0, 1, 2, 3, 4}
    assert np.mean(factor[rows[:, 0]] == 5) == pytest.approx(3 / 5, abs=0.04)


def test_pairs_are_different_rows_and_uniform() -> None:
    factor = np.array([5, 1, 5, 5, 1, 9], dtype=float)
    first, second = SameValue.of(factor, 2).draw_pairs(8000, np.random.default_rng(0))
    assert (factor[first] == factor[second]).all()
    assert (first != second).all()
    pairs, counts = np.unique(np.column_stack([first, second]), axis=0, return_counts=True)
    assert len(pairs) == 3 * 2 + 2 * 1
    expected = np.where(factor[pairs[:, 0]] == 5, 8000 / 5 / 2, 8000 / 5)
    np.testing.assert_allclose(counts, expected, rtol=0.12)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["one to one", "permuted"])
def test_one_code_per_factor_is_perfect(order: list[int]) -> None:
    codes = FACTORS[:, order] * [1e-3, 1, -50]
    result = factor_vae(codes, FACTORS)
    assert result.score == 1
    assert (result.votes.argmax(axis=0) == np.argsort(order)).all()
    assert beta_vae(codes, FACTORS) == 1


def test_codes_are_compared_in_units_of_their_own_spread(rng: np.random.Generator) -> None:
    noisy = FACTORS / FACTORS.std(axis=0) + 0.1 * rng.normal(size=FACTORS.shape)
    assert factor_vae(noisy * [1e-3, 1, 50], FACTORS).score == 1


def test_what_is_learnt_by_heart_does_not_count(rng: np.random.Generator) -> None:
    """Of 90 points in 60 dimensions a linear rule can tell nearly all apart, of others like them a third."""
    assert beta_vae(rng.normal(size=(4000, 60)), FACTORS, points=30, pairs=1) == pytest.approx(1 / 3, abs=0.15)


def test_random_codes_are_at_chance(rng: np.random.Generator) -> None:
    codes = rng.normal(size=(4000, 4))
    assert factor_vae(codes, FACTORS).score == pytest.approx(1 / 3, abs=0.06)
    assert beta_vae(codes, FACTORS) == pytest.approx(1 / 3, abs=0.06)


def test_one_code_for_two_factors_can_be_right_for_one() -> None:
    # Code 1 stands still for factors 1 and 2 alike, so only one of the two can be told by its vote.
    factors = FACTORS[:, [0, 1, 1]]
    assert factor_vae(FACTORS[:, :2], factors).score == pytest.approx(2 / 3)


def test_dead_codes_get_no_vote() -> None:
    padded = np.hstack([np.full((4000, 1), 0.1), FACTORS])
    result = factor_vae(padded, FACTORS)
    assert result.score == 1
    assert not result.votes[0].any()
    assert beta_vae(padded, FACTORS) == 1
    assert factor_vae(np.zeros((4000, 2)), FACTORS).score == 0


def test_constant_factors_are_left_out() -> None:
    factors = np.hstack([FACTORS, np.ones((4000, 1))])
    assert factor_vae(FACTORS, factors).score == 1
    assert beta_vae(FACTORS, factors) == 1
    assert beta_vae(FACTORS, factors[:, 2:]) == 1  # of one factor that varies there is nothing to tell apart


def test_the_beta_vae_metric_is_lenient_to_mixtures() -> None:
    # |z - z'| of x + y and x - y shrinks in both codes whichever is shared, but by different amounts
    # when the factors' spreads differ: a linear rule tells them apart, while the vote cannot.
    x, y = np.random.default_rng(1).integers(0, 10, (2, 4000)) * np.array([[1.0], [3.0]])
    mixed, factors = np.column_stack([x + y, x - y]), np.column_stack([x, y])
    assert beta_vae(mixed, factors) > 0.95
    assert factor_vae(mixed, factors).score < 0.6


def test_the_seed_decides_everything(rng: np.random.Generator) -> None:
    codes = FACTORS + 4 * rng.normal(size=FACTORS.shape)
    first, again, other = (factor_vae(codes, FACTORS, seed=seed).votes for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert beta_vae(codes, FACTORS, seed=1) == beta_vae(codes, FACTORS, seed=1)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="shared by 64 rows"):
        factor_vae(FACTORS, np.arange(4000.0)[:, None])
    with pytest.raises(ValueError, match="constant"):
        beta_vae(FACTORS, np.ones((4000, 1)))
