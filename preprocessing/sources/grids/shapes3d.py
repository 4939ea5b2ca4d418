"""3D Shapes (Burgess, Kim 2018), all 480,000 images, from its published HDF5 file.

Factors and their order are those of the README of github.com/google-deepmind/3d-shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.grids.base import Images, Values, copy_images, published_digest, sample_table
from gated_vae.preprocessing.sources.grids.hdf5 import dataset, open_hdf5, read_dataset
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

FACTORS = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
SHAPE = (64, 64, 3)
BLOCK = 1200  # images of one hue each: 15 MB

_WHAT = "the 3D Shapes file"
_FETCH = "Download 3dshapes.h5 again."


@dataclass(frozen=True)
class Shapes3D:
    """All images, as a `DataSource`. Labels are checked against the grid, and their values taken."""

    h5: Path  # the published file, `images` and `labels`
    factors: dict[str, int] = field(default_factory=FACTORS.copy)  # sizes of the grid by name, the last the fastest

    def plan(self) -> Plan:
        """What decides the store."""
        return Plan(
            kind="shapes3d",
            source_digest=published_digest(self.h5, _WHAT, _FETCH),
            parameters={"source": "h5"},
            image_shape=SHAPE,
            factors=self.factors,
            inputs=(self.h5,),
        )

    def build(self, writer: StoreWriter, _run: RunTasks, progress: Progress) -> None:
        """Read every image."""
        count = math.prod(self.factors.values())
        with open_hdf5(self.h5, _WHAT, _FETCH) as file:
            labels = dataset(file, "labels", ((count, len(self.factors)), np.dtype(np.float64)))
            values = grid_values(labels[:], self.factors)
        copy_images(writer, self._images(count), count, BLOCK, progress)
        writer.samples(sample_table(self.factors, values))

    def _images(self, count: int) -> Iterator[Images]:
        with open_hdf5(self.h5, _WHAT, _FETCH) as file:
            yield from read_dataset(file, "images", ((count, *SHAPE), np.dtype(np.uint8)), BLOCK)


def grid_values(labels: npt.NDArray[np.float64], factors: Mapping[str, int]) -> Values:
    """Values of every factor's classes, of the labels (N, K) of a grid in row order; `ValueError` where they make no such grid."""
    values = {}
    classes = np.unravel_index(np.arange(len(labels)), tuple(factors.values()))
    for name, column, expected in zip(factors, labels.T, classes, strict=True):
        found, place = np.unique(column, return_inverse=True)
        if len(found) != factors[name] or not np.isfinite(found).all():
            raise ValueError(f"{name} has {len(found)} values, not {factors[name]}.")
        if (wrong := place != expected).any():
            row = int(wrong.argmax())
            raise ValueError(f"Row {row} of labels has value {place[row]} of {name}, not {expected[row]}.")
        values[name] = found
    return values
