"""One picture from its file to grey pixels and to its middle square; pure but for reading the file."""

from __future__ import annotations

import os

import cv2

from gated_vae.preprocessing.decoding.decode import PictureError, Pixels, decode
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
