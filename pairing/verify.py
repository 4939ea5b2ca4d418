"""Whether a store's groups and pairs keep their promises, read one block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gated_vae.pairing.labels import coordinates
from gated_vae.pairing.tables import PairTable, Rows, read_groups
from gated_vae.preprocessing.store import Store, centroids_path, groups_path, pairs_path
from gated_vae.preprocessing.verify import Problem, checked, open_parquet, schema_faults

UNRECORDED = "store.json names no such partition."


def verify_partitions(store: Store) -> Iterator[Problem]:
    """Check groups, centroids and pairs of every partition, and that there are none besides.

    In memory are the groups of one partition (4 bytes a sample) and one block of its pairs (about a million).
    """
    for name, record in store.partitions.items():
        command = "cluster" if record["method"] == "kmeans" else "pair"
        remedy = f"Run the same `pipe {command} {store.path}` again with --overwrite."
        partition = _Partition(store, name)
        checks = {groups_path: partition.check_groups, pairs_path: partition.check_pairs}
        if record["method"] == "kmeans":
            checks[centroids_path] = partition.check_centroids
        for path_of, check in checks.items():
            path = path_of(store.path, name)
            yield from (Problem(path, what, remedy) for what in checked(path, lambda: [*check()]))  # noqa: B023
    yield from _unrecorded(store)


@dataclass
class _Partition:
    """The tables of a partition, and what they are held against: the groups of samples that train, once these could be read."""

    store: Store
    name: str
    group: npt.NDArray[np.int32] | None = None

    def check_groups(self) -> Iterator[str]:
        kinds = {"sample_id": pa.types.is_integer, "group": pa.types.is_integer, "distance": pa.types.is_floating}
        yield from schema_faults(open_parquet(groups_path(self.store.path, self.name)), kinds)
        group, distance = read_groups(self.store.path, self.name)
        if len(group) != len(self.store):
            yield f"It has {len(group)} rows, the store {len(self.store)} samples."
            return
        group = group[: self.store.training]  # others may be alone in theirs, or in none
        if group.min(initial=0) < 0 or group.max(initial=0) >= len(self.store):
            yield "Some samples are in no group, or groups have numbers beyond all samples."
            return
        if alone := int((np.bincount(group) == 1).sum()):
            yield f"{alone} samples are alone in their group."
        if not np.all(distance >= 0) or not np.isfinite(distance).all():
            yield "Some distances are negative or not finite."
        self.group = group

    def check_pairs(self) -> Iterator[str]:
        kinds = dict.fromkeys(("input_id", "target_id", "group", "draw"), pa.types.is_integer)
        file = open_parquet(pairs_path(self.store.path, self.name))
        yield from schema_faults(file, kinds)
        table = PairTable.of(self.store, self.name)
        for block, size in enumerate(table.block_sizes):
            draws = file.read_row_group(block, columns=["draw"])["draw"].to_numpy()
            if not np.array_equal(draws, np.repeat(np.arange(table.draws), size)):
                yield f"Its draws are not in order in row group {block}."
            for draw in range(table.draws):
                if faults := self._pair_faults(table.block(block, draw)):
                    yield from (f"Draw {draw}, row group {block}: {fault}" for fault in faults)
                    return

    def _pair_faults(self, rows: Rows) -> list[str]:
        """Check pairs; `PairTable.block` has checked that each input comes once and targets are samples."""
        input_id, target_id, group = rows
        faults = {"targets are their own input": target_id == input_id}
        if self.group is not None:  # else they could not be read, which was said
            faults["rows name another group than the groups table"] = self.group[input_id] != group
            faults["targets are of another group"] = self.group[target_id] != group
        return [f"{int(wrong.sum())} {what}." for what, wrong in faults.items() if wrong.any()]

    def check_centroids(self) -> Iterator[str]:
        file = open_parquet(centroids_path(self.store.path, self.name))
        record = self.store.partitions[self.name]
        columns, k = coordinates(record["shared"], record.get("turns", {})), record.get("k")
        integers = {"group": pa.types.is_integer, "size": pa.types.is_integer}
        yield from schema_faults(file, {**integers, **dict.fromkeys(columns, pa.types.is_floating)})
        table = file.read()
        if table.num_rows != k:
            yield f"It has {table.num_rows} clusters, not {k}."
        elif self.group is not None and not np.array_equal(table["size"], np.bincount(self.group, minlength=k)):
            yield "Its sizes are not those of the groups."
        if not all(np.isfinite(table[column]).all() for column in columns):
            yield "Some centroids are not finite."


def _unrecorded(store: Store) -> Iterator[Problem]:
    """Tables of partitions that the manifest does not name: a command was interrupted while it made them."""
    for path_of in (groups_path, pairs_path):
        here = path_of(store.path, "").parents[1]
        known = {path_of(store.path, name).parent for name in store.partitions}
        strays = sorted(entry for entry in here.glob("*") if entry not in known)
        remedy = "Run the command that was interrupted, `pipe cluster` or `pipe pair`, again; or remove it."
        yield from (Problem(stray, UNRECORDED, remedy) for stray in strays)
