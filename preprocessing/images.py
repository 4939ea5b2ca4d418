"""One picture from its file to a square of grey pixels; pure but for reading the file."""

from __future__ import annotations

import os

# A file of a megabyte may claim a billion pixels. OpenCV reads this limit once, when it is loaded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))

import cv2
import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.files import opened

Pixels = npt.NDArray[np.uint8]

LARGEST_FILE = 64 << 20  # bytes


class PictureError(ValueError):
    """The file is there, but no picture can be made of it."""


def use_one_thread() -> None:
    """Keep OpenCV to the thread that calls it, and its complaints about broken files off the terminal."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def load_square(path: str | bytes, size: int, out: Pixels | None = None) -> Pixels:
    """Read a picture as grey pixels, crop its middle square and resize that.

    Parameters
    ----------
    path:
        A bmp, jpg or png file (whatever OpenCV decodes); symbolic links are refused.
    size:
        Side of the result in pixels.
    out:
        Where to write it, uint8 (size, size), contiguous; a new array when None.

    Raises
    ------
    PictureError
        When the file is not a whole picture.
    OSError
        When it cannot be opened; `FileNotFoundError` when it is not there.
    """
    return resize_square(decode_grey(read_file(path)), size, out)


def read_file(path: str | bytes) -> bytes:
    """Read a regular file of at most 64 MiB."""
    with opened(path) as handle:
        status = os.fstat(handle)
        if status.st_size > LARGEST_FILE:
            raise PictureError(f"{status.st_size} bytes, more than {LARGEST_FILE}")
        return os.read(handle, status.st_size)


def decode_grey(data: bytes) -> Pixels:
    """Decode a picture file to uint8 (height, width) with OpenCV's own conversion to grey.

    A JPEG gives its luma as stored. Colours of bmp and png are weighted 0.299 R + 0.587 G + 0.114 B, rounded for bmp and
    cut off for png: the same picture is on average half a level darker as png.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise PictureError(str(error.err or error)) from None
    if pixels is None:
        raise PictureError("not a picture that OpenCV can decode, or cut short" if data else "empty file")
    return pixels  # type: ignore[return-value]


def resize_square(pixels: Pixels, size: int, out: Pixels | None = None) -> Pixels:
    """Crop the middle square of (height, width) and resize it to (size, size), averaging areas: never distorted."""
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), dst=out, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
