"""Faces cut out of whole pictures by their 68 landmarks, as OpenFace aligns them: upright and of one size.

OpenFace scales and turns the few landmarks that expressions hardly move onto those of its mean shape, and puts the mean of
all 68 (its p_tx, p_ty) at the middle of the square. `MEAN_SHAPE` was worked out of 6,661 faces of FaceLandmarkImg 2.0.2:
landmarks freed of their pose and regressed on p_0 .. p_33 have it as their intercept, and halves of the faces agree to
0.01 mm. `tests/preprocessing/openface/test_align.py` repeats this, and compares with real aligned faces.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.decoding.fit import Pixels, Size, resize_middle

Array = npt.NDArray[np.floating[Any]]

SIDE = 112  # pixels of OpenFace's square, unless -simsize says otherwise
PER_MM = 0.7  # pixels of that square per millimetre, its sim_scale
RIGID = [1, 2, 3, 4, 12, 13, 14, 15, 27, 28, 29, *range(31, 37), 39, 40, 41, 42, 45, 46, 47]
MEAN_SHAPE = np.array(
    [
        (-72.78, -10.95), (-70.53, 7.93), (-66.85, 26.08), (-59.79, 42.56), (57.34, 42.42), (64.39, 25.46),
        (68.21, 6.99), (70.49, -11.66), (0.65, -42.19), (0.80, -30.99), (0.99, -19.94), (-14.77, 2.60),
        (-7.18, 4.75), (0.55, 6.56), (8.27, 4.66), (15.21, 2.64), (-46.05, -37.47), (-19.65, -36.75),
        (-28.27, -35.14), (-38.08, -34.92), (19.27, -37.04), (45.17, -38.09), (38.20, -35.53), (28.77, -35.48),
    ]
)  # (24, 2) mm, the rigid landmarks: x to the right, y down  # fmt: skip


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def scaled_rotations(points: Array, target: Array) -> Array:
    """The 2x2 matrices that lay points (n, k, 2) on a target (k, 2), both about their means: (n, 2, 2).

    As in OpenFace, the scale makes both equally spread and the rotation is the best in the sense of least squares. NaN for
    points that are no numbers or all the same.
    """
    source, target = points - points.mean(axis=1, keepdims=True), target - target.mean(axis=0)
    along = (source * target).sum(axis=(1, 2))
    across = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(axis=1)
    spread = np.linalg.norm(source, axis=(1, 2))
    scale = np.where((spread > 0) & (spread < np.inf), np.linalg.norm(target) / spread, np.nan)
    angle = np.arctan2(across, along)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(-1, 2, 2)


def alignments(landmarks: Array) -> Array:
    """The transforms (n, 2, 3) from pictures to OpenFace's square of 112 pixels, of landmarks (n, 68, 2) in pixels.

    The middle of a picture's first pixel is (0, 0). What is at (x, y) in it is at `matrix @ (x, y, 1)` in the square. NaN where
    the landmarks are no numbers or all the same.
    """
    turns = PER_MM * scaled_rotations(landmarks[:, RIGID], MEAN_SHAPE)
    shifts = SIDE // 2 - turns @ landmarks.mean(axis=1)[..., None]
    return np.concatenate([turns, shifts], axis=2)


def landmarks_of(matrix: Array) -> Array:
    """Where in the picture the rigid landmarks of a mean face lie, (24, 2), given one of `alignments`."""
    inverse = cv2.invertAffineTransform(matrix)
    return (SIDE // 2 + PER_MM * MEAN_SHAPE) @ inverse[:, :2].T + inverse[:, 2]


def cut_face(pixels: Pixels, matrix: Array, shape: Size, out: Pixels | None = None) -> Pixels:
    """Cut a face out of its picture; black where the picture ends, as OpenFace leaves it.

    Bilinear into OpenFace's square, or a larger one where more is asked for, then made smaller by averaging areas: what a
    store makes of OpenFace's aligned faces. A picture that is twice as fine as that square, or more, is averaged before;
    OpenFace leaves pixels out.

    Parameters
    ----------
    pixels:
        uint8 (height, width) or (height, width, 3).
    matrix:
        One of `alignments`; ValueError when it is not finite.
    shape:
        Height and width of the result in pixels: all of OpenFace's square, or the middle of it where they differ.
    out:
        Where to write it, contiguous; a new array when None.
    """
    if not np.isfinite(matrix).all():
        raise ValueError("the landmarks are no numbers, or all in one place")
    side = max(*shape, SIDE)
    grown = matrix * (side / SIDE) + [0, 0, (side / SIDE - 1) / 2]  # pixels scale about their edges, not their middles
    part, to_square = _shrink(*_crop(pixels, grown, side))
    square = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    if part.size:
        cv2.warpAffine(part, to_square, (side, side), dst=square, flags=cv2.INTER_LINEAR)
    return resize_middle(square, shape, out)


def share_outside(landmarks: Array, rows: slice, columns: slice) -> Array:
    """The share of landmarks (..., k, 2) that lie outside of a part of their picture, or are no numbers: (...) in 0..1."""
    low, high = np.array([columns.start, rows.start]), np.array([columns.stop, rows.stop])
    inside = (landmarks >= low - 0.5) & (landmarks < high - 0.5)
    return np.asarray(1.0 - inside.all(axis=-1).mean(axis=-1))


def _crop(pixels: Pixels, matrix: Array, side: int) -> tuple[Pixels, Array]:
    """The part of a picture that its square of `side` shows, with a margin, and its transform."""
    inverse = cv2.invertAffineTransform(matrix)
    margin = 2 * np.linalg.norm(inverse[:, 0]) + 1  # pixels of the square, and the neighbour that bilinear reads
    corners = np.array([[0, 0, side, side], [0, side, 0, side]]) - 0.5
    reach = inverse[:, :2] @ corners + inverse[:, 2:]
    limits = np.array(pixels.shape[1::-1])
    left, top = low = np.clip(reach.min(axis=1) - margin, 0, limits).astype(int)
    right, bottom = np.clip(reach.max(axis=1) + margin, 0, limits).astype(int)
    return pixels[top:bottom, left:right], np.column_stack([matrix[:, :2], matrix @ [*low, 1]])


def _shrink(pixels: Pixels, matrix: Array) -> tuple[Pixels, Array]:
    """Average a picture as many times smaller as its pixels are finer than the square's, and change its transform so."""
    before = np.array(pixels.shape[1::-1])
    times = int(min(1 / np.linalg.norm(matrix[:, 0]), before.max()))
    if times < 2 or not pixels.size:
        return pixels, matrix
    after = np.maximum(before // times, 1)
    turn = matrix[:, :2] * (before / after)
    shift = matrix[:, 2] + matrix[:, :2] @ (before / after - 1) / 2
    return cv2.resize(pixels, after.tolist(), interpolation=cv2.INTER_AREA), np.column_stack([turn, shift])  # type: ignore
