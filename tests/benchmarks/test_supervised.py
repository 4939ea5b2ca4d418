"""A network that is told labels: on pictures that show them plainly, and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.supervised import fit, r2_of


def test_a_label_that_shows_is_read_from_other_pictures_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(600, 2)).astype(np.float32)
    grey = np.clip(128 + 30 * labels[:, 0], 0, 255)
    images = np.broadcast_to(grey[:, None, None], (600, 16, 16)).astype(np.uint8)
    network = fit(images[:400], labels[:400], 150, (4, 8, 16), seed=0)
    shown, hidden = r2_of(network, images[400:], labels[400:])
    assert shown > 0.9
    assert hidden < 0.1


def test_r2_by_hand() -> None:
    """Guesses of 0 and 1 for labels 0 and 2: squared errors 0 and 1, variance 1, so 1 - 0.5."""

    class Half(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, None] * 255 / 2

    images = np.array([0, 2], np.uint8).reshape(2, 1, 1)
    assert r2_of(Half(), images, np.array([[0.0], [2.0]], np.float32)) == pytest.approx([0.5])
