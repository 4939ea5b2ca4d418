"""Pictures of a run: which images to draw, through which model; `models.figures` draws them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from models.figures import hinton, png, reconstruction_grid, sample_grid, traversal_grid
from models.vae import GatedVAE
from pairing.loader import PairLoader
from pipelines.encoding import encode_images
from pipelines.evaluate_factors import FactorScores, kl_per_dimension
from pipelines.run import Run
from preprocessing.errors import GatedVAEError
from preprocessing.files import write_bytes

DEAD_KL = 0.05  # nats below which a dimension carries next to nothing
ENCODED = 2000  # images that decide which dimensions are active, and which image is typical

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Traversals:
    """Where the picture is, around which sample, and the KL divergence of every dimension."""

    path: Path
    sample: int
    activity: dict[str, float]


@torch.no_grad()
def decode_codes(model: GatedVAE, codes: Floats) -> Floats:
    """Mean images (n, H, W) in [0, 1] of codes (n, M)."""
    device = next(model.parameters()).device
    images: Floats = torch.sigmoid(model.decode(torch.from_numpy(codes).to(device)).float()).cpu().numpy()
    return images


def draw_traversals(
    run: Run, *, sample: int | None = None, reach: float = 2.0, steps: int = 9, out: Path | None = None
) -> Traversals:
    """Move every latent dimension from -reach to +reach while the others stay at an image's code, and draw the images.

    Parameters
    ----------
    sample:
        The image to encode; by default the one whose code is nearest to the mean code of 2,000 images.
    """
    store, model = run.store(), run.model()
    if sample is not None and not 0 <= sample < len(store):
        raise GatedVAEError(f"There is no sample {sample}.", f"The store has {len(store):,}.", "Choose a smaller one.")
    ids = np.sort(np.random.default_rng(0).choice(len(store), min(ENCODED, len(store)), replace=False))
    codes = encode_images(model, store.images, ids)
    if sample is None:
        sample = int(ids[np.square(codes.mean - codes.mean.mean(0)).sum(1).argmin()])
    base = encode_images(model, store.images, np.array([sample])).mean[0]
    values = np.linspace(-reach, reach, steps, dtype=np.float32)
    moved = np.tile(base, (len(base), steps, 1))
    for dim in range(len(base)):
        moved[dim, :, dim] = values
    images = decode_codes(model, moved.reshape(-1, len(base)))
    activity = kl_per_dimension(codes)
    figure = traversal_grid(
        images.reshape(len(base), steps, *images.shape[1:]),
        partitions=model.partitions,
        values=values.tolist(),
        activity=activity,
        dead_below=DEAD_KL,
    )
    path = out or run.figures / "traversals.png"
    save(figure, path)
    return Traversals(path, sample, {f"z{dim}": value for dim, value in enumerate(activity)})


def draw_factor_figures(run: Run, scores: FactorScores) -> list[Path]:
    """Hinton diagrams of every regressor, reconstructions beside their targets, and random images of the store."""
    paths = []
    for name, score in scores.dci.items():
        figure = hinton(score.importance, factor_names=scores.factors, partitions=run.model().partitions)
        paths.append(save(figure, run.figures / f"hinton_{name}.png"))
    paths.append(draw_reconstructions(run))
    store = run.store()
    ids = np.sort(np.random.default_rng(1).choice(len(store), 64, replace=False))
    paths.append(save(sample_grid(np.asarray(store.images).take(ids, axis=0)), run.figures / "samples.png"))
    return paths


def draw_reconstructions(run: Run, columns: int = 12) -> Path:
    """Draw inputs, their targets in each partition, and what the model makes of the inputs; tuned decoder included."""
    store, model = run.store(), run.model()
    rows: dict[str, Any] = {}
    for batch in PairLoader(store.path, columns, partitions=list(model.partitions), prefetch=0):
        if f"{batch.partition}: target" in rows:
            break
        rows[f"{batch.partition}: input"] = batch.input.numpy()
        rows[f"{batch.partition}: target"] = batch.target.numpy()
        codes = encode_images(model, batch.input.numpy()).mean
        rows[f"{batch.partition}: decoded"] = decode_codes(model, codes)
        tuned = tuned_model(run)
        if tuned is not None:
            rows[f"{batch.partition}: fine-tuned"] = decode_codes(tuned, codes)
    return save(reconstruction_grid(rows), run.figures / "reconstructions.png")


def tuned_model(run: Run) -> GatedVAE | None:
    """The run's fine-tuned model, where `pipe finetune` has made one in its folder."""
    from pipelines.run import open_run

    tuned = run.path / "finetuned"
    return open_run(tuned).model() if (tuned / "checkpoints").is_dir() else None


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    write_bytes(path, png(figure))
    return path
