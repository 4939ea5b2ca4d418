from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gated_vae.pairing import draw_partners
from gated_vae.pairing.rules.base import BLOCK, Members, random_below
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.preprocessing.errors import GatedVAEError

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix(state: int) -> int:
    """The finaliser, written with plain integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def random_below_plainly(bound: int, number: int, seed: int, draw: int) -> int:
    key = splitmix(splitmix((seed + GOLDEN) & MASK) + draw * GOLDEN & MASK)
    return (splitmix((number + 1) * GOLDEN + key & MASK) >> 32) * bound >> 32


def test_the_finaliser_gives_the_published_first_output_of_splitmix64() -> None:
    assert splitmix(1234567 + GOLDEN) == 6457827717110365317


@given(
    bound=st.integers(1, 2**32 - 1),
    numbers=st.lists(st.integers(0, 2**62), min_size=1, max_size=5),
    seed=st.integers(0, MASK),
    draw=st.integers(0, 2**32 - 1),
)
def test_random_below_agrees_with_plain_integers(bound: int, numbers: list[int], seed: int, draw: int) -> None:
    drawn = random_below(bound, np.array(numbers), seed=seed, draw=draw)
    assert drawn.tolist() == [random_below_plainly(bound, number, seed, draw) for number in numbers]


def test_random_below_reads_narrow_ids_and_leaves_its_arguments_alone() -> None:
    ids, bound = np.arange(1000, dtype=np.int32), np.full(1000, 9, np.int32)
    assert np.array_equal(
        random_below(bound, ids, seed=1, draw=2), random_below(9, ids.astype(np.int64), seed=1, draw=2)
    )
    assert np.array_equal(ids, np.arange(1000))
    assert (bound == 9).all()


@given(
    sizes=st.lists(st.integers(2, 6), min_size=1, max_size=20), seed=st.integers(0, 2**64 - 1), draw=st.integers(0, 9)
)
def test_partners_are_others_of_the_same_group(sizes: list[int], seed: int, draw: int) -> None:
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    target = draw_partners(group, seed=seed, draw=draw)
    assert target.dtype == np.int64
    assert (group[target] == group).all()
    assert (target != np.arange(len(group))).all()


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_partners_are_those_that_lists_of_the_others_give(index: type[np.integer[Any]]) -> None:
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(9), np.arange(2, 11))).tolist()
    members = Members.of(group)
    wide = Members(*(getattr(members, name).astype(index) for name in ("group", "ids", "offsets", "rank")))
    expected = []
    for sample, own in enumerate(group):
        others = [other for other, label in enumerate(group) if label == own and other != sample]
        expected.append(others[random_below_plainly(len(others), sample, 7, 3)])
    assert UniformPartners(wide).partners(np.arange(len(group)), seed=7, draw=3).tolist() == expected


def test_every_partner_is_equally_likely() -> None:
    group = np.array([0, 1, 0, 1, 0, 0, 1, 0])  # five in group 0, three in group 1
    counts = np.zeros((8, 8), int)
    for draw in range(4000):
        np.add.at(counts, (np.arange(8), draw_partners(group, seed=5, draw=draw)), 1)
    allowed = (group[:, None] == group[None]) & ~np.eye(8, dtype=bool)
    assert (counts[~allowed] == 0).all()
    for sample in range(8):
        assert stats.chisquare(counts[sample, allowed[sample]]).pvalue > 1e-4


def test_draws_and_seeds_are_independent_of_each_other() -> None:
    group = np.repeat(np.arange(200), 50)
    first = draw_partners(group, seed=0, draw=0)
    for other in (draw_partners(group, seed=0, draw=1), draw_partners(group, seed=1, draw=0)):
        agree = (first == other).mean()  # by chance 1 / 49, standard deviation 0.0014
        assert abs(agree - 1 / 49) < 0.007


def test_any_slice_in_any_order_gives_the_same_partners() -> None:
    group = np.random.default_rng(0).integers(0, 40, 3 * BLOCK + 17)
    members = UniformPartners(Members.of(group))
    everyone = members.partners(np.arange(len(group)), seed=3, draw=1)
    some = np.random.default_rng(1).permutation(len(group))[: BLOCK + 5]
    assert np.array_equal(members.partners(some, seed=3, draw=1), everyone[some])
    assert np.array_equal(draw_partners(group.astype(np.uint8), seed=3, draw=1), everyone)


@pytest.mark.parametrize("label", [lambda g: g - 7, lambda g: g * 10**12, lambda g: g.astype(np.uint64) + 2**63])
def test_labels_may_be_any_integers(label) -> None:  # type: ignore[no-untyped-def]
    group = np.random.default_rng(0).integers(0, 9, 500)
    assert np.array_equal(draw_partners(label(group)), draw_partners(group))


def test_members_are_listed_as_a_scan_finds_them() -> None:
    group = np.random.default_rng(0).choice([0, 2, 3, 7], 300)
    members = Members.of(group)
    for g in range(8):
        assert np.array_equal(members.ids[members.offsets[g] : members.offsets[g + 1]], np.flatnonzero(group == g))
    assert members.sizes.tolist() == np.bincount(group).tolist()
    assert members.rank.tolist() == [int((group[:i] == group[i]).sum()) for i in range(300)]


def test_samples_alone_are_counted_in_the_refusal() -> None:
    with pytest.raises(GatedVAEError, match="2 samples are alone"):
        draw_partners([0, 1, 1, 2, 3, 3])


@pytest.mark.parametrize("group", [[0.0, 0.0], [[0, 0]], ["a", "a"]])
def test_groups_that_are_not_integers_are_refused(group: list[object]) -> None:
    with pytest.raises(GatedVAEError, match="one integer per sample"):
        draw_partners(group)


def test_nothing_is_drawn_from_nothing() -> None:
    assert draw_partners(np.empty(0, int)).shape == (0,)
