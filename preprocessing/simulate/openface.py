"""What FaceLandmarkImg writes for one image, byte for byte in form: CSV, details, aligned faces.

The frame is CelebA's aligned size, for which OpenFace assumes a focal length of 183.073 pixels. 2D landmarks are the 3D
model under weak perspective (scale, then shift), 3D ones the same points at the distance at which that scale holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gated_vae.preprocessing.openface.cells import INTENSITIES, POSE, PRESENCES
from gated_vae.preprocessing.simulate.labels import Labels
from gated_vae.preprocessing.simulate.render.landmarks import Array
from gated_vae.preprocessing.simulate.render.scene import Face, rotation

FOCAL, CENTRE = 183.073, np.array([89.0, 109.0])
SHAPE_PARAMETERS = 34
LANDMARK_NOISE = 0.4  # pixels of the frame
PITCH_OF_MEAN_SHAPE = 0.162  # OpenFace's mean shape looks up by as much, so p_rx exceeds pose_Rx by it
IRIS_MM, PUPIL_MM = 6.0, 2.6


@dataclass(frozen=True)
class Spot:
    """Where a face lies in the frame: pixels per millimetre, and the pixel of the middle of the face."""

    scale: float
    x: float
    y: float


def _numbered(name: str, n: int) -> list[str]:
    return [f"{name}_{i}" for i in range(n)]


def _columns() -> list[tuple[str, int]]:
    """Every column with its number of decimals, in order."""
    gaze = [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"]
    eyes = [column for axis in "xyXYZ" for column in _numbered(f"eye_lmk_{axis}", 56)]
    points = [column for axis in "xyXYZ" for column in _numbered(axis, 68)]
    shape = [*("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"), *_numbered("p", SHAPE_PARAMETERS)]
    groups: list[tuple[Sequence[str], int]] = [
        (["face"], 0), (["confidence"], 3), (gaze, 6), (["gaze_angle_x", "gaze_angle_y"], 3), (eyes, 1),
        (["pose_Tx", "pose_Ty", "pose_Tz"], 1), (POSE, 3), (points, 1), (shape, 3),
        (INTENSITIES, 2), (PRESENCES, 1),
    ]  # fmt: skip
    return [(name, decimals) for names, decimals in groups for name in names]


COLUMNS = _columns()
HEADER = ", ".join(name for name, _ in COLUMNS) + "\n"
ROW = ", ".join(f"%.{decimals}f" for _, decimals in COLUMNS) + "\n"


def row(index: int, labels: Labels, face: Face, spot: Spot, rng: np.random.Generator) -> str:
    """One line of the CSV: face number `index` of its image."""
    turn = rotation(labels.pose)
    points = _project(face.landmarks, turn, spot, rng)
    eyes = _project(_eye_points(face), turn, spot, rng)
    distance = FOCAL / spot.scale
    shift = (np.array([spot.x, spot.y]) - CENTRE) * distance / FOCAL
    pitch, yaw, roll = labels.pose
    local = rng.normal(0, 14 * np.exp(-np.arange(SHAPE_PARAMETERS) / 7))
    values = np.concatenate(
        [
            [index, labels.confidence],
            _gaze(pitch, yaw, rng),
            eyes,
            [*shift, distance, *labels.pose],
            points,
            [spot.scale, pitch + PITCH_OF_MEAN_SHAPE, yaw * 1.13, roll * 1.03, spot.x, spot.y],
            local,
            labels.intensities,
            labels.presence,
        ]
    )
    return ROW % tuple(values)


def printed(labels: Labels) -> dict[str, float]:
    """The labels by column, as whoever reads the CSV finds them: rounded as OpenFace rounds."""
    names = ["confidence", *POSE, *INTENSITIES, *PRESENCES]
    values = [labels.confidence, *labels.pose, *labels.intensities, *labels.presence]
    decimals = dict(COLUMNS)
    return {name: float(f"{value:.{decimals[name]}f}") for name, value in zip(names, values, strict=True)}


def details(stem: str, found: bool) -> str:
    """The text of ``<stem>_of_details.txt``; it breaks off early where no face was found."""
    lines = [
        f"Input:img_align_celeba/{stem}.jpg",
        f"Input full path:img_align_celeba/{stem}.jpg",
        f"Camera parameters:{FOCAL},{FOCAL},{CENTRE[0]:.0f},{CENTRE[1]:.0f}",
        f"Output aligned directory:{stem}_aligned",
    ]
    if found:
        parts = ("Gaze", "AUs", "Landmarks 2D", "Landmarks 3D", "Pose", "Shape parameters")
        lines += [f"Output csv:{stem}.csv", *(f"{part}: 1" for part in parts)]
    return "\n".join(lines) + "\n"


def write(folder: Path, stem: str, rows: list[str], pictures: list[Array]) -> None:
    """Write the files of one image; no rows mean that no face was found.

    Files are not synced one by one: whoever calls marks a batch as done after all of its files.
    """
    (folder / f"{stem}_of_details.txt").write_text(details(stem, bool(rows)))
    aligned = folder / f"{stem}_aligned"
    aligned.mkdir(exist_ok=True)
    for index, picture in enumerate(pictures):
        _, data = cv2.imencode(".bmp", cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        (aligned / f"face_det_{index:06d}.bmp").write_bytes(data.tobytes())
    if rows:
        (folder / f"{stem}.csv").write_text(HEADER + "".join(rows))


def _project(points: Array, turn: Array, spot: Spot, rng: np.random.Generator) -> Array:
    """x, y (pixels), X, Y, Z (mm from the camera) of points (n, 3) of the head frame, one after the other: (5 n,)."""
    seen = points @ turn.T
    x = spot.scale * seen[:, 0] + spot.x + rng.normal(0, LANDMARK_NOISE, len(seen))
    y = spot.scale * seen[:, 1] + spot.y + rng.normal(0, LANDMARK_NOISE, len(seen))
    z = FOCAL / spot.scale + seen[:, 2]
    return np.concatenate([x, y, (x - CENTRE[0]) * z / FOCAL, (y - CENTRE[1]) * z / FOCAL, z])


def _gaze(pitch: float, yaw: float, rng: np.random.Generator) -> list[float]:
    """Unit vectors of both eyes and the mean angles: as in OpenFace, gaze follows the head by two thirds."""
    across, down = rng.normal([-0.66 * yaw, 0.71 * pitch + 0.045], 0.015)
    vectors = []
    for inwards in (0.11, -0.11):
        vector = np.array([np.tan(across + inwards), np.tan(down), -1.0])
        vectors.extend(vector / np.linalg.norm(vector))
    return [*vectors, across, down]


# (8, 3) points of the unit circle facing the camera, from the picture's left over the top.
_CIRCLE = np.array([(np.cos(angle), np.sin(angle), 0) for angle in np.pi + 2 * np.pi * np.arange(8) / 8])


def _eye_points(face: Face) -> Array:
    """(56, 3): for each eye 8 points of the iris, 12 of the lids, 8 of the pupil."""
    points = []
    for eye in (face.landmarks[36:42], face.landmarks[42:48]):
        lids = np.stack([eye, (eye + np.roll(eye, -1, axis=0)) / 2], axis=1).reshape(12, 3)
        centre = eye[[0, 3]].mean(axis=0) - [0, 1.2, 2]
        points += [centre + IRIS_MM * _CIRCLE, lids, centre + PUPIL_MM * _CIRCLE]
    return np.vstack(points)
