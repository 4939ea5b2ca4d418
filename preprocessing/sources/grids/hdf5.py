"""Arrays of an HDF5 file, streamed. The file may be a stranger's: links and storage that lead out of it are not followed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.errors import BadSourceError, GatedVAEError, naming, raise_trouble
from gated_vae.preprocessing.files import opened
from gated_vae.preprocessing.sources.grids.npz import Form

_FILTERS = {"gzip", "lzf", None}  # those that h5py itself has; others are loaded from the system
_CHUNK_BYTES = 1 << 28  # unpacked at a time, at most
# So that a chunk of many images is unpacked once: by itself, h5py has 15,000 images of 3D Shapes share theirs, 176 MiB.
_CACHE_BYTES = 256 << 20


@contextmanager
def open_hdf5(path: Path, what: str, remedy: str) -> Iterator[Any]:
    """Open an HDF5 file by h5py; whatever its damage raises while the block lasts becomes one message, that it is not `what`."""
    try:
        import h5py
    except ImportError:
        install = "Install it: pip install h5py, or pip install '.[hdf5]' from a clone."
        raise GatedVAEError(f"{path} cannot be read.", "HDF5 files need the package h5py.", install) from None
    try:
        with naming(path), opened(str(path)):  # a regular file
            pass
        with h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES, rdcc_nslots=10_007, locking="best-effort") as file:
            yield file
    except OSError as error:
        raise_trouble(error)
        raise BadSourceError(f"{path} is damaged or not an HDF5 file.", str(error), remedy) from None
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise BadSourceError(f"{path} is not {what}.", str(error).strip("'\""), remedy) from None


def dataset(file: Any, name: str, form: Form) -> Any:
    """One array of a file, held against what is expected; `ValueError` when it is another, or lies elsewhere."""
    import h5py

    group = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"It has no {name}.")
        group = group[part]
    shape, dtype = form
    if not isinstance(group, h5py.Dataset) or (group.shape, group.dtype) != (shape, dtype):
        found = f"{group.dtype} {group.shape}" if isinstance(group, h5py.Dataset) else "no array"
        raise ValueError(f"{name} is {found}, not {dtype} {shape}.")
    if group.external or group.is_virtual:
        raise ValueError(f"{name} lies in other files.")
    chunk = math.prod(group.chunks or (0,)) * dtype.itemsize
    if group.compression not in _FILTERS or chunk > _CHUNK_BYTES:
        raise ValueError(f"{name} is packed in another way than by gzip, or in chunks above {_CHUNK_BYTES >> 20} MiB.")
    return group


def read_dataset(file: Any, name: str, form: Form, block_rows: int) -> Iterator[npt.NDArray[Any]]:
    """Stream one array in blocks of rows."""
    found = dataset(file, name, form)
    for start in range(0, len(found), block_rows):
        yield np.ascontiguousarray(found[start : start + block_rows])
