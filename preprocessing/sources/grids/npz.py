"""Arrays of an npz, streamed: nothing is unpacked, unpickled or held in memory whole."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.errors import BadSourceError, naming, raise_trouble

Form = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype


@contextmanager
def open_npz(path: Path, what: str, remedy: str) -> Iterator[zipfile.ZipFile]:
    """Open an npz; whatever its damage raises while the block lasts becomes one message, that it is not `what` or is damaged."""
    try:
        with naming(path), zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        met = error if isinstance(error, OSError) else error.__context__  # which zipfile takes for the end of the file
        if isinstance(met, OSError):
            with naming(path):
                raise_trouble(met)
        raise BadSourceError(f"{path} is damaged or not an npz file.", str(error), remedy) from None
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise BadSourceError(f"{path} is not {what}.", str(error).strip("'\""), remedy) from None


def form_of(archive: zipfile.ZipFile, key: str) -> Form:
    """Shape and dtype of an array; `ValueError` where it lies by columns or says nothing."""
    with archive.open(f"{key}.npy") as stream:
        return _read_form(stream, key)


def read_member(archive: zipfile.ZipFile, key: str, form: Form, block_rows: int) -> Iterator[npt.NDArray[Any]]:
    """Stream one array in blocks of rows, after its header has been held against what is expected."""
    shape, dtype = form
    with archive.open(f"{key}.npy") as stream:
        found = _read_form(stream, key)
        if found != form:
            raise ValueError(f"{key} is {found[1]} {found[0]}, not {dtype} {shape}.")
        for start in range(0, shape[0], block_rows):
            rows = min(block_rows, shape[0] - start)
            size = rows * math.prod(shape[1:]) * dtype.itemsize
            data = stream.read(size)
            if len(data) < size:
                raise EOFError(f"{key} ends in row {start + len(data) * rows // size}.")
            yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
        if stream.read(1):  # reading to the end also has the checksum compared
            raise ValueError(f"{key} goes on after its last row.")


def _read_form(stream: IO[bytes], key: str) -> Form:
    """Read an npy header."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{key} is in npy format {version}, not (1, 0).")
    try:
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, TokenError, MemoryError, RecursionError) as error:  # what its parser lets through
        raise ValueError(f"{key} has no valid header.") from error
    if by_columns:
        raise ValueError(f"{key} is {dtype} {shape} by columns.")
    return shape, dtype
