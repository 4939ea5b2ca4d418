from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gated_vae.pairing.rules.uniform import Members
from gated_vae.pairing.rules.weighted import WeightedPartners, confidence_weights
from gated_vae.preprocessing.errors import GatedVAEError


def test_partners_are_drawn_in_proportion_to_their_weights() -> None:
    rng = np.random.default_rng(0)
    group, weights = rng.permutation(np.repeat(np.arange(6), [2, 3, 4, 6, 9, 12])), rng.integers(1, 50, 36)
    partners, ids = WeightedPartners.of(Members.of(group), weights), np.arange(36)
    targets = np.stack([partners.partners(ids, seed=3, draw=draw) for draw in range(5000)])
    for sample in ids:
        others = (group == group[sample]) & (ids != sample)
        found = np.bincount(targets[:, sample], minlength=36)
        assert found[~others].sum() == 0
        expected = 5000 * weights[others] / weights[others].sum()
        assert others.sum() == 1 or stats.chisquare(found[others], expected).pvalue > 1e-5
    some = rng.permutation(36)[:10]
    assert np.array_equal(partners.partners(some, seed=3, draw=11), targets[11, some])


def test_every_point_of_the_line_belongs_to_whom_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """All numbers that can be drawn, in order: each other member comes as often as it weighs."""
    group, weights = np.array([1, 0, 1, 0, 1]), np.array([2, 5, 1, 4, 3])
    partners = WeightedPartners.of(Members.of(group), weights)
    for sample in range(5):
        others = [other for other in range(5) if group[other] == group[sample] and other != sample]
        expected = [other for other in others for _ in range(weights[other])]
        found = []
        for number in range(len(expected)):

            def given(bound: np.ndarray, ids: np.ndarray, *, number: int = number, **_: int) -> np.ndarray:
                assert bound.tolist() == [len(expected)]  # noqa: B023
                return np.full(len(ids), number)

            monkeypatch.setattr("gated_vae.pairing.rules.weighted.random_below", given)
            found += partners.partners(np.array([sample]), seed=0, draw=0).tolist()
        assert found == expected


def test_confidence_counts_above_where_faces_begin_to_be_taken() -> None:
    confidence = np.array([0.983, 0.917, 0.883, 0.85, 0.817, 0.805, 0.3, np.nan, 1.0], np.float32)
    assert confidence_weights(confidence).tolist() == [183, 117, 83, 50, 17, 10, 10, 10, 200]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(GatedVAEError, match="1 samples are alone"):
        WeightedPartners.of(Members.of(np.array([0, 1, 1])), np.ones(3, int))
    with pytest.raises(GatedVAEError, match="too large"):
        WeightedPartners.of(Members.of(np.array([0, 0, 3, 3])), np.array([1, 1, 2**31, 2**31]))
    partners = WeightedPartners.of(Members.of(np.array([0, 0, 3, 3])), np.array([1, 1, 2**31, 2**31 - 1]))
    assert partners.partners(np.arange(4), seed=0, draw=0).tolist() == [1, 0, 3, 2]
