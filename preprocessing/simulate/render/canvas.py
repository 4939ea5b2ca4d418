"""The strokes that everything on the unrolled head is painted with: places and widths are pixels of its texture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SHIFT = 4  # fractional bits of OpenCV's coordinates
STEPS = 5  # of a curve between two of its points


def disc(canvas: Array, centre: Array, radius: float, grey: float) -> None:
    """Fill a circle of `radius` pixels around a pixel."""
    cv2.circle(canvas, tuple(fixed(centre)), round(radius * (1 << SHIFT)), float(grey), -1, cv2.LINE_AA, SHIFT)


def fixed(points: Array) -> Array:
    """Pixels as OpenCV takes them, with `SHIFT` fractional bits."""
    return np.asarray(np.rint(points * (1 << SHIFT)).astype(np.int32))


def fill(canvas: Array, points: Array, grey: float) -> None:
    """Fill a polygon of pixels (n, 2)."""
    cv2.fillPoly(canvas, [fixed(points)], float(grey), cv2.LINE_AA, SHIFT)


def line(canvas: Array, points: Array, grey: float, thickness: float) -> None:
    """Draw an open line through pixels (n, 2)."""
    cv2.polylines(canvas, [fixed(points)], False, float(grey), max(1, round(thickness)), cv2.LINE_AA, SHIFT)


@lru_cache(maxsize=8)
def _spline_weights(n: int) -> Array:
    """Weights ((n - 1) * STEPS + 1, n) of a Catmull-Rom curve through n points."""
    t = np.linspace(0, n - 1, (n - 1) * STEPS + 1)
    i = np.minimum(t.astype(int), n - 2)
    u = (t - i)[:, None]
    basis = np.hstack([-u + 2 * u**2 - u**3, 2 - 5 * u**2 + 3 * u**3, u + 4 * u**2 - 3 * u**3, -(u**2) + u**3]) / 2
    weights = np.zeros((len(t), n))
    for k in range(4):
        np.add.at(weights, (np.arange(len(t)), np.clip(i + k - 1, 0, n - 1)), basis[:, k])
    return weights


def curve(points: Array) -> Array:
    """A smooth open curve through points (n, 2)."""
    return np.asarray(_spline_weights(len(points)) @ points)
