from __future__ import annotations

import pytest

from pipelines.presets import choose_kl_weights
from preprocessing.errors import GatedVAEError


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
