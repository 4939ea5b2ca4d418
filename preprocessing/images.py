"""One picture from its file to pixels, grey or in colour; pure but for reading the file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from gated_vae.preprocessing.decoding.decode import PictureError, decode
from gated_vae.preprocessing.decoding.fit import Pixels, resize_middle
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


def decode_colour(data: bytes) -> Pixels:
    """As `decode_grey`, to uint8 (height, width, 3) in OpenCV's order: blue, green, red. What is transparent is not looked at."""
    return decode(data, cv2.IMREAD_COLOR)


def decode_fitted(data: bytes, shape: tuple[int, ...]) -> Pixels:
    """A picture's bytes as a store has them, uint8 of `shape`: see `read_pictures`; `PictureError` when it is not whole."""
    if len(shape) == 2:
        return resize_middle(decode_grey(data), (shape[0], shape[1]))
    return resize_middle(decode_colour(data), (shape[0], shape[1]))[..., ::-1]


def read_pictures(paths: Iterable[str | Path], shape: tuple[int, ...]) -> Pixels:
    """Read pictures as a store has them: uint8 (n, *shape), in the order given.

    The middle of each is cut out in the proportions of `shape`, and scaled by averaging areas.

    Parameters
    ----------
    paths:
        Picture files of any size, whatever they are called.
    shape:
        Of one image, as a run's `image_shape`: (H, W) for grey ones, (H, W, 3) for red, green and blue.

    Raises
    ------
    GatedVAEError
        When one of them is no picture, damaged or cut short.
    OSError
        When one cannot be opened.
    """
    paths = list(paths)
    images = np.empty((len(paths), *shape), np.uint8)
    for image, path in zip(images, paths, strict=True):
        try:
            image[:] = decode_fitted(read_file(os.fspath(path)), shape)
        except PictureError as error:
            raise GatedVAEError(f"{path} is no picture.", f"{error}.", "Mend it, or leave it out.") from None
    return images
