"""dSprites as a store: all 737,280 images, from the official npz or drawn by `gated_vae.preprocessing.sources.dsprites.render`.

Either way the store holds the same rows in the same order (posY fastest) with pixels of 0 and 255, so that a pixel means
value / 255 as in every store; the official file has 0 and 1.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.errors import BadSourceError, naming, raise_trouble
from gated_vae.preprocessing.files import digest, file_digest
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.dsprites.render import PLACES, RENDERER_VERSION, SIZE, Images, draw_everywhere
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "posX": PLACES, "posY": PLACES}  # row order, posY fastest

_NPZ_BYTES = 1 << 33  # more than the images take without compression
_FETCH = "Download dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz again, or leave --npz out to have the images drawn."


@dataclass(frozen=True)
class DSprites:
    """All images, as a `DataSource`.

    Attributes
    ----------
    npz:
        The official file. Its classes and values are checked against the grid; `metadata`, which is pickled, is never
        read. Without it the images are drawn.
    factors:
        Sizes of the grid by name, posY the fastest.
    """

    npz: Path | None = None
    factors: dict[str, int] = field(default_factory=FACTORS.copy)

    def plan(self) -> Plan:
        """What decides the store."""
        source = "rendered" if self.npz is None else "npz"
        drawn = digest("dsprites renderer", str(RENDERER_VERSION))
        return Plan(
            kind="dsprites",
            source_digest=drawn if self.npz is None else _npz_digest(self.npz),
            parameters={"source": source, "pixel_values": [0, 255]},
            image_shape=(SIZE, SIZE),
            factors=self.factors,
            inputs=() if self.npz is None else (self.npz,),
        )

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Read or draw every image."""
        writer.seen = math.prod(self.factors.values())
        regions = writer.images(writer.seen, _block_rows(self.factors))
        if self.npz is None:
            done = run(_draw, ((self.factors, block, region) for block, region in enumerate(regions)))
        else:
            done = _copy(read_official(self.npz, self.factors), regions)
        for region, _ in zip(regions, done, strict=True):
            progress(region.stop, writer.seen)
        writer.samples(sample_table(self.factors))


def _block_rows(factors: Mapping[str, int]) -> int:
    """Images of one shape, scale and orientation: 4 MB of pixels."""
    return factors["posX"] * factors["posY"]


def _draw(factors: Mapping[str, int], block: int, region: Region) -> None:
    """Fill a region with all places of one shape, scale and orientation, of which it is number `block`."""
    if region.is_filled():
        return
    shape, scale, angle = np.unravel_index(block, [factors[name] for name in ("shape", "scale", "orientation")])
    values = factor_values(factors)
    drawn = draw_everywhere(int(shape), float(values["scale"][scale]), float(values["orientation"][angle]))
    x, y = (np.rint(values[name] * (PLACES - 1)).astype(int) for name in ("posX", "posY"))
    region.write(drawn[np.ix_(x, y)].reshape(-1, SIZE, SIZE))


def _copy(blocks: Iterable[Images], regions: Sequence[Region]) -> Iterator[None]:
    for region, images in zip(regions, blocks, strict=True):
        if not region.is_filled():
            region.write(images)
        yield


def read_official(npz: Path, factors: Mapping[str, int]) -> Iterator[Images]:
    """Read the images of the official npz in row order as uint8 (1024, 64, 64), pixels of 0 and 255, nothing unpickled.

    `GatedVAEError` when the file is damaged, lacks an array, or an array's dtype, shape, rows or pixels are not those of dSprites.
    """
    rows = math.prod(factors.values())
    with naming(npz), _reading(npz), zipfile.ZipFile(npz) as archive:
        for key, expected in _expected_latents(factors).items():
            (found,) = _member(archive, key, expected.dtype, expected.shape, rows)
            wrong = ~np.isclose(found, expected, rtol=0, atol=1e-6).all(axis=1)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(f"Row {row} of {key} is {found[row].tolist()}, not {expected[row].tolist()}.")
        for block in _member(archive, "imgs", np.dtype(np.uint8), (rows, SIZE, SIZE), _block_rows(factors)):
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
    """Make samples.parquet: image (``shape=0 scale=5 ...``), a class and a value column for each factor."""
    ids = np.arange(math.prod(factors.values()))
    classes = dict(zip(factors, np.unravel_index(ids, tuple(factors.values())), strict=True))
    names = [pa.array([f"{name}={k}" for k in range(size)]).take(classes[name]) for name, size in factors.items()]
    values = {f"{name}_value": value[classes[name]] for name, value in factor_values(factors).items()}
    return pa.table({"image": pc.binary_join_element_wise(*names, " "), **classes, **values})


def _npz_digest(path: Path) -> str:
    try:
        if path.stat().st_size > _NPZ_BYTES:
            raise BadSourceError(f"{path} is not the dSprites file.", f"It is larger than {_NPZ_BYTES} bytes.", _FETCH)
        return file_digest(path)
    except OSError as error:
        raise_trouble(error)
        raise BadSourceError(f"{path} cannot be read.", error.strerror or str(error), _FETCH) from None


@contextmanager
def _reading(npz: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one message."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        met = error if isinstance(error, OSError) else error.__context__  # which zipfile takes for the end of the file
        if isinstance(met, OSError):
            raise_trouble(met)
        raise BadSourceError(f"{npz} is damaged or not an npz file.", str(error), _FETCH) from None
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise BadSourceError(f"{npz} is not the dSprites file.", str(error), _FETCH) from None


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
