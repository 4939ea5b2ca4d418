"""The interventional robustness score on codes whose score is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gated_vae.models.metrics import irs

A, B = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])


def test_four_rows_by_hand() -> None:
    """4a + b is (0, 1, 4, 5): 2.5 from its mean at most, 0.5 while a is held, 2 while b is. 2b is 1 from it, 0 while b is held."""
    codes = np.column_stack([4 * A + B, np.full(4, 7), 2 * B])
    found = irs(codes, np.column_stack([A, B, np.ones(4)]))
    np.testing.assert_allclose(found.matrix, [[0.8, 0.2, 0], [0, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(found.per_code, [0.8, 0, 1], atol=1e-12)
    assert found.score == pytest.approx((2.5 * 0.8 + 1 * 1) / 3.5)


def test_at_most_is_a_quantile() -> None:
    """While the factor is 0: 1, 1 and 2 from the mean; while it is 1, which counts the same: nothing. 0 is 43/7 from the mean."""
    codes, factor = np.array([[0], [0], [3], [10], [10], [10], [10]]), np.repeat([0, 1], [3, 4])[:, None]
    for quantile, moved in ((0.5, 1.0), (1.0, 2.0), (0.99, 1.98)):
        assert irs(codes, factor, quantile=quantile).score == pytest.approx(1 - moved / 2 / (43 / 7))


def test_one_code_per_factor_is_perfect_and_what_tells_nothing_is_not() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, [3, 6, 10], (4000, 3))
    assert irs(factors[:, [2, 0, 1]] * [-3.0, 1, 2], factors).score == 1
    assert irs(rng.normal(size=(4000, 3)), factors).score < 0.4
    for codes, known in ((np.zeros((9, 2)), np.arange(9)[:, None]), (rng.normal(size=(9, 2)), np.ones((9, 1)))):
        assert irs(codes, known).score == 0
    with pytest.raises(ValueError, match="Quantiles"):
        irs(factors, factors, quantile=2)
