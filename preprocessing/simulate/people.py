"""Made-up people and the circumstances of their pictures: every draw a pure function of its random generator."""

from __future__ import annotations

import numpy as np

from gated_vae.preprocessing.simulate.render.head import Skull
from gated_vae.preprocessing.simulate.render.landmarks import Shape
from gated_vae.preprocessing.simulate.render.look import Look
from gated_vae.preprocessing.simulate.render.scene import Backdrop, Light, Person

TRAIN, VALIDATION = 0.8, 0.1  # shares of people; the rest is for testing, as in CelebA


def draw_person(rng: np.random.Generator) -> Person:
    """A person: features, skull, colours."""
    nose_width = rng.normal(1, 0.1)
    return Person(_draw_shape(rng, nose_width), _draw_skull(rng, nose_width), _draw_look(rng), int(rng.integers(2**31)))


def draw_partition(rng: np.random.Generator) -> int:
    """0 training, 1 validation, 2 test."""
    return int(np.searchsorted([TRAIN, TRAIN + VALIDATION], rng.random(), side="right"))


def _draw_shape(rng: np.random.Generator, nose_width: float) -> Shape:
    return Shape(
        eye_distance=rng.normal(0, 1.5),
        eye_size=rng.normal(1, 0.07),
        brow_height=rng.normal(0, 1.2),
        brow_slant=rng.normal(0, 1.2),
        nose_length=rng.normal(0, 1.8),
        nose_width=nose_width,
        mouth_width=rng.normal(1, 0.06),
        mouth_height=rng.normal(0, 1.2),
        lip_thickness=rng.normal(1, 0.15),
    )


def _draw_skull(rng: np.random.Generator, nose_width: float) -> Skull:
    return Skull(
        width=rng.normal(1, 0.035),
        jaw=rng.normal(1, 0.06),
        length=rng.normal(1, 0.045),
        nose=rng.normal(1, 0.12),
        nose_width=nose_width,
        chin=rng.normal(1, 0.3),
        cheeks=rng.normal(1, 0.3),
        ears=rng.normal(1, 0.2),
    )


def _draw_look(rng: np.random.Generator) -> Look:
    skin = float(np.clip(rng.normal(172, 28), 85, 215))
    hair = float(rng.choice([25, 45, 70, 110, 160], p=[0.3, 0.25, 0.2, 0.15, 0.1]) * rng.uniform(0.85, 1.15))
    bearded, long_hair = rng.random() < 0.16, rng.random() < 0.45
    return Look(
        skin=skin,
        hair=min(hair, 0.9 * skin),
        brow=min(hair * rng.uniform(0.7, 1.0), 0.5 * skin),
        lips=rng.uniform(0.58, 0.8),
        iris=rng.uniform(40, 115),
        brow_thickness=rng.uniform(0.7, 1.35),
        lashes=rng.uniform(0.2, 1.0),
        beard=rng.uniform(0.35, 0.75) if bearded and not long_hair else 0.0,
        bangs=bool(rng.random() < 0.15),
        long_hair=bool(long_hair),
        hairline=rng.uniform(-98, -80),
        glasses=bool(rng.random() < 0.07),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """A lamp somewhere in front and mostly above, harder or softer, and the exposure."""
    return Light(
        azimuth=rng.normal(0, 0.5),
        elevation=rng.uniform(-0.1, 0.9),
        ambient=rng.uniform(0.45, 0.75),
        gain=rng.uniform(0.85, 1.15),
    )


def draw_backdrop(rng: np.random.Generator) -> Backdrop:
    """What is behind the head."""
    return Backdrop(
        grey=rng.uniform(15, 235),
        contrast=rng.uniform(3, 35),
        clothes=rng.uniform(15, 220),
        seed=int(rng.integers(2**31)),
    )
