"""MPI3D (Gondal et al. 2019), toy, realistic, real or complex, all images, from its published npz.

Factors and their order are those of the README of github.com/rr-learning/disentanglement_dataset. The file holds no labels: values
of classes are their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.grids.base import Images, copy_images, published_digest, sample_table
from gated_vae.preprocessing.sources.grids.npz import form_of, open_npz, read_member
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

_NAMES = (
    *("object_color", "object_shape", "object_size", "camera_height", "background_color"),
    *("horizontal_axis", "vertical_axis"),
)
# Sizes by name, the last the fastest.
FACTORS = tuple(dict(zip(_NAMES, sizes, strict=True)) for sizes in ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40)))
SHAPE = (64, 64, 3)
BLOCK = 1600  # images of one object, camera and background: 20 MB

_WHAT = "a file of MPI3D"
_FETCH = "Download mpi3d_toy.npz, mpi3d_realistic.npz, mpi3d_real.npz or real3d_complicated_shapes_ordered.npz again."


@dataclass(frozen=True)
class MPI3D:
    """All images, as a `DataSource`."""

    npz: Path  # the published file, `images`
    grids: Sequence[Mapping[str, int]] = FACTORS  # that it may hold, told apart by how many images there are

    def plan(self) -> Plan:
        """What decides the store."""
        digest = published_digest(self.npz, _WHAT, _FETCH)
        return Plan(
            kind="mpi3d",
            source_digest=digest,
            parameters={"source": "npz"},
            image_shape=SHAPE,
            factors=self._factors(),
            inputs=(self.npz,),
        )

    def build(self, writer: StoreWriter, _run: RunTasks, progress: Progress) -> None:
        """Read every image."""
        factors = self._factors()
        count = math.prod(factors.values())
        copy_images(writer, self._images(count), count, BLOCK, progress)
        writer.samples(sample_table(factors, {name: np.arange(size, dtype=float) for name, size in factors.items()}))

    def _images(self, count: int) -> Iterator[Images]:
        with open_npz(self.npz, _WHAT, _FETCH) as archive:
            yield from read_member(archive, "images", ((count, *SHAPE), np.dtype(np.uint8)), BLOCK)

    def _factors(self) -> dict[str, int]:
        with open_npz(self.npz, _WHAT, _FETCH) as archive:
            shape, kind = form_of(archive, "images")
            found = next((grid for grid in self.grids if (math.prod(grid.values()), *SHAPE) == shape), None)
            if found is None or kind != np.dtype(np.uint8):
                raise ValueError(f"images is {kind} {shape}.")
            return dict(found)
