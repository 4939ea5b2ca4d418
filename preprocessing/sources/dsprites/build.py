"""dSprites as a store: all 737,280 images, from the official npz or drawn by `gated_vae.preprocessing.sources.dsprites.render`.

Either way the store holds the same rows in the same order (posY fastest) with pixels of 0 and 255, so that a pixel means
value / 255 as in every store; the official file has 0 and 1.
"""

from __future__ import annotations

import math
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest, file_digest, locked, write_json, write_parquet
from gated_vae.preprocessing.image_file import write_images
from gated_vae.preprocessing.sources.dsprites.render import PLACES, RENDERER_VERSION, SIZE, Images, draw_everywhere
from gated_vae.preprocessing.store import (
    SCHEMA_VERSION,
    centroids_path,
    groups_path,
    images_path,
    manifest_path,
    open_store,
    pairs_path,
    rejected_path,
    samples_path,
)

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "posX": PLACES, "posY": PLACES}  # row order, posY fastest
BLOCK_ROWS = PLACES * PLACES  # 4 MB of pixels

Progress = Callable[[int, int], None]  # (images written, images in all)

_FETCH = "Download dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz again, or leave --npz out to have the images drawn."


@dataclass(frozen=True)
class DSpritesReport:
    """What `preprocess_dsprites` did.

    Attributes
    ----------
    store:
        The store's folder.
    source:
        ``npz`` or ``rendered``.
    images:
        Number of images in the store.
    already_done:
        True when the store was there already and nothing was written.
    """

    store: Path
    source: str
    images: int
    already_done: bool


def preprocess_dsprites(
    out: Path, *, npz: Path | None = None, overwrite: bool = False, progress: Progress | None = None
) -> DSpritesReport:
    """Make a store of dSprites in the folder `out`.

    An interrupted run leaves no store.json and starts over when run again, with the same bytes in the end.

    Parameters
    ----------
    npz:
        The official file. Its classes and values are checked against the grid; `metadata`, which is pickled, is never
        read. Without it the images are drawn.
    overwrite:
        Replace the store that lies in `out`, its groups and pairs included.
    progress:
        Called after every 1,024 images.

    Raises
    ------
    GatedVAEError
        When the npz is missing, damaged or not dSprites; when `out` holds another store or is in use.
    """
    manifest = _manifest(npz)
    source, total = manifest["parameters"]["source"], manifest["taken"]
    with locked(out):
        if manifest_path(out).exists() and not overwrite:
            _check_same(out, manifest)
            return DSpritesReport(out, source, total, already_done=True)
        _clear(out)
        blocks = draw_all() if npz is None else read_official(npz)
        write_images(images_path(out), _counted(blocks, total, progress), total, SIZE)
        write_parquet(samples_path(out), sample_table(FACTORS), schema_version=SCHEMA_VERSION)
        write_parquet(rejected_path(out), _nothing_rejected(), schema_version=SCHEMA_VERSION)
        digests = {path.name: file_digest(path) for path in (images_path(out), samples_path(out), rejected_path(out))}
        write_json(manifest_path(out), {**manifest, "digests": digests})
    return DSpritesReport(out, source, total, already_done=False)


def draw_all() -> Iterator[Images]:
    """Draw the images in row order, uint8 (1024, 64, 64) at a time: all places of one shape, scale and orientation."""
    values = factor_values(FACTORS)
    for shape in range(FACTORS["shape"]):
        for scale in values["scale"]:
            for angle in values["orientation"]:
                yield draw_everywhere(shape, float(scale), float(angle)).reshape(-1, SIZE, SIZE)


def read_official(npz: Path, factors: Mapping[str, int] = FACTORS) -> Iterator[Images]:
    """Read the images of the official npz in row order, up to 1,024 at a time, nothing unpickled.

    Yields
    ------
    uint8 (n, 64, 64), pixels of 0 and 255.

    Raises
    ------
    GatedVAEError
        When the file is damaged, lacks an array, or an array's dtype, shape, rows or pixels are not those of dSprites.
    """
    rows = math.prod(factors.values())
    with _reading(npz), zipfile.ZipFile(npz) as archive:
        for key, expected in _expected_latents(factors).items():
            (found,) = _member(archive, key, expected.dtype, expected.shape, rows)
            wrong = ~np.isclose(found, expected, rtol=0, atol=1e-6).all(axis=1)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(f"Row {row} of {key} is {found[row].tolist()}, not {expected[row].tolist()}.")
        for block in _member(archive, "imgs", np.dtype(np.uint8), (rows, SIZE, SIZE), BLOCK_ROWS):
            if block.max() > 1:
                raise ValueError(f"imgs holds the pixel value {block.max()}; only 0 and 1 are expected.")
            yield block * np.uint8(255)


