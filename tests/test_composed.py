"""Targets composed of several samples' factors, against a search through the table of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_grid_store, make_store

from pairing.composed import Composition
from pairing.exact import FactorGrid, pair_exactly
from preprocessing.errors import GatedVAEError
from preprocessing.store import Store, open_store

GRID = FactorGrid(("a", "b", "c", "d"), (2, 3, 4, 5))


@pytest.fixture
def grid_store(tmp_path: Path) -> Store:
    return make_grid_store(tmp_path / "grid", GRID)


def test_a_target_has_the_factors_of_its_sources_and_else_its_own(grid_store: Store) -> None:
    pair_exactly(grid_store, {"last": ("d", "b"), "first": ("a",)})
    store = open_store(grid_store.path)
    classes = np.stack(np.unravel_index(np.arange(GRID.size), GRID.sizes), axis=1)  # independent of `FactorGrid`
    rng = np.random.default_rng(0)
    ids, sources = rng.integers(0, GRID.size, 40), rng.integers(0, 40, (2, 40))
    targets = Composition(store, ["last", "first"]).target_ids(ids, sources)
    for row, target in enumerate(targets):
        a, _, _, _ = classes[ids[sources[1, row]]]
        _, b, _, d = classes[ids[sources[0, row]]]
        c = classes[ids[row]][2]
        assert classes[target].tolist() == [a, b, c, d]
    found = Composition(store, ["first"]).targets(torch.from_numpy(ids), torch.arange(40)[None])
    assert np.array_equal(found.numpy(), store.images[ids])


def test_what_cannot_be_composed_is_refused(tmp_path: Path, grid_store: Store) -> None:
    pair_exactly(grid_store, {"one": ("a", "b"), "two": ("b", "c")})
    with pytest.raises(GatedVAEError, match="Two partitions share b"):
        Composition(open_store(grid_store.path), ["one", "two"])
    with pytest.raises(GatedVAEError, match="no partition three"):
        Composition(open_store(grid_store.path), ["three"])
    with pytest.raises(GatedVAEError, match="every combination"):
        Composition(make_store(tmp_path / "faces", 60), ["pose"])
