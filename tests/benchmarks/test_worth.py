"""What a pair is worth: against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.worth import Means, bernoulli, critical


def test_a_pixel_that_is_the_factor_earns_a_nat_for_each_that_it_costs() -> None:
    """One pixel, on for one of two values: telling the value with certainty p earns ln 2 - H(p), which is what it costs."""
    changes, mean = np.array([[0.5], [-0.5]]), 0.5
    assert critical(changes, np.array([1 / (mean * (1 - mean))])) == pytest.approx(1.0)


def test_twice_the_pixels_are_worth_twice_as_much() -> None:
    assert critical(np.array([[0.5, 0.5], [-0.5, -0.5]]), np.full(2, 4.0)) == pytest.approx(2.0)


def test_cross_entropy_of_a_fair_coin() -> None:
    assert bernoulli(np.full((3, 4), 0.5)) == pytest.approx(np.full(3, 4 * np.log(2)))
    assert bernoulli(np.array([1.0]), np.array([0.25])) == pytest.approx(np.log(4))


def test_means_of_each_value_of_each_factor() -> None:
    """Against a mean over all images of a value, taken the long way."""
    images = np.random.default_rng(0).integers(0, 2, (3, 6, 40, 4, 5), dtype=np.uint8) * 255
    means = Means.read(images)
    assert means.whole == pytest.approx((images > 0).mean((0, 1, 2, 3)))
    for name, axis in {"shape": 0, "size": 1, "rotation": 2, "position": 3}.items():
        expected = (images > 0).mean(tuple({0, 1, 2, 3} - {axis}))
        assert means.of[name] == pytest.approx(expected)
