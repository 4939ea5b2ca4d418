"""Augmented images against NumPy, SciPy and hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from gated_vae.models import augment as module
from gated_vae.models.augment import NUMBERS, augment
from gated_vae.models.methods.base import StepBatch

LEADS = {"turns": (5,), "together": (2, 5), "stacked": (3, 2, 5)}


def images_of(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(len(shape)))


def noise_of(*shape: int) -> torch.Tensor:
    return torch.randn(NUMBERS, *shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("colour", [(), (3,)])
@pytest.mark.parametrize("lead", LEADS.values(), ids=LEADS)
def test_a_target_is_mirrored_with_all_that_is_encoded_for_it(lead: tuple[int, ...], colour: tuple[int, ...]) -> None:
    own = (*lead[:-2], lead[-1])
    images, target, noise = images_of(*lead, 6, 8, *colour), images_of(*own, 6, 8, *colour), noise_of(*lead)
    found = augment(StepBatch(images, target), ["mirror"], noise, grouped=len(lead) > 1)
    turned = (noise[0][..., 0, :] if len(lead) > 1 else noise[0]) > 0
    assert 0 < turned.sum() < turned.numel()
    for place in np.ndindex(*own):
        mirrored = bool(turned[place])
        expected = target[place].numpy()[:, ::-1] if mirrored else target[place].numpy()
        assert np.array_equal(found.target[place], expected)
        partners = [(*place[:-1], p, place[-1]) for p in range(lead[-2])] if len(lead) > 1 else [place]
        for partner in partners:
            expected = images[partner].numpy()[:, ::-1] if mirrored else images[partner].numpy()
            assert np.array_equal(found.input[partner], expected)
    assert found.input.dtype == torch.uint8


@pytest.mark.parametrize("lead", [(2, 5), (3, 2, 5)])
def test_both_images_of_a_pair_are_mirrored_together_and_decoded_as_they_are(lead: tuple[int, ...]) -> None:
    images, noise = images_of(*lead, 6, 8), noise_of(*lead)
    found = augment(StepBatch(images, images), ["mirror"], noise, grouped=True)
    for place in np.ndindex(*lead):
        turned = bool(noise[0][(*place[:-2], 0, place[-1])] > 0)
        assert torch.equal(found.target[place], images[place].flip(1) if turned else images[place])
    assert torch.equal(found.input, found.target)
    moved = augment(StepBatch(images, images), ["shift"], noise, grouped=True)
    assert moved.target is images


@pytest.mark.parametrize("colour", [(), (3,)])
def test_what_is_encoded_is_moved_as_scipy_moves_it_and_targets_stay(colour: tuple[int, ...]) -> None:
    images, target, noise = images_of(2, 5, 16, 12, *colour), images_of(5, 16, 12, *colour), noise_of(2, 5) * 3
    found = augment(StepBatch(images, target), ["shift"], noise, grouped=True)
    assert found.target is target
    for place in np.ndindex(2, 5):
        right, down = (float(noise[axis][place]) * module.SHIFT for axis in (1, 2))
        by = [down * 16, right * 12, *[0] * len(colour)]
        expected = ndimage.shift(images[place].numpy() / 255, by, order=1, mode="nearest")
        np.testing.assert_allclose(found.input[place], expected, atol=1e-4)


def test_light_is_gamma_contrast_and_brightness_by_hand() -> None:
    images = torch.tensor([0, 51, 128, 255], dtype=torch.uint8).reshape(1, 2, 2)
    noise = torch.zeros(NUMBERS, 1)
    unlit = augment(StepBatch(images, images), ["light"], noise, grouped=False).input
    np.testing.assert_allclose(unlit, images / 255, atol=1.1e-4)
    noise[3:, 0] = torch.tensor([np.log(2.0), 0.1, -0.2]) / module.LIGHT
    lit = augment(StepBatch(images, images), ["light"], noise, grouped=False).input.flatten()
    expected = [((value / 255) ** 2 - 0.5) * 1.1 + 0.5 - 0.1 for value in (0, 51, 128, 255)]
    np.testing.assert_allclose(lit, np.clip(expected, 0, 1), atol=1e-6)


def test_all_of_them_together_leave_pixels_in_0_to_1() -> None:
    images = images_of(64, 8, 8)
    found = augment(StepBatch(images, images), ["mirror", "shift", "light"], noise_of(64) * 5, grouped=False)
    assert found.input.dtype == torch.float32
    assert 0 <= float(found.input.min()) <= float(found.input.max()) <= 1
    assert found.target.dtype == torch.uint8
