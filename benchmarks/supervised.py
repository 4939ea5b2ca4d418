"""What a network that is told the labels reads from pictures: `python -m benchmarks.supervised STORE [--truth truth.parquet]`.

The faces' encoder is fitted to the labels of some people and judged on others, split as `pipe evaluate` does: R2 of each label on
held-out people. A representation learned without labels can hardly tell more of them, however it is read. What it takes is a few
minutes of one core; pictures are moved by up to two pixels in training, so that there are more of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gated_vae.models.registry import NETWORKS
from gated_vae.pipelines.evaluation.labels import read_labels
from gated_vae.pipelines.presets import PRESETS, read_hidden
from gated_vae.preprocessing.store import open_store

BATCH, RATE, SHIFT = 128, 1e-3, 2

Floats = npt.NDArray[np.float32]


def fit(
    images: npt.NDArray[np.uint8], labels: Floats, steps: int, hidden: tuple[int, ...], seed: int
) -> torch.nn.Module:
    """Fit the encoder to standardised labels (n, K) of images (n, H, W) by least squares; its first K outputs are the guess."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kind = NETWORKS[PRESETS["faces"].network]
    shape, count = (images.shape[1], images.shape[2]), labels.shape[1]
    network = kind.encoder(shape, count, hidden or kind.default_hidden(shape))
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = rng.choice(len(images), min(BATCH, len(images)))
        moved = np.roll(images[rows], tuple(rng.integers(-SHIFT, SHIFT + 1, 2)), (1, 2))
        guess = network(torch.from_numpy(moved).float() / 255)[:, :count]
        loss = (guess - torch.from_numpy(labels[rows])).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
    return network.eval()


def r2_of(network: torch.nn.Module, images: npt.NDArray[np.uint8], labels: Floats) -> Floats:
    """R2 of each label (K,)."""
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(part).float() / 255) for part in np.array_split(images, len(images) // 256 + 1)
        ]
    wrong = torch.cat(parts)[:, : labels.shape[1]].numpy() - labels
    share: Floats = 1 - np.square(wrong).mean(axis=0) / labels.var(axis=0)
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--truth", type=Path, help="truth.parquet of simulated faces, in place of the store's labels")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--hidden", help="hidden sizes; the faces' preset's by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    store = open_store(options.store)
    found = read_labels(store, len(store), truth=options.truth)
    images, (train, test) = np.asarray(store.images)[found.ids], (found.split.train, found.split.test)
    mean, deviation = found.values[train].mean(axis=0), found.values[train].std(axis=0)
    labels = ((found.values - mean) / deviation).astype(np.float32)
    network = fit(images[train], labels[train], options.steps, read_hidden(options.hidden), options.seed)
    for name, r2 in zip(found.factors, r2_of(network, images[test], labels[test]), strict=True):
        print(f"{name:<10} {r2:5.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
