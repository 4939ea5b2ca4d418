"""The 68 facial landmarks on the unrolled head, and how action units move them.

Places on the head are written as (x, v) in millimetres: x to the picture's right as seen from the front, v downwards,
both from the middle of the face. Everything painted on the skin is drawn through these points, and the landmark columns
of the CSV are these points projected, so that picture and file cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

AU_NAMES = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12"),
    *("AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45"),
)
FULL = 5.0  # the top of OpenFace's intensity scale
SOFT = 1.0  # intensity by which 63% of what a unit can do in the end is done

OPPOSITE = np.array(
    [
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    ]
)  # fmt: skip

# The side of the picture's left, and the midline; the other side is its mirror image. The outline of the jaw is given
# by the angle around the head in degrees instead of x, for it lies where x says little.
JAW_DEGREES = np.array([-78, -80, -81, -80, -74, -63, -46, -24, 0.0])
JAW_V = np.array([-38, -18, 2, 22, 42, 58, 70, 76, 79.0])
NEUTRAL_LEFT = {
    17: (-58, -53), 18: (-49, -59), 19: (-37, -61.5), 20: (-24, -60), 21: (-12, -57.5),
    27: (0, -40), 28: (0, -27), 29: (0, -14), 30: (0, -2), 31: (-14, 7), 32: (-7, 10), 33: (0, 12),
    36: (-45, -38), 37: (-38, -43.5), 38: (-27, -43.5), 39: (-19, -37), 40: (-27, -34), 41: (-38, -34),
    48: (-26, 28.8), 49: (-16, 25.3), 50: (-6, 22.8), 51: (0, 24), 57: (0, 41.5), 58: (-7, 41), 59: (-16, 37),
    60: (-22, 29.3), 61: (-8, 29.7), 62: (0, 30.2), 66: (0, 30.6), 67: (-8, 30.2),
}  # fmt: skip

# Where an action unit at full intensity moves the points of the left side: (away from the midline, downwards) in mm.
MOVES: dict[str, dict[int, tuple[float, float]]] = {
    "AU01": {21: (0, -10), 20: (0, -9), 19: (0, -5), 18: (0, -1)},
    "AU02": {17: (0, -8), 18: (0, -11), 19: (0, -9), 20: (0, -3)},
    "AU04": {21: (-5, 7), 20: (-4, 7), 19: (-2, 6), 18: (-1, 4), 17: (0, 1), 37: (0, 1), 38: (0, 1.5)},
    "AU05": {37: (0, -4.5), 38: (0, -4.5), 40: (0, 0.8), 41: (0, 0.8)},
    "AU06": {40: (0, -2.5), 41: (0, -3)},
    "AU07": {40: (0, -2.8), 41: (0, -2.8), 37: (0, 2), 38: (0, 2)},
    "AU09": {31: (2.5, -5), 32: (0, -4), 33: (0, -3), 21: (-2, 4), 20: (-1, 4), 19: (0, 2), 50: (0, -3), 51: (0, -2)},
    "AU10": {49: (0, -6), 50: (0, -7), 51: (0, -6), 61: (0, -5), 62: (0, -5), 31: (1.5, -2), 48: (0, -1)},
    "AU12": {
        48: (12, -11), 49: (7, -5), 59: (9, -5), 58: (4, 1), 57: (0, 1.5), 51: (0, 1),
        60: (11, -9.5), 61: (4, 0), 67: (4, 0), 62: (0, 2), 66: (0, 2),
    },
    "AU14": {48: (4, -1), 60: (4, -1), 49: (2, 1), 59: (2, -1)},
    "AU15": {48: (2, 11), 60: (1, 10), 49: (0, 3), 59: (1, 6), 50: (0, 1), 57: (0, -1)},
    "AU17": {
        57: (0, -6), 58: (0, -6), 59: (0, -2), 66: (0, -6), 67: (0, -5),
        61: (0, -4), 62: (0, -5), 50: (0, -4), 51: (0, -4),
    },
    "AU20": {
        48: (10, 1), 60: (10, 1), 49: (5, 1), 59: (5, -2), 58: (2, -2.5), 57: (0, -2.5), 50: (1, 2), 51: (0, 2),
    },
    "AU23": {
        48: (-5, 0), 60: (-5, 0), 49: (-3, 3), 50: (0, 5.5), 51: (0, 4.5), 59: (-3, -4), 58: (0, -8), 57: (0, -8),
    },
    "AU25": {
        57: (0, 8), 58: (0, 8), 59: (0, 5), 66: (0, 9), 67: (0, 8),
        62: (0, -2), 61: (0, -2), 50: (0, -1), 51: (0, -1),
    },
    "AU26": {
        57: (0, 9), 58: (0, 9), 59: (-2, 8), 66: (0, 10), 67: (0, 9.5), 48: (-4, 4), 60: (-4, 4), 49: (-2, 1),
    },
    "AU45": {},  # closes the eye by a share of its opening: see `_close_eyes`
}  # fmt: skip
CLOSED_AT = 3.5  # AU45 from which the eye is shut


@dataclass(frozen=True)
class Shape:
    """How one person's features lie: shifts in mm and factors, all zero or one for the average face."""

    eye_distance: float = 0.0
    eye_size: float = 1.0
    brow_height: float = 0.0
    brow_slant: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 1.0
    mouth_width: float = 1.0
    mouth_height: float = 0.0
    lip_thickness: float = 1.0


