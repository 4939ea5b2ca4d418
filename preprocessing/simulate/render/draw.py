"""One picture of one face: turn the head, light it, splat it into a z-buffer, lay it over a background."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from gated_vae.preprocessing.openface.align import PER_MM, RIGID, SIDE, scaled_rotations
from gated_vae.preprocessing.simulate.render import hair, head, paint
from gated_vae.preprocessing.simulate.render.landmarks import Array, place, response
from gated_vae.preprocessing.simulate.render.scene import Backdrop, Face, Light, Person, Scene, rotation

SUPER = 2  # drawn twice as large, then averaged
MARGIN = 32  # pixels of the large canvas beyond the picture, where all that is outside ends up
CANVAS = SIDE * SUPER + 2 * MARGIN
FAR = 300.0  # mm behind the middle of the face: where the z-buffer begins
DEPTH_STEPS = 256  # of the z-buffer, per millimetre
SENSOR_NOISE = 2.0  # grey levels
HOLE_MM = 3.0  # a pixel so much deeper than all around it is a gap between texels


def build(person: Person, intensities: Array) -> Face:
    """The head of one person at 17 intensities."""
    shown = response(intensities)
    mesh = head.vertices(person.skull, shown, hair.height(person.look))
    places = place(person.shape, shown)
    where = np.vstack([head.jaw_places(), head.mesh_places(places[17:])])
    skin = head.vertices(person.skull, shown) if person.look.bangs else mesh
    return Face(mesh, places, head.on_surface(skin, where), shown)


@lru_cache(maxsize=1)
def reference() -> Array:
    """(24, 2) rigid landmarks of the average face seen from the front, mm: what crops are aligned to, as OpenFace to its own."""
    return np.asarray(build(Person(), np.zeros(17)).landmarks[RIGID, :2])


def draw(scene: Scene, face: Face | None = None) -> Array:
    """The aligned picture, uint8 (112, 112) grey, of one scene; `face` is its head, built here when not given."""
    face = face or build(scene.person, scene.intensities)
    turn = rotation(scene.pose)
    seen = face.landmarks @ rotation(scene.pose if scene.fitted is None else scene.fitted).T
    to_picture = scaled_rotations(seen[None, RIGID, :2], reference())[0] * PER_MM * SUPER
    texture = paint.paint(scene.person.look, face.places, face.shown, scene.gaze)
    hair.paint(texture, scene.person.look, scene.person.seed)
    buffer = _backdrop(scene.backdrop)
    _splat(buffer, face.mesh, texture, turn, to_picture, scene.light)
    if scene.person.look.long_hair:
        mesh, strands = hair.curtain(scene.person.look, scene.person.skull.width, scene.person.seed)
        _splat(buffer, mesh, strands, turn, to_picture, scene.light)
    if scene.person.look.glasses:
        _glasses(buffer, face, turn, to_picture)
    return _develop(_fill_holes(buffer), scene)


def _fill_holes(buffer: Array) -> Array:
    """The grey of the z-buffer inside the margin; pinholes of stretched surfaces take the grey of what surrounds them."""
    keys = buffer.reshape(CANVAS, CANVAS)[MARGIN - 2 : 2 - MARGIN, MARGIN - 2 : 2 - MARGIN].astype(np.float64)
    closed = cv2.morphologyEx(keys, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    filled = np.where(closed - keys > HOLE_MM * DEPTH_STEPS * 256, closed, keys)[2:-2, 2:-2]
    return np.asarray((filled.astype(np.uint32) & 255).astype(np.uint8))


def _develop(grey: Array, scene: Scene) -> Array:
    """Average down, expose, blur a little and add the sensor's noise."""
    rng = np.random.default_rng(scene.backdrop.seed)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 0.7))
    noisy: Array = small * scene.light.gain + rng.normal(0, SENSOR_NOISE, small.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _backdrop(backdrop: Backdrop) -> Array:
    """The z-buffer with what is behind the head, at depth zero: flat uint32, the nearness above the low byte, grey in it."""
    rng = np.random.default_rng([backdrop.seed, 1])
    blotches = cv2.resize(rng.normal(0, 1, (5, 5)).astype(np.float32), (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
    grey = np.clip(backdrop.grey + backdrop.contrast * blotches, 0, 255).astype(np.uint8)
    centre = (CANVAS // 2, MARGIN + round(SUPER * (SIDE + 42)))
    shoulders = (round(SUPER * 75), round(SUPER * 48))
    cv2.ellipse(grey, centre, shoulders, 0, 0, 360, float(backdrop.clothes), -1, cv2.LINE_AA)
    return np.asarray(grey.astype(np.uint32).ravel())


def _shade(normal: Array, light: Light) -> Array:
    """Brightness of turned normals (..., 3) under the lamp: ambient plus a soft lambertian term."""
    across, above = np.cos(light.elevation), np.sin(light.elevation)
    lamp = np.array([np.sin(light.azimuth) * across, -above, -np.cos(light.azimuth) * across])
    direct = np.clip(normal @ lamp * 0.85 + 0.15, 0, None)
    return np.asarray(light.ambient + (1.12 - light.ambient) * direct)


def _splat(buffer: Array, mesh: Array, texture: Array, turn: Array, to_picture: Array, light: Light) -> None:
    """Throw every texel of a mesh into the z-buffer; the nearest stays.

    Position, depth and brightness are worked out at the vertices and interpolated to the texels.
    """
    seen = mesh @ turn.T.astype(np.float32)
    at = np.clip(seen[..., :2] @ to_picture.T + CANVAS / 2, 0, CANVAS - 1)
    depth, brightness = np.clip(FAR - seen[..., 2], 1, 3 * FAR), _shade(head.normals(mesh) @ turn.T, light)
    vertices = (at[..., 0], at[..., 1], depth, brightness)
    x, y, near, bright = (cv2.resize(plane.astype(np.float32), texture.shape[::-1]) for plane in vertices)
    for rows in np.array_split(np.arange(len(texture)), 8):  # in strips that stay in the processor's cache
        part = slice(rows[0], rows[-1] + 1)
        index = np.rint(y[part]).astype(np.int64) * CANVAS + np.rint(x[part]).astype(np.int64)
        grey = np.minimum(texture[part] * bright[part], 255).astype(np.uint32)
        key = ((near[part] * DEPTH_STEPS).astype(np.uint32) << 8) | grey
        np.maximum.at(buffer, index.ravel(), key.ravel())


def _glasses(buffer: Array, face: Face, turn: Array, to_picture: Array) -> None:
    """Frames around the eyes and temples to the ears, as thick dots in the z-buffer."""
    t = np.linspace(0, 2 * np.pi, 260)
    rims, temples = [], []
    for eye, sign in ((face.landmarks[36:42], -1), (face.landmarks[42:48], 1)):
        x, y, z = eye.mean(0)
        cosine, sine = np.cos(t), np.sin(t)
        ring = np.stack(
            [x + 24 * np.sign(cosine) * np.abs(cosine) ** 0.6, y + 3 + 17 * np.sign(sine) * np.abs(sine) ** 0.6], 1
        )
        rims.append(np.column_stack([ring, z - 14 + 0.004 * (ring[:, 0] ** 2)]))
        s = np.linspace(0, 1, 160)
        temples.append(np.column_stack([x + sign * 24 + sign * s * 22, y - 4 + 0 * s, z - 10 + s * 75]))
    s = np.linspace(-9, 9, 60)
    bridge = np.column_stack(
        [s, face.landmarks[36:48, 1].mean() - 2 + 0.02 * s**2, np.full(60, face.landmarks[27, 2] - 6)]
    )
    points = np.vstack([*rims, *temples, bridge])
    thick = np.array([[dx, dy] for dx in (-1, 0, 1) for dy in (-1, 0, 1)])
    seen = points @ turn.T
    at = (seen[:, :2] @ to_picture.T + CANVAS / 2)[:, None] + thick
    at = np.clip(np.rint(at), 0, CANVAS - 1).astype(np.int64)
    key = (np.maximum((FAR - seen[:, 2]) * DEPTH_STEPS, 1).astype(np.uint32) << 8) | 28
    np.maximum.at(buffer, (at[..., 1] * CANVAS + at[..., 0]).ravel(), np.repeat(key, len(thick)))
