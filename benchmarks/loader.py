"""The pair loader beside a bare gather and a DataLoader: `python -m benchmarks.loader [--samples 100000] [--repeats 5]`.

A made-up store of 64x64 images with two partitions; batches of 128 pairs, a whole epoch, opening included. The floor
gathers the same rows.
The peer is a torch DataLoader over a map-style dataset that reads one pair per item, as most code does. The last comparison
trains a model with the loader, and with one batch that stays where it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.stores import make_store
from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.stream.loader import PairBatch, PairLoader
from gated_vae.pipelines.process import choose_precision, keep_freed_memory
from gated_vae.preprocessing.store import Store

BATCH = 128


class Items(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """One pair per item."""

    def __init__(self, images: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> None:  # type: ignore[type-arg]
        self.images, self.inputs, self.targets = images, inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.images[self.inputs[index]]), torch.from_numpy(self.images[self.targets[index]])


def train_on(batches: Iterator[PairBatch], model: GatedVAE) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    for step, batch in enumerate(batches):
        noise = draw_noise(model.config, len(batch.input), seed=0, step=step, device="cpu")
        model.loss(StepBatch(batch.input, batch.target, batch.partition), noise).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        return show(compare(make_store(Path(folder) / "store", options.samples), options.repeats))


def compare(store: Store, repeats: int) -> list[Record]:
    loader = PairLoader(store.path, BATCH, prefetch=0)
    kept = list(islice(loader, 1))
    images = np.asarray(store.images).copy()  # writable, as torch.from_numpy wants it
    rows = [(batch.input_id.numpy(), batch.target_id.numpy()) for batch in PairLoader(store.path, BATCH, prefetch=0)]
    items = Items(images, np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows]))

    def gather() -> None:
        for inputs, targets in rows:
            images.take(inputs, axis=0)
            images.take(targets, axis=0)

    def ours() -> None:
        for _ in PairLoader(store.path, BATCH, prefetch=0):
            pass

    def per_item(workers: int) -> Callable[[], None]:
        def run() -> None:
            for _ in DataLoader(items, batch_size=BATCH, num_workers=workers):
                pass

        return run

    times = alternate({"gather": gather, "ours": ours, "items": per_item(0), "workers": per_item(2)}, repeats)
    config = GatedVAEConfig({"pose": 2, "expression": 2}, network="fc", hidden=(512, 512))
    model = GatedVAE(config, choose_precision("auto", "cpu"))
    steps = alternate(
        {
            "fed": lambda: train_on(islice(PairLoader(store.path, BATCH), 100), model),
            "resident": lambda: train_on(iter(kept * 100), model),
        },
        repeats,
    )
    return [
        ratio("loader, 128 pairs", "bare gather", times["ours"], times["gather"], 1.5),
        ratio("loader, 128 pairs", "DataLoader per item, no worker", times["ours"], times["items"], 8, at_most=False),
        ratio(
            "loader, 128 pairs", "DataLoader per item, two workers", times["ours"], times["workers"], 8, at_most=False
        ),
        ratio(
            "training step fed by the loader", "one resident batch", steps["fed"], steps["resident"], 0.9, at_most=False
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
