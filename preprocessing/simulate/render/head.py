"""The three-dimensional head: a mesh of the skin over angle and height, shaped by the person and by action units.

Head frame in millimetres: x to the picture's right, y downwards, z away from the camera, as in OpenFace; the origin is
the middle of the face. A row of the mesh is a slice through the head, lower slices tilted so that one follows the
line of the jaw; a column is an angle around the vertical axis, 0 at the nose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from gated_vae.preprocessing.simulate.render.landmarks import JAW_DEGREES, JAW_V, Array, au

DEGREES = np.arange(-150, 150.1, 2.5)  # columns of the mesh
HEIGHTS = np.arange(-141, 135.1, 3.0)  # rows of the mesh, v in mm
AXIS_Z = 55.0  # the axis lies this far behind the face, between the ears
FINE = 6  # pixels of the texture per cell of the mesh both ways, about half a millimetre each on the face
SHAPE = (len(HEIGHTS) * FINE, len(DEGREES) * FINE)  # of the texture
MM = FINE / (HEIGHTS[1] - HEIGHTS[0])  # pixels of the texture per millimetre downwards; nearly so across the face
SQUARE = 2.3  # exponent of the slices: 2 would be ellipses, more is flatter in front

# Slices of the bare skull: v, half the width, z of the front at the midline, z of the back.
SLICES = np.array(
    [
        (-141, 4, 52, 62), (-136, 26, 30, 90), (-125, 48, 10, 118), (-108, 66, -4, 138),
        (-85, 74, -11, 148), (-62, 77, -14, 150),
        (-40, 76, -11, 146), (-20, 74, -12, 138), (0, 72.5, -13, 128), (20, 71.5, -12, 116), (40, 68.5, -11, 108),
        (56, 62, -10, 104),
        (68, 52, -8, 103), (76, 45, -2, 102), (82, 42, 12, 102), (90, 44, 26, 104), (105, 50, 32, 108), (140, 54, 34, 112),
    ],
    dtype=float,
)  # fmt: skip

# Bumps of the face: x, v, spread in x, spread in v, height towards the camera; x > 0 stands for both sides.
BUMPS = (
    (32, -39, 14, 9, -8.0), (32, -38, 10, 7, 5.0), (28, -55, 20, 6, 3.0), (44, -8, 16, 13, 4.5), (0, 30, 24, 18, 5.0),
    (0, 24.5, 16, 4, 2.5), (0, 38, 14, 5, 4.0), (0, 50, 16, 4, -3.0), (0, 69, 17, 10, 6.5), (0, -44, 8, 8, -2.0),
    (62, 30, 16, 18, -4.0),
)  # fmt: skip
NOSE_V, NOSE_HEIGHT = (-56, -42, -30, -16, -5, 0, 4, 8, 12, 16), (0, 5, 10, 16, 23, 24.5, 23, 13, 4, 0)

# What action units raise: name, then a bump as above, its height at full intensity.
AU_BUMPS = (
    ("AU06", (40, -10, 14, 10, 9.0)), ("AU06", (34, -27, 12, 4, 2.5)), ("AU12", (40, 4, 14, 13, 9.0)),
    ("AU12", (27, 12, 5, 13, -5.0)), ("AU09", (10, -24, 6, 9, 3.0)), ("AU10", (22, 10, 8, 9, 5.0)),
    ("AU14", (33, 30, 4, 5, -5.0)), ("AU15", (27, 50, 8, 8, 2.5)),
    ("AU17", (0, 60, 14, 9, 6.0)), ("AU04", (10, -58, 8, 7, 3.5)), ("AU23", (0, 32, 18, 7, 3.0)), ("AU20", (36, 36, 8, 8, -2.5)),
)  # fmt: skip
JAW_DROP = 17.0  # mm at full AU26


@dataclass(frozen=True)
class Skull:
    """How one person's head is built: factors around 1."""

    width: float = 1.0
    jaw: float = 1.0
    length: float = 1.0
    nose: float = 1.0
    nose_width: float = 1.0
    chin: float = 1.0
    cheeks: float = 1.0
    ears: float = 1.0


