from __future__ import annotations

from pathlib import Path

import pytest

from gated_vae.pipelines.training.presets import PRESETS, choose_kl_weights
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store


def test_kl_weights_are_read_by_partition() -> None:
    latent = {"pose": 6, "expression": 18}
    assert choose_kl_weights(None, latent) == {}
    assert choose_kl_weights("expression=0.2, pose = 2", latent) == {"expression": 0.2, "pose": 2.0}
    for text, message in (
        ("mouth=1", "no partition"),
        ("pose=-1", "cannot be read at 'pose=-1'"),
        ("pose", "at 'pose'"),
    ):
        with pytest.raises(GatedVAEError, match=message):
            choose_kl_weights(text, latent)


def test_a_preset_s_kl_weights_are_for_the_partitions_there_are() -> None:
    preset = PRESETS["faces-partners"]
    assert choose_kl_weights(None, {"pose": 4, "identity": 6}, preset.kl_weights) == {"pose": 0.3}
    assert choose_kl_weights("identity=2", {"pose": 4, "identity": 6}, preset.kl_weights) == {"identity": 2.0}


@pytest.mark.parametrize(("shape", "beta"), [([64, 64], 0.25), ([32, 32], 0.0625), ([128, 64], 0.5)])
def test_beta_goes_with_the_number_of_pixels(shape: list[int], beta: float) -> None:
    store = Store(Path("store"), {"image_shape": shape})
    assert PRESETS["faces"].objective_for(store).beta == beta
