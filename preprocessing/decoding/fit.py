"""What is stored of a picture: the middle of it, in the proportions and the size of the store."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height and width in pixels


def middle(height: int, width: int, shape: Size) -> tuple[slice, slice]:
    """Rows and columns of the largest part about the middle of a picture that has the proportions of `shape`."""
    rows = min(height, max(1, round(width * shape[0] / shape[1])))
    columns = min(width, max(1, round(height * shape[1] / shape[0])))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def resize_middle(pixels: Pixels, shape: Size, out: Pixels | None = None) -> Pixels:
    """Crop the `middle` of (height, width) or (height, width, 3) and resize it to `shape`, averaging areas: never distorted."""
    height, width = pixels.shape[:2]
    if height * shape[1] != width * shape[0]:
        pixels = pixels[middle(height, width, shape)]
    return cv2.resize(pixels, shape[::-1], dst=out, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