def smoothstep(value: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return np.asarray(value * value * (3 - 2 * value))


class Grid(NamedTuple):
    """The bare skull: vertices (rows, columns, 3) and, for every vertex, its x, its v and its degrees (rows, columns)."""

    vertices: Array
    x: Array
    v: Array
    degrees: Array


@lru_cache(maxsize=1)
def grid() -> Grid:
    """The mesh before person and expression."""
    width, front, back = PchipInterpolator(SLICES[:, 0], SLICES[:, 1:])(HEIGHTS).T[..., None]
    angle = np.radians(DEGREES)[None]
    depth = np.where(np.abs(angle) < np.pi / 2, AXIS_Z - front, back - AXIS_Z)
    radius = ((np.abs(np.sin(angle)) / width) ** SQUARE + (np.abs(np.cos(angle)) / depth) ** SQUARE) ** (-1 / SQUARE)
    x, z = radius * np.sin(angle), AXIS_Z - radius * np.cos(angle)
    v = np.repeat(HEIGHTS[:, None], len(DEGREES), axis=1)
    tilt = 0.55 * smoothstep(v / 75) * (1 - 0.7 * smoothstep((v - 85) / 40))
    vertices = np.stack([x, v - tilt * np.clip(z + 5, 0, 75), z], axis=-1)
    return Grid(vertices, x, v, np.repeat(DEGREES[None], len(HEIGHTS), axis=0))


def _bump(spec: tuple[float, ...]) -> Array:
    x0, v0, spread_x, spread_v, height = spec
    _, x, v, degrees = grid()
    across = np.exp(-(((np.abs(x) - x0) / spread_x) ** 2)) if x0 else np.exp(-((x / spread_x) ** 2))
    bump: Array = height * across * np.exp(-(((v - v0) / spread_v) ** 2)) * (np.abs(degrees) < 88)
    return bump


@lru_cache(maxsize=1)
def _relief() -> dict[str, Array]:
    """Heights in mm (rows, columns) of the named parts of the face at factor 1, and of the jaw's weight (0..1)."""
    _, _, v, degrees = grid()
    side = np.abs(degrees)
    chin, cheeks = BUMPS[8], BUMPS[3]
    jaw = smoothstep((v - 44) / 26) * (1 - smoothstep((side - 55) / 50)) * (1 - smoothstep((v - 88) / 30))
    return {
        "face": np.sum([_bump(spec) for spec in BUMPS if spec not in (chin, cheeks)], axis=0),
        "chin": _bump(chin),
        "cheeks": _bump(cheeks),
        "ears": np.exp(-(((side - 97) / 8.0) ** 4)) * np.exp(-(((v + 12) / 31) ** 4)),
        "ridge": np.nan_to_num(PchipInterpolator(NOSE_V, NOSE_HEIGHT, extrapolate=False)(v)),
        "jaw": jaw,
        **{f"{name}{i}": _bump(spec) for i, (name, spec) in enumerate(AU_BUMPS)},
    }


def _nose(skull: Skull, wrinkle: float) -> Array:
    """Height of the nose: a ridge that widens to the tip, and the wings."""
    _, x, v, degrees = grid()
    spread = np.interp(v, (-50, -10, 5), (6.5, 8.5, 10.5)) * skull.nose_width
    wings = 9 * np.exp(-(((np.abs(x) - 12 * skull.nose_width) / 5.5) ** 2) - ((v - 4 + 4 * wrinkle) / 6) ** 2)
    front = np.abs(degrees) < 60
    nose: Array = (_relief()["ridge"] * np.exp(-((x / spread) ** 2)) + wings) * front * skull.nose
    return nose


def vertices(skull: Skull, intensities: Array, hair: Array | None = None) -> Array:
    """Mesh of one person's head at 17 intensities: (rows, columns, 3) float32 mm; `hair` adds height in mm outwards."""
    bare, _, v, degrees = grid()
    relief = _relief()
    points = bare.copy()
    raised = (
        relief["face"]
        + skull.chin * relief["chin"]
        + skull.cheeks * relief["cheeks"]
        + _nose(skull, au(intensities, "AU09"))
    )
    for i, (name, _) in enumerate(AU_BUMPS):
        raised = raised + au(intensities, name) * relief[f"{name}{i}"]
    points[..., 2] -= raised
    points[..., 0] += np.sign(degrees) * 13 * skull.ears * relief["ears"]
    if hair is not None:
        outwards = bare - np.array([0, -60, AXIS_Z])
        points += hair[..., None] * outwards / np.linalg.norm(outwards, axis=-1, keepdims=True)
    drop = JAW_DROP * au(intensities, "AU26") - 3 * au(intensities, "AU17")
    points[..., 1] += drop * relief["jaw"]
    points[..., 2] += 0.35 * drop * relief["jaw"]
    points[..., 0] *= skull.width * (1 + (skull.jaw - 1) * smoothstep((v - 10) / 50))
    below = np.clip(points[..., 1] + 38, 0, None)
    points[..., 1] += (skull.length - 1) * below
    return points.astype(np.float32)


@lru_cache(maxsize=1)
def _columns_of_x() -> Array:
    """x at the front for every column within +-88 degrees, at the height of the eyes."""
    row = int(np.searchsorted(HEIGHTS, -10))
    return np.asarray(grid().x[row])


def mesh_places(places: Array) -> Array:
    """Turn (x, v) in mm, shape (..., 2), into (column, row) of the mesh, fractional."""
    front = np.abs(DEGREES) <= 88
    columns = np.interp(places[..., 0], _columns_of_x()[front], np.flatnonzero(front))
    return np.stack([columns, (places[..., 1] - HEIGHTS[0]) / (HEIGHTS[1] - HEIGHTS[0])], axis=-1)


def degree_places(degrees: Array, v: Array) -> Array:
    """Turn an angle in degrees and v in mm into (column, row) of the mesh."""
    return np.stack(
        [(degrees - DEGREES[0]) / (DEGREES[1] - DEGREES[0]), (v - HEIGHTS[0]) / (HEIGHTS[1] - HEIGHTS[0])], axis=-1
    )


def pixels(places: Array) -> Array:
    """Turn (x, v) in mm, shape (..., 2), into pixels (x, y) of the texture."""
    return of_mesh(mesh_places(places))


def of_mesh(places: Array) -> Array:
    """Turn fractional (column, row) of the mesh, shape (..., 2), into pixels (x, y) of the texture."""
    return np.asarray((places + 0.5) * FINE - 0.5)


def jaw_places() -> Array:
    """(17, 2) (column, row) of the outline of the jaw, from the picture's left to its right."""
    degrees = np.concatenate([JAW_DEGREES, -JAW_DEGREES[-2::-1]])
    return degree_places(degrees, np.concatenate([JAW_V, JAW_V[-2::-1]]))


def on_surface(mesh: Array, places: Array) -> Array:
    """Points (n, 3) of the mesh at fractional (column, row) places (n, 2), bilinear."""
    rows, columns = mesh.shape[:2]
    column, row = np.clip(places[:, 0], 0, columns - 1.001), np.clip(places[:, 1], 0, rows - 1.001)
    c, r = column.astype(int), row.astype(int)
    a, b = (column - c)[:, None], (row - r)[:, None]
    return np.asarray(
        (mesh[r, c] * (1 - a) + mesh[r, c + 1] * a) * (1 - b) + (mesh[r + 1, c] * (1 - a) + mesh[r + 1, c + 1] * a) * b
    )


def normals(mesh: Array) -> Array:
    """Unit normals (rows, columns, 3) pointing out of the head."""
    down, right = np.gradient(mesh, axis=(0, 1))
    normal = np.cross(down, right)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6))
