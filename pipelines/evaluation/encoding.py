"""Codes of images and images of codes, in batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gated_vae.models.vae import GatedVAE
from gated_vae.preprocessing.progress import Progress, ignore

BATCH = 1024

Floats = npt.NDArray[np.float32]


def random_ids(count: int, of: int, seed: int) -> npt.NDArray[np.int64]:
    """So many random numbers below `of`, each once and ascending; all where there are no more."""
    return np.sort(np.random.default_rng(seed).choice(of, min(count, of), replace=False))


class Codes(NamedTuple):
    """Posteriors of n images: `mean` and `std`, float32 (n, M)."""

    mean: Floats
    std: Floats

    def sample(self, seed: int) -> Floats:
        """One draw from each posterior, (n, M)."""
        noise = np.random.default_rng(seed).standard_normal(self.mean.shape, dtype=np.float32)
        return self.mean + noise * self.std

    def kl(self) -> list[float]:
        """KL(q(z|x) || N(0, 1)) of every dimension, mean over the images, in nats: what is near 0 is dead."""
        kl = 0.5 * (self.mean**2 + self.std**2 - 1.0 - 2.0 * np.log(self.std))
        return [float(value) for value in kl.mean(0)]


@torch.no_grad()
def encode_images(
    model: GatedVAE,
    images: npt.NDArray[Any],
    ids: npt.NDArray[np.int64] | None = None,
    progress: Progress = ignore,
) -> Codes:
    """Encode images (N, H, W), uint8 or in [0, 1], or those at `ids`, with a model that is in evaluation mode."""
    ids = np.arange(len(images), dtype=np.int64) if ids is None else ids
    device = next(model.parameters()).device
    means, stds = [], []
    for start in range(0, len(ids), BATCH):
        batch = torch.from_numpy(np.asarray(images).take(ids[start : start + BATCH], axis=0)).to(device)
        posterior = model.encode(batch)
        means.append(posterior.mean.cpu().numpy())
        stds.append((0.5 * posterior.logvar).exp().cpu().numpy())
        progress(min(start + BATCH, len(ids)), len(ids))
    return Codes(np.concatenate(means), np.concatenate(stds))


@torch.no_grad()
def decode_codes(model: GatedVAE, codes: Floats) -> Floats:
    """Mean images (n, H, W) in [0, 1] of codes (n, M)."""
    device = next(model.parameters()).device
    images = []
    for start in range(0, len(codes), BATCH):
        batch = torch.from_numpy(codes[start : start + BATCH]).to(device)
        images.append(torch.sigmoid(model.decode(batch).float()).cpu().numpy())
    return np.concatenate(images)
