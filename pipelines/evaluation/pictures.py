"""Pictures of a run: which images to draw, through which model; `gated_vae.models.figures.grids` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from gated_vae.models.figures.grids import (
    hinton,
    pair_sheet,
    reconstruction_grid,
    sample_grid,
    swap_grid,
    traversal_frames,
    traversal_grid,
)
from gated_vae.models.figures.sheet import FORMATS, gif, render
from gated_vae.pairing.tables import PairTable
from gated_vae.pipelines.evaluation.labels import random_ids
from gated_vae.pipelines.evaluation.opened import DEAD_KL, OpenRun
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import ending_of, write_bytes
from gated_vae.preprocessing.store import Store

MOST_STEPS = 1000  # of a traversal
COMPARED, SWAPPED, PAIRED = 12, (6, 8), 8  # images: beside their reconstructions; in rows and columns; beside partners
PARTNERS = 4  # of each, at most

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Traversals:
    """Where the picture is, around which sample, and the KL divergence of every dimension."""

    path: Path
    sample: int
    activity: dict[str, float]


def draw_traversals(
    run: OpenRun, *, sample: int | None = None, reach: float = 2.0, steps: int = 9, out: Path | None = None
) -> Traversals:
    """Move every latent dimension from -reach to +reach while the others stay at an image's code, and draw the images.

    Parameters
    ----------
    sample:
        The image to encode; by default the one whose code is nearest to the mean code of 2,000 images.
    out:
        Where to write it, in the form that the name's ending says; a GIF moves.
    """
    path = out or run.files.figures / "traversals.png"
    form = ending_of(path, (*FORMATS, "gif"))
    store = run.store
    if not (0 < reach < np.inf and 2 <= steps <= MOST_STEPS):
        why = f"Got reach {reach} and {steps} steps."
        raise UsageError("Nothing can be drawn.", why, f"Give a positive reach, and 2 to {MOST_STEPS} steps.")
    if sample is not None and not 0 <= sample < len(store):
        raise GatedVAEError(f"There is no sample {sample}.", f"The store has {len(store):,}.", "Choose a smaller one.")
    ids, codes = run.sampled
    if sample is None:
        sample = int(ids[codes.typical()])
    base = run.encode(store.images, np.array([sample])).mean[0]
    values = np.linspace(-reach, reach, steps, dtype=np.float32)
    moved = np.tile(base, (len(base), steps, 1))
    for dim in range(len(base)):
        moved[dim, :, dim] = values
    images = run.decode(moved.reshape(-1, len(base)))
    images = images.reshape(len(base), steps, *images.shape[1:])
    activity, partitions = codes.kl(), run.partitions
    if form == "gif":
        write_bytes(path, gif(traversal_frames(images, partitions=partitions, activity=activity)))
    else:
        told = {"values": values.tolist(), "activity": activity, "dead_below": DEAD_KL}
        save(traversal_grid(images, partitions=partitions, **told), path)
    return Traversals(path, sample, {f"z{dim}": value for dim, value in enumerate(activity)})


def draw_score_figures(run: OpenRun, scores: Scores) -> list[Path]:
    """Hinton diagrams of every regressor, reconstructions beside their targets, and random images of the store."""
    paths = []
    for name, score in scores.values["dci"].items():
        factors = [*score["completeness_per_factor"]]
        figure = hinton(score["importance"], factor_names=factors, partitions=run.partitions)
        paths.append(save(figure, run.files.figures / f"hinton_{name}.png"))
    paths.append(draw_reconstructions(run))
    ids = random_ids(64, len(run.store), 1)
    images = np.asarray(run.store.images).take(ids, axis=0)
    return [*paths, save(sample_grid(images), run.files.figures / "samples.png")]


def draw_reconstructions(run: OpenRun) -> Path:
    """Draw inputs, what the model makes of them (the tuned decoder, too), and their targets in each partition."""
    images, ids = np.asarray(run.store.images), random_ids(COMPARED, run.store.training, 0)  # others have no partners
    codes = run.encode(images, ids).mean
    rows: dict[str, Any] = {"input": images[ids], "decoded": run.decode(codes)}
    if run.tuned is not None:
        rows["fine-tuned"] = run.tuned.decode(codes)
    paired = [name for name in run.partitions if name in run.store.partitions]
    rows |= {f"target: {name}": images[PairTable.of(run.store, name).partners(ids, 1)[:, 0]] for name in paired}
    return save(reconstruction_grid(rows), run.files.figures / "reconstructions.png")


def draw_swaps(run: OpenRun) -> Path | None:
    """Decode the first partition of row images with the second partition of column images; None where there is one only.

    Row and column images are spread evenly over their partition's busiest dimension. Further partitions are the row's.
    """
    if len(run.partitions) < 2:
        return None
    (first, by_row), (second, by_column) = list(run.partitions.items())[:2]
    store, (ids, codes) = run.store, run.sampled
    activity = np.array(codes.kl())
    sources = [
        _spread(codes.mean[:, part.start + int(activity[part].argmax())], count)
        for part, count in zip((by_row, by_column), SWAPPED, strict=True)
    ]
    mixed = np.repeat(codes.mean[sources[0]][:, None], len(sources[1]), axis=1)
    mixed[:, :, by_column] = codes.mean[sources[1]][:, by_column]
    images = run.decode(mixed.reshape(-1, mixed.shape[2])).reshape(*mixed.shape[:2], *store.images.shape[1:])
    shown = [np.asarray(store.images).take(ids[source], axis=0) for source in sources]
    return save(swap_grid(images, *shown, names=(first, second)), run.files.figures / "swaps.png")


def draw_pairs(store: Store, out: Path, partitions: Sequence[str] = ()) -> Path:
    """Draw random images beside the partners that pair tables (of all partitions by default) give them, one a draw at most.

    `GatedVAEError` when the store has no pairs yet, or the picture can have no such name.
    """
    ending_of(out, FORMATS)
    if not store.partitions:
        raise GatedVAEError(f"{store.path} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
    images, ids = np.asarray(store.images), random_ids(PAIRED, store.training, 0)
    found = {
        _in_common(store, name): images[PairTable.of(store, name).partners(ids, PARTNERS)]
        for name in partitions or store.partitions
    }
    return save(pair_sheet(images[ids], found), out)


def _in_common(store: Store, partition: str) -> str:
    """The heading of a partition's partners."""
    made = store.partitions[partition]
    if made["method"] == "change":
        return f"{partition}: {made['k']} factor{'s' * (made['k'] > 1)}"
    return f"same {partition}"


def _spread(values: Floats, count: int) -> Ids:
    """Rows at evenly spaced ranks of values (n,), the outermost 2% left out."""
    ranks = np.linspace(0.02, 0.98, count) * (len(values) - 1)
    return np.argsort(values, kind="stable")[ranks.round().astype(np.int64)]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the form that its name says, atomically."""
    write_bytes(path, render(figure, ending_of(path, FORMATS)))
    return path
