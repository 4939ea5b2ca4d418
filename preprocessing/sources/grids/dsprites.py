"""dSprites as a store: all 737,280 images, from an official file or drawn by `gated_vae.preprocessing.sources.grids.render`.

Either way the store holds the same rows in the same order (posY fastest) with pixels of 0 and 255, so that a pixel means
value / 255 as in every store; the official files have 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.grids.base import copy_images, published_digest, sample_table
from gated_vae.preprocessing.sources.grids.hdf5 import open_hdf5, read_dataset
from gated_vae.preprocessing.sources.grids.npz import open_npz, read_member
from gated_vae.preprocessing.sources.grids.render import PLACES, RENDERER_VERSION, SIZE, Images, draw_everywhere
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "posX": PLACES, "posY": PLACES}  # row order, posY fastest

_WHAT = "the dSprites file"
_FETCH = "Download dsprites_ndarray_co1sh3sc6or40x32y32_64x64 again, or leave it out to have the images drawn."
_HDF5 = {"latents_classes": "latents/classes", "latents_values": "latents/values", "imgs": "imgs"}


@dataclass(frozen=True)
class DSprites:
    """All images, as a `DataSource`."""

    file: Path | None = None  # the official .npz or .hdf5; without it the images are drawn
    factors: dict[str, int] = field(default_factory=FACTORS.copy)  # sizes of the grid by name, posY the fastest

    def plan(self) -> Plan:
        """What decides the store."""
        source = "rendered" if self.file is None else "npz" if _is_npz(self.file) else "hdf5"
        drawn = digest("dsprites renderer", str(RENDERER_VERSION))
        return Plan(
            kind="dsprites",
            source_digest=drawn if self.file is None else published_digest(self.file, _WHAT, _FETCH),
            parameters={"source": source, "pixel_values": [0, 255]},
            image_shape=(SIZE, SIZE),
            factors=self.factors,
            inputs=() if self.file is None else (self.file,),
        )

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Read or draw every image."""
        count, each = math.prod(self.factors.values()), _block_rows(self.factors)
        if self.file is not None:
            copy_images(writer, read_official(self.file, self.factors), count, each, progress)
        else:
            writer.seen = count
            regions = writer.images(count, each)
            tasks = ((self.factors, block, region) for block, region in enumerate(regions))
            for region, _ in zip(regions, run(_draw, tasks), strict=True):
                progress(region.stop, count)
        writer.samples(sample_table(self.factors, factor_values(self.factors)))


def _is_npz(file: Path) -> bool:
    """Whether a file is read as npz: all are but those that are named otherwise."""
    return file.suffix.lower() not in (".hdf5", ".h5")


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


def read_official(file: Path, factors: Mapping[str, int]) -> Iterator[Images]:
    """Read the images of an official file in row order as uint8 (1024, 64, 64), pixels of 0 and 255, nothing unpickled.

    `GatedVAEError` when the file is damaged, lacks an array, or an array's dtype, shape, rows or pixels are not those of dSprites.
    """
    rows = math.prod(factors.values())
    with (open_npz if _is_npz(file) else open_hdf5)(file, _WHAT, _FETCH) as archive:

        def read(key: str, shape: tuple[int, ...], dtype: npt.DTypeLike, each: int) -> Iterator[npt.NDArray[Any]]:
            form = shape, np.dtype(dtype)
            return (
                read_member(archive, key, form, each)
                if _is_npz(file)
                else read_dataset(archive, _HDF5[key], form, each)
            )

        for key, expected in _expected_latents(factors).items():
            (found,) = read(key, expected.shape, expected.dtype, rows)
            wrong = ~np.isclose(found, expected, rtol=0, atol=1e-6).all(axis=1)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(f"Row {row} of {key} is {found[row].tolist()}, not {expected[row].tolist()}.")
        for block in read("imgs", (rows, SIZE, SIZE), np.uint8, _block_rows(factors)):
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


def _expected_latents(factors: Mapping[str, int]) -> dict[str, npt.NDArray[Any]]:
    """What the rows of latents_classes and latents_values must be: colour, which is always white, then the factors."""
    classes = np.indices(tuple(factors.values())).reshape(len(factors), -1)
    white = np.zeros(classes.shape[1], np.int64)
    values = [value[column] for value, column in zip(factor_values(factors).values(), classes, strict=True)]
    return {
        "latents_classes": np.stack([white, *classes], axis=1),
        "latents_values": np.stack([white + 1.0, *values], axis=1),
    }
