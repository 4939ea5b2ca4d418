"""The two tasks of preprocessing and what they leave on disk: functions of plain arguments, done once their file is there.

A task writes its file atomically and reads nothing but its arguments and the source, so it may run anywhere, twice
or again after a crash, with the same outcome. Its file is not synced, since most never need to reach the disk: a task
that finds it there compares checksums before it takes it for done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from gated_vae.preprocessing.decoding.decode import PictureError, Pixels
from gated_vae.preprocessing.errors import raise_trouble
from gated_vae.preprocessing.files import damaged, read_sealed, write_sealed
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.images import decode_grey, read_file, resize_square, use_one_thread
from gated_vae.preprocessing.openface.align import Array, cut_face, landmarks_of, share_outside
from gated_vae.preprocessing.sources.celeba.faces import Wanted, read_faces
from gated_vae.preprocessing.store import rejected_schema

SHARD_FILES = 1024  # CSVs in a task, or fewer if they are large
SHARD_BYTES = 16 << 20
BLACK = 3  # grey levels; what JPEG may make of black


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


def load_faces(shards: Sequence[Path]) -> tuple[pa.Table, pa.Table]:
    """Faces and rejected items of all shards, in order; a column that a shard lacks is null there."""
    items = pa.concat_tables(map(_load_items, shards), promote_options="permissive")
    schema = rejected_schema()
    rejected = items.filter(items["reason"].is_valid()).select(schema.names).cast(schema)
    # Mostly all were read: no copy of the largest table.
    faces = items.filter(items["reason"].is_null()) if len(rejected) else items
    return faces.drop_columns(["reason", "detail"]), rejected


def _load_items(shard: Path) -> pa.Table:
    data = read_sealed(shard)
    if data is None:
        raise damaged(shard)
    return pa.ipc.open_stream(data).read_all()


class OutsideError(ValueError):
    """More of a face lies outside of what is stored of its picture than inside."""


def decode_shard(
    root: str, pictures: Sequence[bytes], region: Region, crop: str = "centre", cuts: Array | None = None
) -> None:
    """Turn pictures that lie in `root` into grey squares and fill the region with them, unless it is.

    With `cuts` (n, 2, 3), the transforms that lay faces into OpenFace's square, they are used if `crop` is ``landmarks``; NaN
    where unknown. Faces that lie outside fail.
    """
    if region.is_filled():
        return
    use_one_thread()
    folder = os.fsencode(root)
    pixels = np.zeros((region.count, *region.shape), np.uint8)
    failed: dict[int, tuple[str, str]] = {}
    for place, path in enumerate(pictures):
        try:
            grey = decode_grey(read_file(os.path.join(folder, path)))  # noqa: PTH118
            _fill(pixels[place], grey, crop, None if cuts is None else cuts[place])
        except PictureError as error:
            failed[place] = "unreadable_picture", str(error)
        except OutsideError as error:
            failed[place] = "outside", str(error)
        except OSError as error:
            raise_trouble(error)
            failed[place] = "unreadable_picture", error.strerror or str(error)
    for place in np.flatnonzero(pixels.reshape(len(pixels), -1).max(axis=1) <= BLACK).tolist():
        failed.setdefault(place, ("blank", "it is black all over"))
    region.write(pixels, [(place, *why) for place, why in sorted(failed.items())])


def _fill(out: Pixels, picture: Pixels, crop: str, cut: Array | None) -> None:
    """Put what is stored of a picture into its place; `OutsideError` where the face is known to lie elsewhere."""
    if cut is not None and np.isfinite(cut).all():
        middle = crop != "landmarks"
        (share,) = share_outside(landmarks_of(cut), *picture.shape, square=middle)
        if share > 0.5:
            where = "the middle square that is stored of its picture" if middle else "its picture"
            raise OutsideError(f"{share:.0%} of the face is outside {where}")
        if not middle:
            cut_face(picture, cut, len(out), out)
            return
    resize_square(picture, len(out), out)
