"""Augmentation: images as they could be, too, so that few of them teach more; and nothing that a pair shares is changed.

An image and its partners are mirrored together. What is encoded is moved and lit at random, what is decoded is not: so codes learn
to tell nothing of either.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
import torch.nn.functional as F

from gated_vae.models.methods.base import StepBatch

NUMBERS = 6  # random ones for each image
AUGMENT_STREAM = 3  # of a run's noise; 1 are the codes, 2 who is his own partner
SHIFT = 0.018  # standard deviation along either axis, of the image's side: half a pixel of 32
LIGHT = 0.115  # standard deviation of contrast, of the logarithm of gamma and, twice, of brightness


def augment(batch: StepBatch, kinds: Collection[str], noise: torch.Tensor, *, grouped: bool) -> StepBatch:
    """A batch with its images augmented, as `Method.prepare` leaves it or with a leading model axis.

    Parameters
    ----------
    batch:
        `input` (..., B, H, W[, 3]), of partners (..., P, B, H, W[, 3]), and `target` (..., B, H, W[, 3]), uint8; of both images
        of pairs input and target (..., 2, B, H, W[, 3]).
    kinds:
        Some of `AUGMENTATIONS`: ``mirror`` left and right with probability a half, each target together with what is encoded for
        it; ``shift`` what is encoded, its border repeated; ``light`` its contrast, brightness and gamma.
    noise:
        Standard normal (6, ..., B), or (6, ..., P, B) for partners: a number of each image for each thing that is changed.
    grouped:
        Whether what is encoded has such an axis of partners, or of both images.
    """
    images, target = batch.input, batch.target
    lead = noise.dim() - 1  # axes before an image's own
    if "mirror" in kinds:
        turned = noise[0] > 0
        own = turned[..., 0, :] if grouped else turned
        every = own.unsqueeze(-2).expand(turned.shape) if grouped else own
        target = _mirrored(target, every if target.dim() == images.dim() else own)
        images = _mirrored(images, every)
    if "shift" in kinds or "light" in kinds:
        images = images.float() * (1 / 255)
    if "shift" in kinds:
        images = _shifted(images, noise[1:3] * SHIFT, lead)
    if "light" in kinds:
        images = _lit(images, noise[3:] * LIGHT)
    return replace(batch, input=images, target=target)


def _over(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Values of images (...) as they are broadcast over their pixels."""
    return values.reshape(*values.shape, *[1] * (images.dim() - values.dim()))


def _mirrored(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    return torch.where(_over(which, images), images.flip(which.dim() + 1), images)


def _shifted(images: torch.Tensor, by: torch.Tensor, lead: int) -> torch.Tensor:
    """Images moved by shares of their sides, `by` (2, ...), right and down, bilinear."""
    height, width, *colours = images.shape[lead:]
    planes = images.reshape(-1, height, width, *(colours or [1])).movedim(-1, 1)
    still = torch.eye(2, device=images.device).expand(len(planes), 2, 2)
    moved = -2.0 * by.flatten(1).T[..., None]  # sides are 2 long, and the grid says where each pixel comes from
    grid = F.affine_grid(torch.cat([still, moved], dim=2), list(planes.shape), align_corners=False)
    found = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return found.movedim(1, -1).reshape(images.shape)


def _lit(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Images in 0 .. 1 under another light: `by` (3, ...) of gamma, contrast and brightness."""
    gamma, contrast, brightness = (_over(values, images) for values in by)
    lit = (images.clamp_min(1e-4) ** gamma.exp() - 0.5) * (1.0 + contrast) + 0.5 + 0.5 * brightness
    return lit.clamp(0.0, 1.0)
