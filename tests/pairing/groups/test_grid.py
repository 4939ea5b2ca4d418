from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.rules.uniform import draw_partners
from gated_vae.preprocessing.errors import GatedVAEError

DSPRITES = FactorGrid(("shape", "scale", "orientation", "posX", "posY"), (3, 6, 40, 32, 32))
SMALL = FactorGrid(("a", "b", "c", "d"), (2, 3, 1, 4))
SUBSETS = [("a",), ("b",), ("d",), ("c",), ("a", "d"), ("b", "c"), ("a", "b", "c"), ("c", "d"), ("b", "d")]


def digits(grid: FactorGrid, ids: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(grid.names, np.unravel_index(ids, grid.sizes), strict=True))


@pytest.mark.parametrize("shared", SUBSETS)
def test_partners_are_those_of_scanned_groups_on_a_small_grid(shared: Sequence[str]) -> None:
    ids = np.arange(SMALL.size)
    classes = digits(SMALL, ids)
    label = list(zip(*(classes[name] for name in shared), strict=True))
    scanned = np.array([sorted(set(label)).index(key) for key in label])
    assert np.array_equal(SMALL.group(ids, shared), scanned)
    for seed, draw in [(0, 0), (0, 1), (7, 0)]:
        expected = draw_partners(scanned, seed=seed, draw=draw)
        assert np.array_equal(SMALL.partners(ids, shared, seed=seed, draw=draw), expected)


@pytest.mark.parametrize(
    "shared", [("posX", "posY"), ("orientation",), ("shape",), ("scale",), ("shape", "orientation", "posY")]
)
def test_partners_share_just_what_they_should_on_the_full_grid(shared: Sequence[str]) -> None:
    ids = np.random.default_rng(0).integers(0, DSPRITES.size, 20_000)
    targets = DSPRITES.partners(ids, shared, seed=3, draw=5)
    assert ((targets >= 0) & (targets < DSPRITES.size) & (targets != ids)).all()
    own, others = digits(DSPRITES, ids), digits(DSPRITES, targets)
    for name, size in zip(DSPRITES.names, DSPRITES.sizes, strict=True):
        agreeing = np.mean(own[name] == others[name])
        assert agreeing == 1 if name in shared else abs(agreeing - 1 / size) < 0.02
    whole = draw_partners(DSPRITES.group(np.arange(DSPRITES.size), shared), seed=3, draw=5)
    assert np.array_equal(targets, whole[ids])


def test_a_sample_s_partner_does_not_depend_on_the_batch_or_the_order_of_factors() -> None:
    ids = np.random.default_rng(1).permutation(DSPRITES.size)[:50_000]
    whole = DSPRITES.partners(ids, ("posX", "posY"), seed=0, draw=0)
    parts = [DSPRITES.partners(part, ("posY", "posX"), seed=0, draw=0) for part in np.array_split(ids, 37)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(DSPRITES.partners(ids, ("posX", "posY"), seed=1, draw=0), whole)
    assert not np.array_equal(DSPRITES.partners(ids, ("posX", "posY"), seed=0, draw=1), whole)
    assert len(DSPRITES.partners(ids[:0], ("shape",), seed=0, draw=0)) == 0


def test_partners_are_uniform_over_the_others() -> None:
    grid = FactorGrid(("a", "b"), (3, 8))
    draws = np.stack([grid.partners(np.arange(24), ("a",), seed=11, draw=draw) for draw in range(4000)])
    for sample in range(24):
        counts = np.bincount(draws[:, sample], minlength=24)
        members = np.arange(sample // 8 * 8, sample // 8 * 8 + 8)
        others = members[members != sample]
        assert counts[others].sum() == 4000
        assert stats.chisquare(counts[others]).pvalue > 1e-4


def test_impossible_sharing_is_refused() -> None:
    ids = np.arange(4)
    with pytest.raises(GatedVAEError, match="every one would be alone"):
        SMALL.partners(ids, ("d", "c", "b", "a"), seed=0, draw=0)
    with pytest.raises(GatedVAEError, match="every one would be alone"):  # what is left out has one class only
        SMALL.partners(ids, ("a", "b", "d"), seed=0, draw=0)
    with pytest.raises(GatedVAEError, match="must share something"):
        SMALL.group(ids, ())
    with pytest.raises(GatedVAEError, match=r"no column e\.\nThere are a, b, c, d\."):
        SMALL.group(ids, ("a", "e"))


@pytest.mark.parametrize("k", [1, 2])
def test_changed_partners_differ_in_exactly_k_factors_each_as_likely(k: int) -> None:
    """Every partner that there is, counted: factors are as likely as each other, then the classes of each (c has one)."""
    own, draws = 17, 2000
    found = np.array([int(SMALL.changed(np.array([own]), k, seed=5, draw=draw)[0]) for draw in range(draws)])
    classes = np.stack([*digits(SMALL, np.arange(SMALL.size)).values()])
    differs = classes != classes[:, [own]]
    shares = (
        np.where(differs, 1 / np.maximum(np.array(SMALL.sizes)[:, None] - 1, 1), 1).prod(0) / 3
    )  # of 3 choices of k
    expected = np.where(differs.sum(0) == k, shares, 0.0)
    assert expected.sum() == pytest.approx(1)
    counts = np.bincount(found, minlength=SMALL.size)
    assert not counts[expected == 0].any()
    assert stats.chisquare(counts[expected > 0], draws * expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_changed_partners_on_the_full_grid(k: int) -> None:
    ids = np.random.default_rng(0).integers(0, DSPRITES.size, 70_000)
    targets = DSPRITES.changed(ids, k, seed=3, draw=5)
    own, others = (np.stack([*digits(DSPRITES, rows).values()]) for rows in (ids, targets))
    assert ((own != others).sum(0) == k).all()
    assert np.allclose((own != others).mean(1), k / 5, atol=0.01)
    assert abs(np.corrcoef((own != others)[:2])[0, 1] - (-0.25)) < 0.02  # as of k drawn without replacement out of 5
    assert np.array_equal(DSPRITES.changed(ids[60_000:], k, seed=3, draw=5), targets[60_000:])
    for other in ({"seed": 4, "draw": 5}, {"seed": 3, "draw": 6}):
        again = np.stack([*digits(DSPRITES, DSPRITES.changed(ids, k, **other)).values()])
        assert abs(np.corrcoef((own != others)[0], (own != again)[0])[0, 1]) < 0.02
