"""Draw the dSprites: three outlines, six sizes, forty angles and 32 x 32 places, as hard-edged 64 x 64 pictures.

A pixel is lit when its centre lies inside the outline. The outlines were fitted to frames of the original dataset, whose
lit pixels they match but for about one in ten thousand. Places are not whole pixels apart but 32/31, so the picture of a sprite
depends on where it stands; a sprite is therefore filled once on a raster 31 times as fine, in which the pixel centres of
every place are a strided slice.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RENDERER_VERSION = 1  # raise it with any change of a pixel

SIZE = 64  # pixels along a picture's side
PLACES = 32  # along each axis
TRAVEL = 32.0  # pixels from the first place to the last
CENTRE = 15.5  # pixel index of the first place

# Half-lengths in pixels at scale 1; x to the right, y downwards.
_SQUARE = 9.598
_ELLIPSE = (12.775, 7.22)
_ELLIPSE_SIDES = 72
# Right half of the heart: two cubic Bezier curves, from the notch to the widest point and from there to the tip.
_HEART = (
    ((0.0, -5.1827), (2.0674, -11.9921), (9.5924, -9.5517), (9.5979, -4.0824)),
    ((9.5979, -4.0824), (9.5967, 1.5768), (1.3273, 4.9035), (0.0, 9.6414)),
)
_HEART_SIDES = 24  # per curve

_FIRST, _WINDOW = 2, 29  # at place j every sprite lies within pixels j + 2 .. j + 30

Points = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]


@cache
def outline(shape: int) -> Points:
    """Outline of a shape (0 square, 1 ellipse, 2 heart) at scale 1, angle 0, about the origin: corners (n, 2), float64."""
    if shape == 0:
        return _SQUARE * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    if shape == 1:
        angle = np.arange(_ELLIPSE_SIDES) * (2 * np.pi / _ELLIPSE_SIDES)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1) * _ELLIPSE
    upper, lower = (_bezier(np.array(curve), _HEART_SIDES) for curve in _HEART)
    right = np.concatenate([upper, lower[1:]])
    return np.concatenate([right, right[-2:0:-1] * (-1, 1)])


def _bezier(control: Points, sides: int) -> Points:
    """Evaluate a cubic Bezier curve at sides + 1 points."""
    t = np.linspace(0, 1, sides + 1)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return weights @ control


def fill(corners: Points, x: Points, y: Points) -> npt.NDArray[np.bool_]:
    """Tell which points of a raster lie inside a polygon (even-odd rule): bool (h, w).

    `corners` (n, 2) are closed from the last to the first; `x` (w,) and `y` (h,) are ascending coordinates of columns and rows.
    """
    start, end = corners, np.roll(corners, -1, axis=0)
    crosses = (start[:, 1] <= y[:, None]) != (end[:, 1] <= y[:, None])  # (h, n)
    row, side = np.nonzero(crosses)
    along = (y[row] - start[side, 1]) / (end[side, 1] - start[side, 1])
    column = np.searchsorted(x, start[side, 0] + along * (end[side, 0] - start[side, 0]))
    toggles = np.zeros((len(y), len(x) + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1].astype(bool)


def draw_everywhere(shape: int, scale: float, angle: float) -> Images:
    """Draw a sprite at every place: uint8 (32, 32, 64, 64) of 0 and 255, by place along x, place along y, row and column.

    Shapes are 0 square, 1 ellipse and 2 heart; the scale is up to 1, the angle in radians, counter-clockwise.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    corners = scale * outline(shape) @ np.array([(cos, -sin), (sin, cos)])  # y points downwards
    # Centre of window pixel k at place j, seen from the sprite's centre; j runs backwards so that they ascend.
    steps = np.arange(PLACES)[::-1] * (TRAVEL / (PLACES - 1) - 1)
    centres = (np.arange(_WINDOW)[:, None] + _FIRST - CENTRE - steps).ravel()
    inside = fill(corners, centres, centres).reshape(_WINDOW, PLACES, _WINDOW, PLACES)
    windows = inside.transpose(3, 1, 0, 2)[::-1, ::-1] * np.uint8(255)  # (place x, place y, row, column)
    images = np.zeros((PLACES, PLACES, SIZE, SIZE), np.uint8)
    for x in range(PLACES):
        for y in range(PLACES):
            top, left = y + _FIRST, x + _FIRST
            images[x, y, top : top + _WINDOW, left : left + _WINDOW] = windows[x, y]
    return images
