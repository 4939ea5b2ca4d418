"""A run of a store with labels, small enough to be trained while it is waited for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from tests.pipelines.evaluation.test_probes_of_faces import label_store
from tests.stores import make_store

HOSTILE = "<img src=x onerror='window.hit=1'>"


def spots(count: int) -> npt.NDArray[np.uint8]:
    """Images (count, 16, 16) of a bright spot somewhere, which a model learns at once."""
    x, y = np.random.default_rng(0).uniform(3, 12, (2, count, 1, 1))
    rows, columns = np.mgrid[:16, :16]
    return (255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 12)).astype(np.uint8)


def make_run(folder: Path, count: int = 300) -> Path:
    """A run on a store of images with faces' labels, and with texts, one of which a page must not obey."""
    texts = [HOSTILE, *(f"p{i % 5}" for i in range(1, count))]
    store = label_store(make_store(folder / "store", count, images=spots(count)), place=texts)
    choices = {"method": parse(METHODS, "vae"), "objective": parse(OBJECTIVES, "vae:beta=0.2")}
    latent = {"pose": 3, "expression": 2}
    model = GatedVAEConfig(latent, image_shape=(16, 16), network="fc", hidden=(64, 64), **choices)
    options = TrainConfig(store=str(store.path), model=model, steps=200, batch_size=32, lr=3e-3)
    train(options, TrainOptions(folder / "run"))
    return folder / "run"
