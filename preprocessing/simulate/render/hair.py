"""Hair: where it grows, how far it stands off, its strands, and the sheet of long hair around the head."""

from __future__ import annotations

import cv2
import numpy as np

from gated_vae.preprocessing.simulate.render import head
from gated_vae.preprocessing.simulate.render.canvas import fill
from gated_vae.preprocessing.simulate.render.head import SHAPE, of_mesh
from gated_vae.preprocessing.simulate.render.landmarks import Array
from gated_vae.preprocessing.simulate.render.look import Look


def hairline(look: Look) -> Array:
    """Outline (n, 2) of the hair in (degrees, v): everything above it is hair."""
    top = -64.0 if look.bangs else look.hairline
    ear = [(-150, 55), (-122, 45), (-112, 10), (-106, -40), (-90, -46), (-87, -8), (-81, -14), (-77, -40)]
    left = [*ear, (-68, -60), (-52, top + 9), (-32, top), (0, top - 3)]
    return np.array([*left, *[(-d, v) for d, v in left[-2::-1]]], float)


def height(look: Look) -> Array:
    """How far the hair stands off the skull, mm, per mesh vertex."""
    line = hairline(look)
    edge = np.interp(head.DEGREES, line[:, 0], line[:, 1])
    v = head.grid().v
    volume = 9.0 if look.long_hair else 6.0
    return np.asarray(
        volume * head.smoothstep((edge[None] + 4 - v) / 18) + (2.5 if look.bangs else 0) * (v < edge[None] + 2)
    )


def paint(texture: Array, look: Look, seed: int) -> None:
    """Cover what is above the hairline with strands."""
    line = hairline(look)
    rng = np.random.default_rng(seed)
    steps = np.linspace(-150, 150, 181)
    edge = np.interp(steps, line[:, 0], line[:, 1]) + rng.normal(0, 1.2 if look.bangs else 0.5, len(steps))
    corners = np.array([[len(head.DEGREES), -1], [-1, -1]])
    mask = np.zeros(SHAPE, np.uint8)
    fill(mask, of_mesh(np.vstack([head.degree_places(steps, edge), corners])), 255)
    np.copyto(texture, _strands(rng, look, SHAPE[1]), where=mask > 127)


def curtain(look: Look, width: float, seed: int) -> tuple[Array, Array]:
    """Long hair: a mesh (31, 58, 3) around the sides and the back of the head down to the shoulders, and its texture."""
    degrees, v = np.radians(np.linspace(294, 66, 58)), np.linspace(-75, 165, 31)[:, None]
    wide = 82 * width + 4 * np.sin(v / 40.0) + 10 * head.smoothstep((v + 30) / 60)
    x = wide * np.sin(degrees)
    z = np.broadcast_to(head.AXIS_Z - 92 * np.cos(degrees), x.shape)
    mesh = np.dstack([x, np.broadcast_to(v, x.shape), z]).astype(np.float32)
    strands = _strands(np.random.default_rng([seed, 2]), look, 58 * 8)
    return mesh, np.repeat(strands, 31 * 16, axis=0)


def _strands(rng: np.random.Generator, look: Look, n: int) -> Array:
    """(1, n) uint8: the hair's grey across n pixels."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (1, n)).astype(np.float32), (0, 0), 2.2)
    return np.asarray(np.clip(look.hair * (1 + 0.22 * noise / noise.std()), 4, 250).astype(np.uint8))
