"""Whether a store's groups and pairs keep their promises, read one block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gated_vae.pairing.labels import coordinates
from gated_vae.pairing.tables import PairTable, read_groups
from gated_vae.preprocessing.store import Store, centroids_path, groups_path, pairs_path
from gated_vae.preprocessing.verify import Problem, checked, open_parquet, schema_faults

UNRECORDED = "store.json names no such partition."

Groups = npt.NDArray[np.int32]


def verify_partitions(store: Store) -> Iterator[Problem]:
    """Check groups, centroids and pairs of every partition, and that there are none besides.

    In memory are the groups of one partition (4 bytes a sample) and one block of its pairs (about a million).
    """
    for name, record in store.partitions.items():
        command = "cluster" if record["method"] == "kmeans" else "pair"
        remedy = f"Run the same `pipe {command} {store.path}` again with --overwrite."
        groups: list[Groups] = []  # those of the partition, once its groups table has been read
        checks = {groups_path(store.path, name): _groups, pairs_path(store.path, name): _pairs}
        if record["method"] == "kmeans":
            checks[centroids_path(store.path, name)] = _centroids
        for path, check in checks.items():
            found = checked(path, lambda: [*check(store, name, groups)])  # noqa: B023
            yield from (Problem(path, what, remedy) for what in found)
    yield from _unrecorded(store)


def _groups(store: Store, name: str, keep: list[Groups]) -> Iterator[str]:
    kinds = {"sample_id": pa.types.is_integer, "group": pa.types.is_integer, "distance": pa.types.is_floating}
    yield from schema_faults(open_parquet(groups_path(store.path, name)), kinds)
    group, distance = read_groups(store.path, name)
    if len(group) != len(store):
        yield f"It has {len(group)} rows, the store {len(store)} samples."
        return
    group = group[: store.training]  # others may be alone in theirs, or in none
    if group.min(initial=0) < 0 or group.max(initial=0) >= len(store):
        yield "Some samples are in no group, or groups have numbers beyond all samples."
        return
    alone = int((np.bincount(group) == 1).sum())
    if alone:
        yield f"{alone} samples are alone in their group."
    if not np.all(distance >= 0) or not np.isfinite(distance).all():
        yield "Some distances are negative or not finite."
    keep.append(group)


def _pairs(store: Store, name: str, groups: list[Groups]) -> Iterator[str]:
    kinds = dict.fromkeys(("input_id", "target_id", "group", "draw"), pa.types.is_integer)
    file = open_parquet(pairs_path(store.path, name))
    yield from schema_faults(file, kinds)
    table = PairTable.of(store, name)
    for block, size in enumerate(table.block_sizes):
        draws = file.read_row_group(block, columns=["draw"])["draw"].to_numpy()
        if not np.array_equal(draws, np.repeat(np.arange(table.draws), size)):
            yield f"Its draws are not in order in row group {block}."
        for draw in range(table.draws):
            faults = _pair_faults(table, block, draw, groups)
            if faults:
                yield from (f"Draw {draw}, row group {block}: {fault}" for fault in faults)
                return


def _pair_faults(table: PairTable, block: int, draw: int, groups: list[Groups]) -> list[str]:
    """Check one draw of one block; `PairTable.block` has checked that each input comes once and targets are samples."""
    input_id, target_id, group = table.block(block, draw)
    faults = {"targets are their own input": target_id == input_id}
    if groups:  # else they could not be read, which was said
        own = groups[0]
        faults["rows name another group than the groups table"] = own[input_id] != group
        faults["targets are of another group"] = own[target_id] != group
    return [f"{int(wrong.sum())} {what}." for what, wrong in faults.items() if wrong.any()]


def _centroids(store: Store, name: str, groups: list[Groups]) -> Iterator[str]:
    file = open_parquet(centroids_path(store.path, name))
    record = store.partitions[name]
    columns, k = coordinates(record["shared"], record.get("turns", {})), record.get("k")
    integers = {"group": pa.types.is_integer, "size": pa.types.is_integer}
    yield from schema_faults(file, {**integers, **dict.fromkeys(columns, pa.types.is_floating)})
    table = file.read()
    if table.num_rows != k:
        yield f"It has {table.num_rows} clusters, not {k}."
    elif groups and not np.array_equal(table["size"], np.bincount(groups[0], minlength=table.num_rows)):
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
