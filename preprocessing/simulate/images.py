"""One image: who is on it, what is true of it, what the tracker says of it. A pure function of the options and its number."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gated_vae.preprocessing.openface.cells import INTENSITIES, POSE
from gated_vae.preprocessing.simulate import labels, openface, people
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.simulate.render.draw import build, draw
from gated_vae.preprocessing.simulate.render.scene import Person, Scene

PERSON, SCENE, LABELS = 1, 2, 3  # streams of random numbers
FOUND, LOW_CONFIDENCE, IMPOSSIBLE, NOT_FOUND = "found", "low confidence", "impossible pose", "not found"


@lru_cache(maxsize=4096)
def person_of(seed: int, number: int) -> tuple[Person, int]:
    """Person `number` (from 1) of a seed, and their split (0 training, 1 validation, 2 test)."""
    rng = np.random.default_rng([seed, PERSON, number])
    return people.draw_person(rng), people.draw_split(rng)


@dataclass(frozen=True)
class Seen:
    """One face as it will be written: the picture's scene, the labels, and where in the frame it lies."""

    scene: Scene
    labels: labels.Labels
    spot: openface.Spot


class _Image:
    """An image of the options, up to its portrait; its random numbers and those of its labels go on from there."""

    def __init__(self, options: FaceSimulation, number: int) -> None:
        self.options = options
        self.rng = np.random.default_rng([options.seed, SCENE, number])
        self.label_rng = np.random.default_rng([options.seed, LABELS, number])
        chance, self.second, self.first, who = self.rng.random(4)
        limits = np.cumsum([options.not_found, options.low_confidence, options.impossible])
        outcomes = (NOT_FOUND, LOW_CONFIDENCE, IMPOSSIBLE, FOUND)
        self.outcome = outcomes[int(np.searchsorted(limits, chance, side="right"))]
        self.person = 1 + int(who * options.identities)
        self.portrait = self._portrait()

    def _portrait(self) -> Seen:
        truth = labels.draw_truth(self.rng)
        scene = self._scene(person_of(self.options.seed, self.person)[0], truth)
        rng = self.rng
        spot = openface.Spot(rng.normal(0.62, 0.032), rng.normal(88.5, 0.9), rng.normal(135.6, 1.3))
        if self.outcome in (LOW_CONFIDENCE, IMPOSSIBLE):
            unsure = float(self.label_rng.choice([0.017, 0.683, 0.783], p=[0.7, 0.15, 0.15]))
            said = labels.lost(self.label_rng, 0.983 if self.outcome == IMPOSSIBLE else unsure)
            return Seen(replace(scene, fitted=said.pose), said, spot)
        return Seen(scene, labels.label(truth, self.label_rng, self.options), spot)

    def bystander(self) -> Seen:
        """A second face: somebody else, smaller and aside; the tracker is sure of one in five."""
        truth = labels.draw_truth(self.rng)
        scene = self._scene(people.draw_person(self.rng), truth)
        rng = self.rng
        spot = openface.Spot(rng.uniform(0.22, 0.55), rng.choice([20.0, 160.0]), rng.uniform(20, 200))
        if self.label_rng.random() < 0.2:
            return Seen(scene, labels.label(truth, self.label_rng, self.options), spot)
        return Seen(scene, labels.lost(self.label_rng, 0.017), spot)

    def _scene(self, person: Person, truth: labels.Truth) -> Scene:
        pitch, yaw, _ = truth.pose
        # Eyes stay with the camera in part.
        gaze = (2.2 * yaw + self.rng.normal(0, 0.8), -1.5 * pitch + self.rng.normal(0, 0.4))
        light, backdrop = people.draw_light(self.rng), people.draw_backdrop(self.rng)
        return Scene(person, truth.pose, truth.intensities, gaze, light, backdrop)


def write_image(options: FaceSimulation, folder: Path, number: int) -> dict[str, Any]:
    """Write one image's files; return its row of the truth."""
    image = _Image(options, number)
    seen = [] if image.outcome == NOT_FOUND else [image.portrait]
    if seen and image.second < options.two_faces:
        seen.append(image.bystander())
    portrait_last = len(seen) == 2 and image.first < 0.04  # rarely the tracker meets the bystander first
    if portrait_last:
        seen.reverse()
    stem = f"{number:06d}"
    built = [build(face.scene.person, face.scene.intensities) for face in seen]
    rows = [openface.row(i, face.labels, built[i], face.spot, image.label_rng) for i, face in enumerate(seen)]
    openface.write(folder, stem, rows, [draw(face.scene, built[i]) for i, face in enumerate(seen)])
    identity = {"image": f"{stem}.jpg", "person": image.person, "outcome": image.outcome, "faces": len(seen)}
    return identity | {"face": int(portrait_last)} | _truth_row(image.portrait.scene)


def read_portrait(options: FaceSimulation, number: int) -> dict[str, float]:
    """What `write_image` writes of the labels of the portrait, by column, without drawing it."""
    return openface.printed(_Image(options, number).portrait.labels)


def _truth_row(scene: Scene) -> dict[str, Any]:
    pose = dict(zip(POSE, np.asarray(scene.pose).tolist(), strict=True))
    intensities = dict(zip(INTENSITIES, scene.intensities.tolist(), strict=True))
    light = {f"light_{name}": value for name, value in asdict(scene.light).items()}
    look = scene.person.look
    person = {name: getattr(look, name) for name in ("skin", "hair", "beard", "glasses", "long_hair")}
    background = {"background": scene.backdrop.grey, "background_contrast": scene.backdrop.contrast}
    return pose | intensities | light | background | person
