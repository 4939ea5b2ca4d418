"""What is to be drawn: a person, how the head is turned and lit, and the head that is built of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gated_vae.preprocessing.simulate.render.head import Skull
from gated_vae.preprocessing.simulate.render.landmarks import Array, Shape
from gated_vae.preprocessing.simulate.render.look import Look


@dataclass(frozen=True)
class Person:
    """Everything that stays the same between pictures of one person."""

    shape: Shape = field(default_factory=Shape)
    skull: Skull = field(default_factory=Skull)
    look: Look = field(default_factory=Look)
    seed: int = 0


@dataclass(frozen=True)
class Light:
    """A distant lamp in the camera's frame, radians; azimuth > 0 from the picture's right, elevation > 0 from above."""

    azimuth: float = 0.0
    elevation: float = 0.5
    ambient: float = 0.55
    gain: float = 1.0


@dataclass(frozen=True)
class Backdrop:
    """What is behind the head: a grey level, the size of its blotches, clothes, and its random seed."""

    grey: float = 110.0
    contrast: float = 25.0
    clothes: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """One face to be drawn. Pose in radians as OpenFace's pose_Rx, Ry, Rz; intensities (17,) in 0..5; gaze in mm."""

    person: Person = field(default_factory=Person)
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    intensities: Array = field(default_factory=lambda: np.zeros(17))
    gaze: tuple[float, float] = (0.0, 0.0)
    light: Light = field(default_factory=Light)
    backdrop: Backdrop = field(default_factory=Backdrop)
    fitted: tuple[float, float, float] | None = None  # the pose the crop is aligned by, where the tracker was wrong


@dataclass(frozen=True)
class Face:
    """A head: mesh (rows, columns, 3) and landmarks (68, 3) in mm of the head frame, places (68, 2), what shows (17,)."""

    mesh: Array
    places: Array
    landmarks: Array
    shown: Array


def rotation(pose: tuple[float, float, float]) -> Array:
    """Rotation matrix R = Rx Ry Rz of OpenFace's Euler angles (radians), head frame to camera frame.

    Rx > 0 looks down; Ry > 0 turns the nose to the picture's left; Rz > 0 turns clockwise in the picture.
    """
    (sx, sy, sz), (cx, cy, cz) = np.sin(pose), np.cos(pose)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z)
