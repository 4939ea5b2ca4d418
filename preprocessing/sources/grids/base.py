"""Factor grids: an image for every combination of some factors' classes, in row order, the last factor the fastest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gated_vae.preprocessing.errors import BadSourceError, raise_trouble
from gated_vae.preprocessing.files import file_digest
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.store_writer import StoreWriter

MOST_BYTES = 1 << 35  # of a published file; the largest, of colour images without compression, have 13 GB

Images = npt.NDArray[np.uint8]
Values = Mapping[str, npt.NDArray[np.float64]]  # of each factor's classes


def copy_images(writer: StoreWriter, blocks: Iterable[Images], count: int, each: int, progress: Progress) -> None:
    """Fill the writer's images, `count`, with blocks of `each`."""
    writer.seen = count
    for region, images in zip(writer.images(count, each), blocks, strict=True):
        if not region.is_filled():
            region.write(images)
        progress(region.stop, count)


def sample_table(factors: Mapping[str, int], values: Values) -> pa.Table:
    """Make samples.parquet: image (``shape=0 scale=5 ...``), a class and a value column for each factor."""
    ids = np.arange(math.prod(factors.values()))
    classes = dict(zip(factors, np.unravel_index(ids, tuple(factors.values())), strict=True))
    names = [pa.array([f"{name}={k}" for k in range(size)]).take(classes[name]) for name, size in factors.items()]
    columns = {f"{name}_value": value[classes[name]] for name, value in values.items()}
    return pa.table({"image": pc.binary_join_element_wise(*names, " "), **classes, **columns})


def published_digest(path: Path, what: str, remedy: str) -> str:
    """SHA-256 of a published file; refused when it cannot be read or is far too large."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadSourceError(f"{path} is not {what}.", f"It is larger than {MOST_BYTES} bytes.", remedy)
        return file_digest(path)
    except OSError as error:
        raise_trouble(error)
        raise BadSourceError(f"{path} cannot be read.", error.strerror or str(error), remedy) from None
