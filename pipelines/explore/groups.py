"""Groups and pairs of a store as they are looked at: how large and wide groups are, who is in one, and what was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gated_vae.pairing.tables import PairTable, read_groups
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import readable
from gated_vae.preprocessing.openface.api import read_openface
from gated_vae.preprocessing.openface.pictures import WHOLE_IMAGE, aligned_faces
from gated_vae.preprocessing.store import REBUILD, Store, rejected_path

MOST_GROUPS = 4000  # that are drawn
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupView:
    """The groups of a partition: group (N,) and distance to the centroid (N,) of every sample."""

    group: npt.NDArray[np.int32]
    distance: npt.NDArray[np.float32]

    @classmethod
    def of(cls, store: Store, partition: str) -> GroupView:
        """Read them; `GatedVAEError` where the store has no such partition or they cannot be read."""
        if partition not in store.partitions:
            raise GatedVAEError(f"There is no partition {partition}.", "", "Choose one of the list.")
        return cls(*read_groups(store.path, partition))

    @cached_property
    def near(self) -> bool:
        """Whether groups have centroids: samples of a group that are equal in something have no distance to it."""
        return bool(self.distance.any())

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Samples in each group (G,)."""
        return np.bincount(self.group).astype(np.int64)

    @cached_property
    def spread(self) -> npt.NDArray[np.float64]:
        """Mean distance of each group's samples to its centroid (G,); 0 where it is empty."""
        return np.bincount(self.group, self.distance) / np.maximum(self.sizes, 1)

    def shown(self) -> Ids:
        """Groups that have samples, or `MOST_GROUPS` of them, evenly from the smallest to the largest."""
        order = np.argsort(self.sizes, kind="stable")
        order = order[self.sizes[order] > 0]
        places = np.linspace(0, len(order) - 1, min(len(order), MOST_GROUPS)).round().astype(np.int64)
        return np.asarray(order[places])

    def members(self, group: int) -> Ids:
        """Its samples, those nearest to its centroid first; `GatedVAEError` where there is no such group."""
        if not 0 <= group < len(self.sizes):
            raise GatedVAEError(f"There is no group {group}.", f"There are {len(self.sizes):,}.", "Choose another.")
        ids: Ids = np.flatnonzero(self.group == group)
        return np.asarray(ids[np.argsort(self.distance[ids], kind="stable")])


def partners_of(store: Store, partition: str, sample: int) -> Ids:
    """The partners of a sample in each draw (draws,); none where it does not train."""
    if not 0 <= sample < store.training:
        return np.empty(0, np.int64)
    table = PairTable.of(store, partition)
    found: Ids = table.partners(np.array([sample]), table.draws)[0]
    return found


def rejected_of(store: Store) -> pa.Table:
    """What was not taken: source, row, reason, detail."""
    path = rejected_path(store.path)
    with readable(path, REBUILD):
        table = pq.read_table(path)
        return table.select(["source", "row", "reason", "detail"])


def reasons(rejected: pa.Table) -> dict[str, int]:
    """How many were rejected for each reason, the most frequent first."""
    return dict(Counter(rejected["reason"].to_pylist()).most_common())


def rejected_rows(rejected: pa.Table, reason: str, most: int) -> list[dict[str, Any]]:
    """The first rows that were rejected for a reason."""
    found: list[dict[str, Any]] = rejected.filter(pc.equal(rejected["reason"], reason)).slice(0, most).to_pylist()
    return found


def pictures_of(folder: Path, source: str, row: int | None) -> Iterator[Path]:
    """Where the picture of a rejected row may lie in the folder that its store was made from: itself, or a face of its CSV."""
    path = folder / source
    if not path.resolve().is_relative_to(folder.resolve()):  # a table may say anything
        return
    if path.suffix.lower() != ".csv":
        yield path
        return
    faces = aligned_faces(str(folder), source)
    number = row or 0
    if (WHOLE_IMAGE, number) in faces:
        yield folder / faces[WHOLE_IMAGE, number]
    elif faces:
        table = read_openface(path, columns=["frame", "face_id"])
        own = table[table["row"] == number]
        keys = [(int(frame), int(face)) for frame, face in zip(own["frame"], own["face_id"], strict=True)]
        yield from (folder / faces[key] for key in keys if key in faces)
