"""Made-up stores; nothing here imports torch, which would show in the memory that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gated_vae.pairing.rules.base import Members
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import write_groups, write_pairs
from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources import base
from gated_vae.preprocessing.store import Store, groups_path, pairs_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter


@dataclass(frozen=True)
class Noise:
    """The same random pixels again and again, with the labels given, as a `DataSource`."""

    labels: pa.Table
    side: int = 64

    def plan(self) -> Plan:
        return Plan("celeba", "", {}, (self.side, self.side))

    def build(self, writer: StoreWriter, _run: RunTasks, _progress: Progress) -> None:
        writer.seen = len(self.labels)
        pixels = np.random.default_rng(0).integers(0, 256, (1, self.side, self.side), np.uint8)
        for region in writer.images(len(self.labels), each=1 << 12):
            region.write(np.repeat(pixels, region.count, axis=0))
        writer.samples(self.labels)


def make_store(path: Path, samples: int) -> Store:
    """A store of random pixels with pairs in two partitions."""
    store = base.make_store(Noise(pa.table({"image": np.arange(samples).astype(str)})), path).store
    for name, groups in (("pose", 1000), ("expression", 1500)):
        group = np.random.default_rng(1).permutation(samples).astype(np.int32) % groups
        rule = UniformPartners(Members.of(group))
        write_groups(groups_path(path, name), group, np.zeros(samples, np.float32))
        write_pairs(pairs_path(path, name), group, lambda ids, draw, of=rule: of.partners(ids, seed=0, draw=draw), 1)
    return store.with_partitions(
        {name: {"method": "kmeans", "shared": [], "seed": 0, "draws": 1} for name in ("pose", "expression")}
    )
