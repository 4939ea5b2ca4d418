"""Targets composed of several samples' factors, against a search through the table of samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.stream.composed import Composition, deal
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, open_store
from tests.stores import make_grid_store, make_store

GRID = FactorGrid(("a", "b", "c", "d"), (2, 3, 4, 5))
CLASSES = np.stack(np.unravel_index(np.arange(GRID.size), GRID.sizes), axis=1)  # independent of `FactorGrid`


def paired(path: Path, shares: dict[str, tuple[str, ...]]) -> Store:
    pair_exactly(make_grid_store(path, GRID), shares)
    return open_store(path)


def test_a_target_has_the_factors_of_its_sources_and_else_its_own(tmp_path: Path) -> None:
    store = paired(tmp_path / "grid", {"last": ("d", "b"), "first": ("a",)})
    random = np.random.default_rng(0)
    ids = random.integers(0, GRID.size, 40)
    sources, targets = Composition(store, ["last", "first"]).compose(ids, 0.3, random)
    for row, target in enumerate(targets):
        a, _, _, _ = CLASSES[ids[sources[1, row]]]
        _, b, _, d = CLASSES[ids[sources[0, row]]]
        c = CLASSES[ids[row]][2]
        assert CLASSES[target].tolist() == [a, b, c, d]


def test_partitions_that_share_a_factor_get_sources_that_agree_in_it(tmp_path: Path) -> None:
    store = paired(tmp_path / "grid", {"turn": ("a", "c"), "shape": ("a",), "place": ("d",)})
    random = np.random.default_rng(0)
    ids = random.integers(0, GRID.size, 64)
    for share in (0.0, 0.5, 1.0):
        (turn, shape, place), targets = Composition(store, ["turn", "shape", "place"]).compose(ids, share, random)
        assert np.array_equal(CLASSES[targets][:, 0], CLASSES[ids[turn]][:, 0])
        assert np.array_equal(CLASSES[targets][:, 0], CLASSES[ids[shape]][:, 0])
        assert np.array_equal(CLASSES[targets][:, 2], CLASSES[ids[turn]][:, 2])
        assert np.array_equal(CLASSES[targets][:, 3], CLASSES[ids[place]][:, 3])
        own = [float((rows == np.arange(64)).mean()) for rows in (turn, shape, place)]
        assert own == pytest.approx([share] * 3, abs=0.3)
        if share == 1:
            assert np.array_equal(targets, ids)


def test_dealing_is_a_permutation_within_each_key_and_fair() -> None:
    random = np.random.default_rng(0)
    keys = random.integers(0, 4, 60)
    wanted = random.permutation(keys)
    dealt = deal(keys, wanted, random)
    assert np.array_equal(keys[dealt], wanted)
    assert sorted(dealt) == list(range(60))
    few, many = np.array([7, 8, 8]), np.array([8, 8, 8, 8, 7, 8, 8])
    counts = Counter(deal(few, many, random).tolist())
    assert counts == {0: 1, 1: 3, 2: 3}
    seen = np.zeros((5, 5))
    for _ in range(4000):
        seen[np.arange(5), deal(np.zeros(5, int), np.zeros(5, int), random)] += 1
    assert np.abs(seen / 4000 - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_what_cannot_be_composed_is_refused(tmp_path: Path) -> None:
    store = paired(tmp_path / "grid", {"one": ("a",), "two": ("b",), "both": ("a", "b")})
    with pytest.raises(GatedVAEError, match="both has factors in common with one and two"):
        Composition(store, ["one", "two", "both"])
    with pytest.raises(GatedVAEError, match="no partition three"):
        Composition(store, ["three"])
    other = store.with_partitions({**store.partitions, "two": {**store.partitions["two"], "method": "kmeans"}})
    with pytest.raises(GatedVAEError, match="every combination"):
        Composition(other, ["one", "two"])
    with pytest.raises(GatedVAEError, match="every combination"):
        Composition(make_store(tmp_path / "faces", 60), ["pose"])
