"""The task that reads CSVs and what it leaves on disk: a function of plain arguments, done once its file is there.

It writes its file atomically and reads nothing but its arguments and the source, so it may run anywhere, twice
or again after a crash, with the same outcome. Its file is not synced, since most never need to reach the disk: a task
that finds it there compares checksums before it takes it for done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from gated_vae.preprocessing.files import damaged, read_sealed, write_sealed
from gated_vae.preprocessing.sources.celeba.faces import Wanted, read_faces
from gated_vae.preprocessing.store import Rejected, rejected_schema

SHARD_FILES = 1024  # CSVs in a task, or fewer if they are large
SHARD_BYTES = 16 << 20


def cut_shards(sizes: Mapping[str, int]) -> list[list[str]]:
    """Cut files, given by size in bytes, into shards of at most `SHARD_FILES` and, unless one is larger, `SHARD_BYTES` bytes."""
    shards: list[list[str]] = []
    weight = 0
    for file, size in sizes.items():
        if not shards or len(shards[-1]) == SHARD_FILES or weight + size > SHARD_BYTES:
            shards.append([])
            weight = 0
        shards[-1].append(file)
        weight += size
    return shards


def read_shard(root: str, names: Sequence[str], wanted: Wanted, out: str) -> None:
    """Read CSVs (see `read_faces`) into the work file `out`, a stream of Arrow's."""
    if read_sealed(Path(out)) is None:
        items = read_faces(root, names, wanted)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, items.schema) as stream:
            stream.write_table(items)
        write_sealed(Path(out), sink.getvalue())


def load_faces(shards: Sequence[Path]) -> tuple[pa.Table, list[Rejected]]:
    """Faces and rejected items of all shards, in order; a column that a shard lacks is null there."""
    items = pa.concat_tables(map(_load_items, shards), promote_options="permissive")
    rejected = items.select(rejected_schema().names).filter(items["reason"].is_valid()).to_pylist()
    # Mostly all were read: no copy of the largest table.
    faces = items.filter(items["reason"].is_null()) if rejected else items
    return faces.drop_columns(["reason", "detail"]), [Rejected(**item) for item in rejected]


def _load_items(shard: Path) -> pa.Table:
    data = read_sealed(shard)
    if data is None:
        raise damaged(shard)
    return pa.ipc.open_stream(data).read_all()
