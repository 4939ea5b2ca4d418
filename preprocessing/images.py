"""One picture from its file to pixels, grey or in colour; pure but for reading the file."""

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


def decode_colour(data: bytes) -> Pixels:
    """As `decode_grey`, to uint8 (height, width, 3) in OpenCV's order: blue, green, red. What is transparent is not looked at."""
    return decode(data, cv2.IMREAD_COLOR)