def factor_values(factors: Mapping[str, int]) -> dict[str, npt.NDArray[np.float64]]:
    """Values of every factor's classes, as in the official latents_values (radians for orientation)."""
    ends = {"scale": (0.5, 1.0), "orientation": (0.0, 2 * np.pi), "posX": (0.0, 1.0), "posY": (0.0, 1.0)}
    return {
        name: np.linspace(*ends[name], size) if name in ends else np.arange(1.0, size + 1)
        for name, size in factors.items()
    }


def sample_table(factors: Mapping[str, int]) -> pa.Table:
    """Make samples.parquet: sample_id, image (``shape=0 scale=5 ...``), a class and a value column for each factor."""
    ids = np.arange(math.prod(factors.values()))
    classes = dict(zip(factors, np.unravel_index(ids, tuple(factors.values())), strict=True))
    names = [pa.array([f"{name}={k}" for k in range(size)]).take(classes[name]) for name, size in factors.items()]
    values = {f"{name}_value": value[classes[name]] for name, value in factor_values(factors).items()}
    return pa.table({"sample_id": ids, "image": pc.binary_join_element_wise(*names, " "), **classes, **values})


def _manifest(npz: Path | None) -> dict[str, Any]:
    total = math.prod(FACTORS.values())
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "dsprites",
        "source_digest": digest("dsprites renderer", str(RENDERER_VERSION)) if npz is None else _file_digest(npz),
        "image_shape": [SIZE, SIZE],
        "seen": total,
        "taken": total,
        "rejected": 0,
        "parameters": {"source": "rendered" if npz is None else "npz", "pixel_values": [0, 255]},
        "factors": FACTORS,
        "partitions": {},
    }


def _check_same(out: Path, manifest: dict[str, Any]) -> None:
    """Refuse to touch a store that was made from something else."""
    found = open_store(out).manifest
    differing = [key for key in ("kind", "parameters", "source_digest") if found.get(key) != manifest[key]]
    if differing:
        key = differing[0]
        why = f"Its {key} is {found.get(key)}, this command's is {manifest[key]}."
        raise GatedVAEError(
            f"{out} holds another store.", why, "Choose another folder, or replace it with --overwrite."
        )


def _clear(out: Path) -> None:
    """Remove what an earlier store left: the manifest first, so that a half-removed store is never taken for one."""
    manifest_path(out).unlink(missing_ok=True)
    for folder in (groups_path(out, "").parents[1], pairs_path(out, "").parents[1], centroids_path(out, "").parent):
        shutil.rmtree(folder, ignore_errors=True)


def _counted(blocks: Iterator[Images], total: int, progress: Progress | None) -> Iterator[Images]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        if progress:
            progress(done, total)


def _nothing_rejected() -> pa.Table:
    names = {"source": pa.string(), "row": pa.int64(), "reason": pa.string(), "detail": pa.string()}
    return pa.schema(names).empty_table()


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise GatedVAEError(f"{path} cannot be read.", error.strerror or str(error), _FETCH) from None


@contextmanager
def _reading(npz: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one message."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise GatedVAEError(f"{npz} is damaged or not an npz file.", str(error), _FETCH) from None
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise GatedVAEError(f"{npz} is not the dSprites file.", str(error), _FETCH) from None


def _expected_latents(factors: Mapping[str, int]) -> dict[str, npt.NDArray[Any]]:
    """What the rows of latents_classes and latents_values must be: colour, which is always white, then the factors."""
    classes = np.indices(tuple(factors.values())).reshape(len(factors), -1)
    white = np.zeros(classes.shape[1], np.int64)
    values = [value[column] for value, column in zip(factor_values(factors).values(), classes, strict=True)]
    return {
        "latents_classes": np.stack([white, *classes], axis=1),
        "latents_values": np.stack([white + 1.0, *values], axis=1),
    }


def _header(stream: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an npy header: shape, whether by columns, dtype."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{key} is in npy format {version}, not (1, 0).")
    try:
        return np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, TokenError, MemoryError, RecursionError) as error:  # what its parser lets through
        raise ValueError(f"{key} has no valid header.") from error


def _member(
    archive: zipfile.ZipFile, key: str, dtype: np.dtype[Any], shape: tuple[int, ...], block_rows: int
) -> Iterator[npt.NDArray[Any]]:
    """Stream one array of an npz in blocks of rows, after its header has been held against what is expected."""
    with archive.open(f"{key}.npy") as stream:
        found, by_columns, kind = _header(stream, key)
        if (found, by_columns, kind) != (shape, False, dtype):
            order = " by columns" if by_columns else ""
            raise ValueError(f"{key} is {kind} {found}{order}, not {dtype} {shape}.")
        for start in range(0, shape[0], block_rows):
            rows = min(block_rows, shape[0] - start)
            size = rows * math.prod(shape[1:]) * dtype.itemsize
            data = stream.read(size)
            if len(data) < size:
                raise EOFError(f"{key} ends in row {start + len(data) * rows // size}.")
            yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
        if stream.read(1):  # reading to the end also has the checksum compared
            raise ValueError(f"{key} goes on after its last row.")
