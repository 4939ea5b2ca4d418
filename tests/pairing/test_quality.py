from __future__ import annotations

import math

import numpy as np
import pytest

from gated_vae.pairing.labels import EXPRESSION, POSE
from gated_vae.pairing.quality import column_quality, correlation, mean_difference, size_histogram


def test_a_column_is_measured_in_its_unit() -> None:
    yaw = np.array([0.0, 0.1, 1.0, 1.2])
    target, crossed = np.array([1, 0, 3, 2]), np.array([2, 3, 0, 1])
    quality = column_quality(POSE, yaw, yaw[target], yaw[crossed], shared=True)
    assert (quality.shared, quality.unit) == (True, "degrees")
    assert quality.apart == pytest.approx(math.degrees((0.1 + 0.1 + 0.2 + 0.2) / 4))
    assert quality.apart_random == pytest.approx(math.degrees((0.1 + 1.0 + 1.2 + 0.9 + 1.1 + 0.2) / 6))
    assert quality.correlation == pytest.approx(np.corrcoef(yaw, yaw[target])[0, 1])
    assert quality.correlation_uniform == pytest.approx(np.corrcoef(yaw, yaw[crossed])[0, 1])
    assert column_quality(EXPRESSION, yaw, yaw[target], yaw[crossed], shared=False).apart == pytest.approx(0.15)


def test_the_mean_difference_is_that_of_all_pairs() -> None:
    values = np.random.default_rng(0).gamma(0.5, size=200).round(1)
    everyone = np.abs(values[:, None] - values[None])
    assert mean_difference(values) == pytest.approx(everyone.sum() / (200 * 199))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_constant_column_has_no_correlation(constant: float) -> None:
    values = np.full(7, constant)
    assert correlation(values, np.arange(7.0)) is None
    assert mean_difference(values) == pytest.approx(0, abs=1e-12 * max(constant, 1))


def test_sizes_are_counted_by_powers_of_two() -> None:
    sizes = np.array([0, 0, 1, 2, 3, 4, 7, 8, 31, 32])
    assert size_histogram(sizes) == {"0": 2, "1": 1, "2-3": 2, "4-7": 2, "8-15": 1, "16-31": 1, "32-63": 1}
    assert size_histogram(np.array([2, 2])) == {"0": 0, "1": 0, "2-3": 2}
