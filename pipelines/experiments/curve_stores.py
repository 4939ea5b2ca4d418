"""Stores that differ in labels and pairs alone: the pictures of simulated faces are drawn once, and labelled anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.exact import pair_exactly
from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.simulate.faces import IDENTITY, PROCESSED, simulate_faces, simulate_labels
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.sources import base
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.store import Store, manifest_path, open_store, rejected_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

WRONG = 4  # stream of random numbers, after those of the simulation


@dataclass(frozen=True)
class Recipe:
    """How a store is made."""

    labels: FaceSimulation  # how many of the pictures, from the first, and what their labels are like
    wrong: float  # share of samples that are given each other's labels
    clusters: ClusterOptions  # how pairs are made of the labels


def true_faces(n: int, people: int) -> FaceSimulation:
    """Faces whose labels are the truth, one on every picture, none lost."""
    exact = FaceSimulation(n=n, people=people, pose_noise=0.0, label_noise=0.0)
    return replace(exact, not_found=0.0, two_faces=0.0, low_confidence=0.0, impossible=0.0)


def draw_pictures(
    faces: FaceSimulation, size: int, out: Path, *, workers: int | None = None, progress: Progress
) -> Store:
    """Draw faces and preprocess them, once; `GatedVAEError` when `out` holds others. The large pictures are not kept.

    Parameters
    ----------
    faces:
        See `true_faces`.
    size:
        Side of the stored images in pixels.
    """
    simulate_faces(faces, out, workers=workers, progress=progress)
    store = out / "store"
    if not manifest_path(store).exists():
        options = CelebaOptions(out / PROCESSED, identities=out / IDENTITY, size=size)
        preprocess_celeba(options, store, workers=workers)
    shutil.rmtree(out / PROCESSED, ignore_errors=True)
    return open_store(store)


def make_store(recipe: Recipe, pictures: Store, path: Path) -> Store:
    """Make the store of a recipe with pairs alike in pose, in expression, and of one identity; go on where it stopped.

    `GatedVAEError` when `path` holds another store, or it cannot be paired so.
    """
    base.make_store(Relabelled(recipe, pictures), path)
    options = recipe.clusters
    cluster_store(path, options)
    pair_exactly(open_store(path), {"identity": ["identity"]}, draws=options.draws, seed=options.seed)
    return open_store(path)


def give_wrong(labels: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Give a share of the rows each other's labels, at random, none its own; those of a smaller share are among them."""
    count = len(labels)
    rows = np.random.default_rng([seed, WRONG]).permutation(count)[: round(share * count)]
    order = np.arange(count)
    order[rows] = np.roll(rows, 1)
    return labels.iloc[order].reset_index(drop=True)


@dataclass(frozen=True)
class Relabelled:
    """The first pictures of a store with other labels, as a `DataSource`."""

    recipe: Recipe
    pictures: Store

    def plan(self) -> Plan:
        """What decides the store."""
        made = {"simulated": asdict(self.recipe.labels), "wrong": self.recipe.wrong}
        return Plan(
            kind=self.pictures.kind,
            source_digest=digest(self.pictures.manifest["source_digest"], json.dumps(made)),
            parameters={**self.pictures.parameters, **made},
            image_shape=self.pictures.images.shape[1:],
        )

    def build(self, writer: StoreWriter, _run: RunTasks, _progress: Progress) -> None:
        """Copy the pictures, label them anew; what the pictures' store has rejected is rejected here, too."""
        for region in writer.images(self.recipe.labels.n):
            region.write(np.ascontiguousarray(self.pictures.images[region.start : region.stop]))
        writer.samples(self._samples())
        rejected = pq.read_table(rejected_path(self.pictures.path)).to_pylist()
        for item in rejected:
            writer.reject(**item)
        writer.seen = self.recipe.labels.n + len(rejected)

    def _samples(self) -> pa.Table:
        recipe = self.recipe
        samples = self.pictures.samples.iloc[: recipe.labels.n].drop(columns="sample_id")
        labels = simulate_labels(recipe.labels, samples["image"].str.removesuffix(".jpg").astype(int))
        samples[labels.columns] = give_wrong(labels, recipe.wrong, recipe.labels.seed)
        return pa.Table.from_pandas(samples, preserve_index=False)
