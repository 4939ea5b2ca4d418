"""The skin of the unrolled head: brows, eyes, lips, creases and beard, painted through the landmarks."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from gated_vae.preprocessing.simulate.render import head
from gated_vae.preprocessing.simulate.render.canvas import SHIFT, curve, disc, fill, fixed, line
from gated_vae.preprocessing.simulate.render.head import MM, SHAPE, of_mesh, pixels
from gated_vae.preprocessing.simulate.render.landmarks import AU_NAMES, Array, au
from gated_vae.preprocessing.simulate.render.look import Look


def paint(look: Look, places: Array, intensities: Array, gaze: tuple[float, float]) -> Array:
    """Texture uint8 of one face; `places` (68, 2) in mm, `gaze` the shift of the irises in mm (right, down)."""
    texture = cv2.convertScaleAbs(_occlusion(), alpha=look.skin / 255)
    _beard(texture, look)
    _brows(texture, look, places)
    _nostrils(texture, look, places)
    _mouth(texture, look, places)
    _creases(texture, places, intensities)
    for eye in (places[36:42], places[42:48][[3, 2, 1, 0, 5, 4]]):
        _eye(texture, look, eye, gaze)
    return texture


@lru_cache(maxsize=1)
def _occlusion() -> Array:
    """Ambient occlusion of the neutral head, uint8: where less light falls whatever its direction."""
    _, x, v, degrees = head.grid()
    side = np.abs(x)

    def dark(x0: float, v0: float, sx: float, sv: float, amount: float) -> Array:
        return np.asarray(1 - amount * np.exp(-(((side - x0) / sx) ** 2) - ((v - v0) / sv) ** 2))

    shade = dark(24, -44, 14, 7, 0.22) * dark(17, -2, 5, 9, 0.14) * dark(0, 14, 12, 3, 0.25) * dark(0, 48, 16, 4, 0.18)
    shade = shade * dark(12, -34, 6, 8, 0.12) * (1 - 0.45 * head.smoothstep((v - 78) / 10))
    shade = shade * (1 - 0.25 * head.smoothstep((np.abs(degrees) - 60) / 30)) * (1 + 0.05 * np.exp(-((x / 30) ** 2)))
    fine = cv2.resize((np.clip(shade, 0, 1) * 255).astype(np.float32), SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(fine, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _beard_mask() -> Array:
    """Where a full beard grows, float32 0..1."""
    mask = np.zeros(SHAPE, np.uint8)
    outline = [(-88, -12), (-80, -6), (-74, 22), (-56, 36), (-40, 38), (-29, 24), (-14, 14), (0, 16)]
    points = np.array([*outline, *[(-d, v) for d, v in outline[::-1]], (95, 100), (-95, 100)], float)
    fill(mask, of_mesh(head.degree_places(points[:, 0], points[:, 1])), 255)
    return cv2.GaussianBlur(mask, (0, 0), 5).astype(np.float32) / 255


def _beard(texture: Array, look: Look) -> None:
    if look.beard == 0:
        return
    rows = slice(int(SHAPE[0] * 0.52), int(SHAPE[0] * 0.9))
    part = texture[rows]
    weight = _beard_mask()[rows] * look.beard
    part[:] = part + weight * (min(look.hair, look.skin * 0.8) - part.astype(np.float32))


def _brows(texture: Array, look: Look, places: Array) -> None:
    half = np.array([0.5, 1.6, 2.2, 2.6, 2.4]) * look.brow_thickness
    for brow, half_width in ((places[17:22], half), (places[22:27], half[::-1])):
        up, down = brow.copy(), brow.copy()
        up[:, 1] -= half_width
        down[:, 1] += half_width
        fill(texture, pixels(np.vstack([curve(up), curve(down)[::-1]])), look.brow)


def _nostrils(texture: Array, look: Look, places: Array) -> None:
    for a, b in ((31, 33), (33, 35)):
        centre = pixels(places[[a, b]].mean(0) + np.array([0, 0.8]))
        axes = (round(3.4 * MM * 16), round(1.5 * MM * 16))
        cv2.ellipse(
            texture,
            tuple(fixed(centre)),
            axes,
            12 if a == 33 else -12,
            0,
            360,
            look.skin * 0.35,
            -1,
            cv2.LINE_AA,
            SHIFT,
        )


def _mouth(texture: Array, look: Look, places: Array) -> None:
    outer, inner = places[48:60], places[60:68]
    top, bottom = curve(outer[:7]), curve(outer[[6, 7, 8, 9, 10, 11, 0]])
    upper, lower = curve(inner[:5]), curve(inner[[4, 5, 6, 7, 0]])
    tone = look.skin * look.lips
    seam = upper[::-1]
    fill(texture, pixels(np.vstack([top, outer[6:7], seam, outer[:1]])), tone * 0.88)
    fill(texture, pixels(np.vstack([bottom, outer[:1], lower[::-1], outer[6:7]])), tone)
    shine = outer[8:11] * 0.5 + inner[5:8] * 0.5
    line(texture, pixels(curve(shine)), min(255, tone * 1.12), 2 * MM)
    fill(texture, pixels(np.vstack([upper, lower])), look.skin * 0.16)
    _teeth(texture, look, upper, lower[::-1])
    line(texture, pixels(np.vstack([outer[:1], upper, outer[6:7]])), look.skin * 0.3, 0.7 * MM)


def _teeth(texture: Array, look: Look, upper: Array, lower: Array) -> None:
    """The upper teeth, down from the upper lip over most of the gap; none in a gap too small to show them."""
    gap = np.clip(lower[:, 1] - upper[:, 1] - 0.8, 0, None)
    if gap.max() < 2:
        return
    edge = upper.copy()
    edge[:, 1] += np.minimum(gap * 0.85, 8.0)
    inside = slice(2, -2)
    fill(texture, pixels(np.vstack([upper[inside], edge[inside][::-1]])), min(250, 120 + 0.62 * look.skin))


def _eye(texture: Array, look: Look, eye: Array, gaze: tuple[float, float]) -> None:
    """One eye, outer corner first: white, iris and pupil inside the lids, then lids and lashes."""
    upper, lower = curve(eye[:4]), curve(eye[[3, 4, 5, 0]])
    outline = np.vstack([upper, lower])
    corner = np.floor(pixels(outline).min(0)).astype(int) - 8
    end = np.ceil(pixels(outline).max(0)).astype(int) + 9
    patch = texture[corner[1] : end[1], corner[0] : end[0]]
    ball, mask = np.full_like(patch, 255), np.zeros_like(patch)
    ball[:] = min(245, 90 + 0.7 * look.skin)
    centre = np.array([eye[[0, 3], 0].mean() + gaze[0], eye[[0, 3], 1].mean() - 1.2 + gaze[1]])
    middle = pixels(centre) - corner
    for radius, grey in ((6.4, look.iris * 0.5), (5.6, look.iris), (2.7, 12)):
        disc(ball, middle, radius * MM, grey)
    disc(ball, middle - [1.2, 1.5], 1.3 * MM, 235)
    fill(mask, pixels(outline) - corner, 255)
    weight = mask.astype(np.float32) / 255
    patch[:] = patch + weight * (ball.astype(np.float32) - patch)
    line(texture, pixels(lower), look.skin * 0.55, 0.6 * MM)
    line(texture, pixels(upper), look.skin * (0.45 - 0.3 * look.lashes), (1.2 + look.lashes) * MM)


def _creases(texture: Array, places: Array, intensities: Array) -> None:
    """Darken the folds that action units make; drawn as lines on their own layer, softened, then multiplied in."""
    low, high = pixels(np.array([[-62.0, -100.0], [62.0, 82.0]])).astype(int)
    layer = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    for points, depth, width in _folds(places, intensities):
        if depth > 0.02:
            for sign in (1, -1):
                side = pixels(curve(np.array(points) * [sign, 1])) - low
                line(layer, side, 255 * min(depth, 1.0) * 0.85, width * MM)
    soft = cv2.GaussianBlur(layer, (0, 0), 1.3 * MM)
    part = texture[low[1] : high[1], low[0] : high[0]]
    cv2.multiply(part, 255 - soft, part, scale=1 / 255)


def _folds(places: Array, intensities: Array) -> list[tuple[list[tuple[float, float]], float, float]]:
    """Folds of the right side of the picture (points in mm, depth 0..1, width in mm); the left mirrors them."""
    on = {name: au(intensities, name) for name in AU_NAMES}
    x, y = places[54]
    lid = [(float(px), float(py) - 3.2) for px, py in places[42:46]]
    smile = min(0.8, 0.1 + 0.5 * on["AU12"] + 0.4 * on["AU10"] + 0.4 * on["AU09"])
    brow = float(places[22:25, 1].mean())
    return [
        (lid, 0.35, 0.8),
        ([(18, 4), (20 + 0.36 * x, 1 + 0.34 * y), (21 + 0.72 * x, 1 + 0.67 * y), (x + 8, y)], smile, 2.6),
        ([(21, -29), (31, -25.5), (42, -29)], 0.12 + 0.7 * max(on["AU06"], on["AU07"]), 1.4),
        ([(52, -40), (60, -43)], 0.8 * on["AU06"], 1.2),
        ([(52, -36), (60, -34)], 0.8 * on["AU06"], 1.2),
        ([(1, brow - 12), (14, brow - 13), (26, brow - 11)], 0.9 * on["AU01"], 1.6),
        ([(1, brow - 19), (14, brow - 20), (30, brow - 17)], 0.7 * on["AU01"] + 0.3 * on["AU02"], 1.6),
        ([(26, brow - 14), (40, brow - 13), (52, brow - 7)], 0.9 * on["AU02"], 1.6),
        ([(4, -66), (3.5, -57), (5, -48)], 1.0 * on["AU04"], 1.8),
        ([(0, -44), (7, -42), (12, -37)], 0.8 * on["AU09"], 1.5),
        ([(0, -37), (7, -35), (13, -28)], 0.8 * on["AU09"], 1.5),
        ([(12, -26), (15, -14), (18, -4)], 0.3 * on["AU09"], 1.6),
        ([(x + 3, y - 5), (x + 5, y), (x + 3, y + 5)], 0.9 * on["AU14"], 2.4),
        ([(x + 1, y + 1), (x + 3, y + 8), (x + 1, y + 15)], 1.0 * on["AU15"], 2.0),
        ([(0, 50), (9, 52), (16, 57)], 0.8 * on["AU17"], 2.2),
        ([(17, 8), (19, 3), (16, -3)], 0.3 + 0.3 * on["AU09"], 0.8),
    ]
