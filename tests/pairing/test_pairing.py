from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gated_vae import pairing
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.store import Store


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_seeds_are_from_0_to_2_to_the_63(seed: int, store: Store) -> None:
    """A larger one would be taken modulo something, and stand for another's pairs."""
    makers: list[Callable[[int], object]] = [
        lambda seed: pairing.group_kmeans(np.eye(8), 2, seed=seed),
        lambda seed: pairing.draw_partners([0, 0], draw=seed),
        lambda seed: pairing.PairLoader(store, 8, seed=seed),
        lambda seed: pairing.PairLoader(store, 8, epoch=seed),
        lambda seed: FaceSimulation(3, seed),
        lambda seed: TrainConfig("store", GatedVAEConfig({"a": 1}, (16, 16), "fc"), steps=1, seed=seed),
    ]
    for make in makers:
        with pytest.raises(GatedVAEError, match="cannot be used"):
            make(seed)
        with pytest.raises(TypeError):
            make(1.5)  # type: ignore[arg-type]
        assert make(np.int64(3)) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_partners_are_drawn_by_any_64_bits(seed: int) -> None:
    with pytest.raises(GatedVAEError, match="cannot be used"):
        pairing.draw_partners([0, 0], seed=seed)
    assert pairing.draw_partners([0, 0], seed=2**64 - 1).tolist() == [1, 0]
    assert pairing.draw_partners([0, 0], seed=np.int64(3)).tolist() == [1, 0]  # type: ignore[arg-type]


def test_a_loader_visits_a_partition_once(store: Store) -> None:
    with pytest.raises(GatedVAEError, match="named twice"):
        pairing.PairLoader(store, 8, partitions=["pose", "pose"])


def test_the_stable_names_are_there() -> None:
    assert [getattr(pairing, name).__name__ for name in pairing.__all__] == pairing.__all__
    with pytest.raises(AttributeError, match="no attribute 'draw_partner'"):
        _ = pairing.draw_partner
