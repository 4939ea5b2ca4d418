"""The two tasks of preprocessing and what they leave on disk: functions of plain arguments, done once their file is there.

A task writes its file atomically and reads nothing but its arguments and the source, so it may run anywhere, twice
or again after a crash, with the same outcome. Its file is not synced, since most never need to reach the disk: a task
that finds it there reads it, checksums and all, before it takes it for done.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing.faces import REJECTED, read_faces
from preprocessing.files import atomic_path, write_parquet
from preprocessing.images import PictureError, Pixels, load_square, use_one_thread
from preprocessing.store import SCHEMA_VERSION

SHARD_FILES = 1024  # CSVs in a task, or fewer if they are large
SHARD_BYTES = 16 << 20
SHARD_PICTURES = 512  # 2 MB of pixels at 64 x 64

# The machine's troubles, not the picture's: these end the command instead of rejecting the picture.
_OUR_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}


def cut_shards(files: Sequence[str], sizes: Sequence[int]) -> list[list[str]]:
    """Cut a list of files into shards of at most `SHARD_FILES` files and, unless one is larger, `SHARD_BYTES` bytes."""
    shards: list[list[str]] = []
    weight = 0
    for file, size in zip(files, sizes, strict=True):
        if not shards or len(shards[-1]) == SHARD_FILES or weight + size > SHARD_BYTES:
            shards.append([])
            weight = 0
        shards[-1].append(file)
        weight += size
    return shards


def read_shard(root: str, files: Sequence[str], aligned: bool, out: str) -> None:
    """Read CSVs (see `read_faces`) into the Parquet file `out`."""
    if not _is_whole(Path(out), _load_items):
        write_parquet(Path(out), read_faces(root, files, aligned), schema_version=SCHEMA_VERSION, durable=False)


def _is_whole(shard: Path, load: Callable[[Path], object]) -> bool:
    """Whether an earlier run has left this file, and the machine has not torn it by stopping before it was on disk."""
    try:
        load(shard)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, pa.ArrowException):
        return False
    return True


def _load_items(shard: Path) -> pa.Table:
    return pq.read_table(shard, page_checksum_verification=True)


def load_faces(shards: Sequence[Path]) -> tuple[pa.Table, pa.Table]:
    """Faces and rejected items of all shards, in order; a column that a shard lacks is null there."""
    items = pa.concat_tables(map(_load_items, shards), promote_options="permissive")
    read = pc.is_null(items["reason"])
    return items.filter(read).drop_columns(["reason", "detail"]), items.filter(pc.invert(read)).select(
        REJECTED.names
    ).cast(REJECTED)


def decode_shard(root: str, pictures: Sequence[bytes], size: int, out: str) -> None:
    """Turn pictures that lie in `root` into grey squares, kept in the npz `out` with the places and faults of those that failed."""
    if _is_whole(Path(out), _load_arrays):
        return
    use_one_thread()
    folder = os.fsencode(root)
    pixels = np.zeros((len(pictures), size, size), np.uint8)
    failed: dict[int, tuple[str, str]] = {}
    for place, path in enumerate(pictures):
        try:
            load_square(os.path.join(folder, path), size, pixels[place])  # noqa: PTH118
        except PictureError as error:
            failed[place] = "unreadable_picture", str(error)
        except OSError as error:
            if error.errno in _OUR_TROUBLE:
                raise
            failed[place] = "unreadable_picture", error.strerror or str(error)
    places = np.array(list(failed), np.int64)
    faults = np.array(list(failed.values()), np.str_).reshape(-1, 2)
    with atomic_path(Path(out), durable=False) as partial, partial.open("wb") as file:
        np.savez(file, pixels=np.delete(pixels, places, axis=0), failed=places, faults=faults)


def _load_arrays(shard: Path) -> dict[str, npt.NDArray[Any]]:
    with shard.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def load_failed(shard: Path) -> dict[int, tuple[str, str]]:
    """Place in the shard -> reason and detail, for each picture that failed."""
    with np.load(shard, allow_pickle=False) as arrays:
        return {
            int(place): (str(reason), str(detail))
            for place, (reason, detail) in zip(arrays["failed"], arrays["faults"], strict=True)
        }


def load_pixels(shard: Path) -> Pixels:
    """Pixels of the pictures that did not fail, uint8 (n, size, size)."""
    return _load_arrays(shard)["pixels"]


def write_images(path: Path, blocks: Iterable[Pixels], count: int, size: int) -> None:
    """Write blocks of pixels, uint8 (n, size, size), as one npy file of (count, size, size).

    By plain writes: pages of a mapped file would count as resident memory.
    """
    with atomic_path(path) as partial_path, partial_path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.data)
