"""Codes of images and images of codes, in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gated_vae.models.vae import GatedVAE
from gated_vae.pipelines.training.processor import choose_device
from gated_vae.pipelines.training.run import RUN_SCHEMA_VERSION, Run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import parquet_writer
from gated_vae.preprocessing.store import Store

BATCH = 1024
ROW_GROUP = 1 << 17  # samples; a multiple of `BATCH`, so that every batch is full

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]  # (images done, images in all)


@dataclass(frozen=True)
class Codes:
    """Posteriors of n images: `mean` and `std`, float32 (n, M)."""

    mean: Floats
    std: Floats

    def sample(self, seed: int) -> Floats:
        """One draw from each posterior, (n, M)."""
        noise = np.random.default_rng(seed).standard_normal(self.mean.shape, dtype=np.float32)
        return self.mean + noise * self.std


@dataclass(frozen=True)
class EncodeReport:
    """Where the codes are, of how many samples, under which names."""

    path: Path
    samples: int
    columns: tuple[str, ...]


def _ignore(done: int, total: int) -> None:
    """Show nothing."""


@torch.no_grad()
def encode_images(
    model: GatedVAE,
    images: npt.NDArray[Any],
    ids: npt.NDArray[np.int64] | None = None,
    progress: Progress = _ignore,
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


def encode_store(
    run: Run,
    store: Store,
    out: Path,
    *,
    partition: str | None = None,
    device: str = "auto",
    progress: Progress = _ignore,
) -> EncodeReport:
    """Write the codes of every image of a store as Parquet: sample_id, NAME_i and NAME_i_std (float32).

    A row group is in memory at a time. A file that is there is replaced.

    Raises
    ------
    GatedVAEError
        When the run has no such partition, or its model was made for images of another shape.
    """
    model = run.model(choose_device(device))
    if partition is not None and partition not in model.partitions:
        remedy = f"Choose from {', '.join(model.partitions)}, or leave --partition out."
        raise GatedVAEError(f"{run.path} has no partition {partition}.", "", remedy)
    shape = tuple(store.manifest["image_shape"])
    if shape != model.config.image_shape:
        why = f"It was trained on images of {model.config.image_shape}, the store's are {shape}."
        raise GatedVAEError(f"{run.path} cannot encode {store.path}.", why, "Preprocess with the same --size.")
    kept = {name: dims for name, dims in model.partitions.items() if partition in (None, name)}
    nothing = np.empty((0, model.config.latent_size), np.float32)
    schema = pa.table(_columns(np.empty(0, np.int64), Codes(nothing, nothing), kept)).schema
    with parquet_writer(out, schema, schema_version=RUN_SCHEMA_VERSION) as writer:
        for start in range(0, len(store), ROW_GROUP):
            ids = np.arange(start, min(start + ROW_GROUP, len(store)))
            codes = encode_images(model, store.images, ids, partial(_from, progress, start, len(store)))
            writer.write_table(pa.table(_columns(ids, codes, kept), schema))
    return EncodeReport(out, len(store), tuple(schema.names))


def _from(progress: Progress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def _columns(
    ids: npt.NDArray[np.int64], codes: Codes, partitions: Mapping[str, slice]
) -> dict[str, npt.NDArray[np.generic]]:
    columns: dict[str, npt.NDArray[np.generic]] = {"sample_id": ids}
    for name, dims in partitions.items():
        columns |= {f"{name}_{i}": column for i, column in enumerate(codes.mean[:, dims].T)}
        columns |= {f"{name}_{i}_std": column for i, column in enumerate(codes.std[:, dims].T)}
    return columns
