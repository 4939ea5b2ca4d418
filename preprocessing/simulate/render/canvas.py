"""A canvas in the shape of the unrolled head, and the strokes that everything on it is painted with.

It has `FINE` pixels per cell of the head's mesh both ways, about half a millimetre each on the face.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from gated_vae.preprocessing.simulate.render import head
from gated_vae.preprocessing.simulate.render.landmarks import Array

FINE = 6
SHAPE = (len(head.HEIGHTS) * FINE, len(head.DEGREES) * FINE)
MM = FINE / (head.HEIGHTS[1] - head.HEIGHTS[0])  # pixels per millimetre downwards; nearly so across the face
SHIFT = 4  # fractional bits of OpenCV's coordinates


def pixels(places: Array) -> Array:
    """Pixels (x, y) of places in mm (..., 2)."""
    return of_mesh(head.mesh_places(places))


def of_mesh(places: Array) -> Array:
    """Pixels (x, y) of fractional (column, row) of the mesh (..., 2)."""
    return np.asarray((places + 0.5) * FINE - 0.5)


def disc(canvas: Array, centre: Array, radius: float, grey: float) -> None:
    """Fill a circle of `radius` mm around a pixel."""
    cv2.circle(canvas, tuple(fixed(centre)), round(radius * MM * (1 << SHIFT)), float(grey), -1, cv2.LINE_AA, SHIFT)


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
def _spline_weights(n: int, steps: int) -> Array:
    """Weights ((n - 1) * steps + 1, n) of a Catmull-Rom curve through n points."""
    t = np.linspace(0, n - 1, (n - 1) * steps + 1)
    i = np.minimum(t.astype(int), n - 2)
    u = (t - i)[:, None]
    basis = np.hstack([-u + 2 * u**2 - u**3, 2 - 5 * u**2 + 3 * u**3, u + 4 * u**2 - 3 * u**3, -(u**2) + u**3]) / 2
    weights = np.zeros((len(t), n))
    for k in range(4):
        np.add.at(weights, (np.arange(len(t)), np.clip(i + k - 1, 0, n - 1)), basis[:, k])
    return weights


def curve(points: Array, steps: int = 5) -> Array:
    """A smooth open curve through points (n, 2)."""
    return np.asarray(_spline_weights(len(points), steps) @ points)
