from __future__ import annotations

from pathlib import Path

import pytest

from gated_vae.models.objectives import VAE
from gated_vae.pipelines.presets import PRESETS, read_kl_weights, read_latent
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store


def paired(partitions: list[str], shape: list[int]) -> Store:
    return Store(Path("store"), {"image_shape": shape, "partitions": {name: {} for name in partitions}})


def test_kl_weights_are_read_by_partition() -> None:
    partitions = ("pose", "expression")
    assert read_kl_weights("expression=0.2, pose = 2", partitions) == {"expression": 0.2, "pose": 2.0}
    for text, message in (
        ("mouth=1", "no partition"),
        ("pose=-1", "cannot be read at 'pose=-1'"),
        ("pose", "at 'pose'"),
    ):
        with pytest.raises(GatedVAEError, match=message):
            read_kl_weights(text, partitions)


def test_a_preset_s_kl_weights_are_for_the_partitions_there_are() -> None:
    model = PRESETS["faces-partners"].model(paired(["pose", "identity"], [64, 64]))
    assert model.kl_weights == {"pose": 0.3}
    assert model.latent == {"pose": 4, "identity": 6}


@pytest.mark.parametrize(("shape", "beta"), [([64, 64], 0.25), ([32, 32], 0.0625), ([128, 64], 0.5)])
def test_beta_goes_with_the_number_of_pixels(shape: list[int], beta: float) -> None:
    assert PRESETS["faces"].model(paired(["pose"], shape)).objective == VAE(beta)


def test_a_partition_of_pairs_that_differ_in_some_factors_has_dimensions_for_all() -> None:
    partitions = {"shape": {"method": "exact"}, "changed": {"method": "change"}}
    store = Store(
        Path("store"), {"image_shape": [64, 64], "partitions": partitions, "factors": {"shape": 3, "x": 4, "y": 4}}
    )
    assert PRESETS["dsprites-vae"].model(store).latent == {"shape": 2, "changed": 6}


def test_latent_sizes_are_of_some_of_the_partitions_in_their_order() -> None:
    partitions = ("pose", "expression", "changed")
    assert read_latent("changed=10", partitions) == {"changed": 10}
    assert [*read_latent("changed=1, pose=2", partitions).items()] == [("pose", 2), ("changed", 1)]
    for text in ("mouth=2", "pose=2,pose=3", "pose=2,mouth=3"):
        with pytest.raises(GatedVAEError, match="do not match"):
            read_latent(text, partitions)
