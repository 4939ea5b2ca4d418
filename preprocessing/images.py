"""Pictures from their files to grey pixels and to their middle square; pure but for reading the files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from gated_vae.preprocessing.decoding.decode import PictureError, Pixels, decode
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import opened

LARGEST_FILE = 64 << 20  # bytes


def use_one_thread() -> None:
    """Keep OpenCV to the thread that calls it, and what it logs about broken files off the terminal."""
    cv2.setNumThreads(1)
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # silent; `cv2.setLogLevel` until 4.12


def read_file(path: str | bytes) -> bytes:
    """Read a regular file of at most 64 MiB; `PictureError` when it is larger, `OSError` when it cannot be opened."""
    with opened(path) as handle:
        status = os.fstat(handle)
        if status.st_size > LARGEST_FILE:
            raise PictureError(f"{status.st_size} bytes, more than {LARGEST_FILE}")
        return os.read(handle, status.st_size)


def decode_grey(data: bytes) -> Pixels:
    """Decode a picture file to uint8 (height, width) with OpenCV's own conversion to grey; `PictureError` when it is not whole.

    A JPEG gives its luma as stored. Colours of bmp and png are weighted 0.299 R + 0.587 G + 0.114 B, rounded for bmp and
    cut off for png: the same picture is on average half a level darker as png.
    """
    return decode(data, cv2.IMREAD_GRAYSCALE)


def resize_square(pixels: Pixels, size: int, out: Pixels | None = None) -> Pixels:
    """Crop the middle square of (height, width) and resize it to (size, size), averaging areas: never distorted."""
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), dst=out, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def read_pictures(paths: Iterable[str | Path], size: int) -> Pixels:
    """Pictures as a store has them, uint8 (n, size, size), in the order given: grey, the middle square, areas averaged.

    Parameters
    ----------
    paths:
        JPEG, PNG or BMP files of any size, whatever they are called.

    Raises
    ------
    GatedVAEError
        When one of them is no picture, damaged or cut short.
    OSError
        When one cannot be opened.
    """
    images = []
    for path in paths:
        try:
            images.append(resize_square(decode_grey(read_file(os.fspath(path))), size))
        except PictureError as error:
            raise GatedVAEError(f"{path} is no picture.", f"{error}.", "Mend it, or leave it out.") from None
    return np.stack(images) if images else np.empty((0, size, size), np.uint8)
