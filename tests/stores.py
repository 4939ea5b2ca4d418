"""Stores small enough to be made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.rules.base import Members
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import write_groups, write_pairs
from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.base import make_store as make_store_of
from gated_vae.preprocessing.store import Store, groups_path, pairs_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter


@dataclass(frozen=True)
class Given:
    """Images uint8 (N, H, W) and a row of labels for each (none when None), as a `DataSource`."""

    images: npt.NDArray[np.uint8]
    samples: pa.Table | None = None
    kind: str = "celeba"
    factors: dict[str, int] | None = None

    def plan(self) -> Plan:
        return Plan(self.kind, "sha256:0", {}, self.images.shape[1:], self.factors)

    def build(self, writer: StoreWriter, _run: RunTasks, _progress: Progress) -> None:
        writer.seen = len(self.images)
        for region in writer.images(len(self.images), each=1 << 16):
            region.write(np.ascontiguousarray(self.images[region.start : region.stop]))
        numbers = pa.table({"image": [f"{number}.png" for number in range(len(self.images))]})
        writer.samples(numbers if self.samples is None else self.samples)


def random_images(count: int, size: int = 16, *, colour: bool = False) -> npt.NDArray[np.uint8]:
    """Random images, of which number i starts with the bytes of i."""
    shape = (count, size, size, 3) if colour else (count, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[:, 0, 0] = (np.arange(count) % 256).reshape(-1, *[1] * colour)
    images[:, 0, 1] = (np.arange(count) // 256).reshape(-1, *[1] * colour)
    return images


def make_store(
    path: Path,
    count: int = 300,
    *,
    size: int = 16,
    draws: int = 3,
    colour: bool = False,
    splits: dict[str, int] | None = None,
    images: npt.NDArray[np.uint8] | None = None,
) -> Store:
    """A store of `random_images`, or of those given; two partitions of clustered groups with pairs of those that train."""
    split = [name for name, images in (splits or {}).items() for _ in range(images)]
    table = pa.table({"image": [f"{number}.png" for number in range(count)], "split": split}) if split else None
    images = random_images(count, size, colour=colour) if images is None else images
    store, _ = make_store_of(Given(images, table), path)
    partitions = {"pose": 20, "expression": 35}
    for seed, (name, groups) in enumerate(partitions.items()):
        group = (np.arange(count, dtype=np.int32) * 7 + seed) % groups
        paired = group[: store.training]
        rule = UniformPartners(Members.of(paired))
        write_groups(groups_path(path, name), group, np.arange(count, dtype=np.float32))
        write_pairs(pairs_path(path, name), paired, lambda ids, draw: rule.partners(ids, seed=0, draw=draw), draws)  # noqa: B023
    made = {name: {"method": "kmeans", "shared": [], "seed": 0, "draws": draws} for name in partitions}
    return store.with_partitions(made)


def make_grid_store(path: Path, grid: FactorGrid) -> Store:
    """A store of random images, one for each combination of a grid's factors, without pairs."""
    factors = dict(zip(grid.names, grid.sizes, strict=True))
    return make_store_of(Given(random_images(grid.size), factors=factors), path).store