def _both_sides(left: Mapping[int, tuple[float, float]]) -> Array:
    """Fill (68, 2) from the left side's entries and their mirror images."""
    points = np.zeros((68, 2))
    for index, place in left.items():
        points[index] = place
        points[OPPOSITE[index]] = (-place[0], place[1])
    return points


NEUTRAL = _both_sides(NEUTRAL_LEFT)
_OUTWARDS = [{i: (-out, down) for i, (out, down) in MOVES[name].items()} for name in AU_NAMES]
MOVE = np.stack([_both_sides(moves) for moves in _OUTWARDS]) / FULL  # (17, 68, 2) displacement per unit of intensity


def au(intensities: Array, name: str) -> float:
    """One intensity out of the 17, as a share of the full scale (0..1)."""
    return float(intensities[AU_NAMES.index(name)]) / FULL


def response(intensities: Array) -> Array:
    """How far intensities (..., 17) in 0..5 show, in 0..5: the first units of intensity do more than the last.

    Real labels seldom pass 2.5. What they mean must be seen in 64x64 pixels all the same, and 5 must not tear the face.
    """
    return np.asarray(FULL * (1 - np.exp(-intensities / SOFT)) / (1 - np.exp(-FULL / SOFT)))


def place(shape: Shape, intensities: Array) -> Array:
    """Places (68, 2) of one person's landmarks at 17 `response`s in 0..5; the first 17 (the jaw) are left at zero."""
    points: Array = _person(shape) + np.tensordot(intensities, MOVE, axes=1)
    _close_eyes(points, au(intensities, "AU45") * FULL / CLOSED_AT)
    _close_lips(points)
    return points


def _person(shape: Shape) -> Array:
    points = NEUTRAL.copy()
    side = np.sign(points[:, 0])
    points[17:27, 0] += side[17:27] * shape.eye_distance
    points[36:48, 0] += side[36:48] * shape.eye_distance
    points[17:27, 1] += shape.brow_height + shape.brow_slant * (np.abs(points[17:27, 0]) - 35) / 23
    for eye in (slice(36, 42), slice(42, 48)):
        centre = points[eye].mean(0)
        points[eye] = centre + (points[eye] - centre) * shape.eye_size
    points[30:36, 1] += shape.nose_length
    points[31:36, 0] *= shape.nose_width
    lips, middle = points[48:68], 30.2
    lips[:, 0] *= shape.mouth_width
    lips[:, 1] = middle + (lips[:, 1] - middle) * shape.lip_thickness + shape.mouth_height
    return points


def _close_eyes(points: Array, closed: float) -> None:
    """Bring the upper lid down to the lower by the share `closed`, and let no lid pass the other."""
    for upper, lower in (((37, 38), (41, 40)), ((43, 44), (47, 46))):
        gap = np.maximum(points[list(lower), 1] - points[list(upper), 1], 0.6)
        opening = gap * max(0.0, 1 - closed)
        points[list(lower), 1] -= (gap - opening) * 0.15
        points[list(upper), 1] = points[list(lower), 1] - opening


def _close_lips(points: Array) -> None:
    """Keep the lips in their order: upper outer, upper inner, lower inner, lower outer."""
    order = [[49, 61, 67, 59], [50, 61, 67, 58], [51, 62, 66, 57], [52, 63, 65, 56], [53, 63, 65, 55]]
    for column in order:
        for above, below, least in zip(column, column[1:], (1.2, 0.4, 1.6), strict=False):
            points[below, 1] = max(points[below, 1], points[above, 1] + least)
