"""Stores that differ in labels and pairs alone: the pictures of simulated faces are drawn once, and labelled anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.exact import pair_exactly
from gated_vae.preprocessing.files import digest, file_digest, locked, write_bytes, write_json, write_parquet
from gated_vae.preprocessing.image_file import write_images
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.simulate import FaceSimulation, simulate_faces, simulate_labels
from gated_vae.preprocessing.simulate.faces import IDENTITY, PROCESSED, TRUTH
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.staging import discard_work, is_finished, open_work, publish
from gated_vae.preprocessing.store import (
    SCHEMA_VERSION,
    Store,
    images_path,
    manifest_path,
    open_store,
    rejected_path,
    samples_path,
)

WRONG = 4  # stream of random numbers, after those of the simulation


@dataclass(frozen=True)
class Recipe:
    """How a store is made.

    Attributes
    ----------
    labels:
        How many of the pictures, from the first, and what their labels are like.
    wrong:
        Share of samples that are given each other's labels.
    clusters:
        How pairs are made of the labels.
    """

    labels: FaceSimulation
    wrong: float
    clusters: ClusterOptions


def true_faces(n: int, people: int, seed: int = 0) -> FaceSimulation:
    """Faces whose labels are the truth, one on every picture, none lost."""
    without = dict.fromkeys(
        ("pose_noise", "label_noise", "not_found", "two_faces", "low_confidence", "impossible"), 0.0
    )
    return FaceSimulation(n=n, people=people, seed=seed, **without)


def draw_pictures(
    faces: FaceSimulation, size: int, out: Path, *, workers: int | None = None, progress: Progress
) -> tuple[Store, Path]:
    """Draw faces and preprocess them, once; give the store and the file of the truth. The large pictures are not kept.

    Parameters
    ----------
    faces:
        See `true_faces`.
    size:
        Side of the stored images in pixels.

    Raises
    ------
    GatedVAEError
        When `out` holds other faces.
    """
    simulate_faces(faces, out, workers=workers, progress=lambda done: progress(done, faces.n, "pictures"))
    store = out / "store"
    if not manifest_path(store).exists():
        options = CelebaOptions(out / PROCESSED, identities=out / IDENTITY, size=size)
        preprocess_celeba(options, store, workers=workers)
    shutil.rmtree(out / PROCESSED, ignore_errors=True)
    return open_store(store), out / TRUTH


def make_store(recipe: Recipe, pictures: Store, path: Path) -> Store:
    """Make the store of a recipe with pairs alike in pose, in expression, and of one identity; go on where it stopped.

    Raises
    ------
    GatedVAEError
        When `path` holds another store, or it cannot be paired so.
    """
    with locked(path):
        plan = _plan(recipe, pictures)
        if not is_finished(path, plan):
            _write(recipe, pictures, plan, path)
        discard_work(path)
    cluster_store(path, recipe.clusters)
    options = recipe.clusters
    pair_exactly(open_store(path), {"identity": ["identity"]}, draws=options.draws, seed=options.seed)
    return open_store(path)


def give_wrong(labels: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Give a share of the rows each other's labels, at random, none its own; those of a smaller share are among them."""
    count = len(labels)
    rows = np.random.default_rng([seed, WRONG]).permutation(count)[: round(share * count)]
    order = np.arange(count)
    order[rows] = np.roll(rows, 1)
    return labels.iloc[order].reset_index(drop=True)


def _plan(recipe: Recipe, pictures: Store) -> dict[str, Any]:
    """What the manifest will say of the origin."""
    made = {"simulated": asdict(recipe.labels), "wrong": recipe.wrong}
    return {
        "kind": pictures.kind,
        "schema_version": SCHEMA_VERSION,
        "source_digest": digest(pictures.manifest["source_digest"], json.dumps(made)),
        "parameters": {**pictures.parameters, **made},
    }


def _write(recipe: Recipe, pictures: Store, plan: dict[str, Any], path: Path) -> None:
    """Write images and labels of the first samples as a store without pairs."""
    staged, count = open_work(path.absolute(), plan) / "store", recipe.labels.n
    height, width = pictures.manifest["image_shape"]
    write_images(images_path(staged), [np.ascontiguousarray(pictures.images[:count])], count, height)
    write_parquet(samples_path(staged), _samples(recipe, pictures), schema_version=SCHEMA_VERSION)
    write_bytes(rejected_path(staged), rejected_path(pictures.path).read_bytes())
    rejected = pictures.manifest["rejected"]
    files = images_path(staged), samples_path(staged), rejected_path(staged)
    counts = {"image_shape": [height, width], "seen": count + rejected, "taken": count, "rejected": rejected}
    digests = {file.name: file_digest(file) for file in files}
    write_json(manifest_path(staged), {**plan, **counts, "partitions": {}, "digests": digests})
    publish(path, staged)


def _samples(recipe: Recipe, pictures: Store) -> pa.Table:
    """The first samples, labelled anew."""
    samples = pictures.samples.iloc[: recipe.labels.n].copy()
    labels = simulate_labels(recipe.labels, samples["image"].str.removesuffix(".jpg").astype(int))
    samples[labels.columns] = give_wrong(labels, recipe.wrong, recipe.labels.seed)
    return pa.Table.from_pandas(samples, preserve_index=False)
