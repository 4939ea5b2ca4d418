"""Stores small enough to be made by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.rules.base import Members
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import write_groups, write_pairs
from gated_vae.preprocessing.files import write_json, write_parquet
from gated_vae.preprocessing.store import (
    SCHEMA_VERSION,
    Store,
    images_path,
    manifest_path,
    open_store,
    rejected_path,
    samples_path,
)


def make_store(path: Path, count: int = 300, *, size: int = 16, draws: int = 3) -> Store:
    """A store of random images: image i starts with the bytes of i; two partitions of clustered groups with pairs."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, size, size), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    path.mkdir(parents=True)
    np.save(images_path(path), images)
    write_parquet(samples_path(path), pa.table({"sample_id": np.arange(count)}), schema_version=SCHEMA_VERSION)
    write_parquet(rejected_path(path), pa.table({"source": pa.array([], pa.string())}), schema_version=SCHEMA_VERSION)
    partitions = {"pose": 20, "expression": 35}
    manifest = {"schema_version": SCHEMA_VERSION, "kind": "celeba", "source_digest": "sha256:0", "seen": count}
    manifest |= {"image_shape": [size, size], "taken": count, "rejected": 0, "parameters": {}, "partitions": {}}
    write_json(manifest_path(path), manifest)
    for seed, (name, groups) in enumerate(partitions.items()):
        group = (np.arange(count, dtype=np.int32) * 7 + seed) % groups
        rule = UniformPartners(Members.of(group))
        write_groups(path, name, group, np.zeros(count, np.float32))
        write_pairs(path, name, group, lambda ids, draw: rule.partners(ids, seed=0, draw=draw), draws)  # noqa: B023
    made = {name: {"method": "kmeans", "shared": [], "seed": 0, "draws": draws} for name in partitions}
    return open_store(path).with_partitions(made)


def make_grid_store(path: Path, grid: FactorGrid) -> Store:
    """A store of random images, one for each combination of a grid's factors, without pairs."""
    store = make_store(path, grid.size)
    for tables in ("groups", "pairs"):
        shutil.rmtree(path / tables)
    factors = dict(zip(grid.names, grid.sizes, strict=True))
    write_json(manifest_path(path), {**store.manifest, "partitions": {}, "factors": factors})
    return open_store(path)
