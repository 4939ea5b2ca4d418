"""One image: who is on it, what is true of it, what the tracker says of it. A pure function of the options and its number."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gated_vae.preprocessing.simulate import labels, openface, people
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.simulate.render.draw import build, draw
from gated_vae.preprocessing.simulate.render.landmarks import AU_NAMES
from gated_vae.preprocessing.simulate.render.scene import Person, Scene

PERSON, SCENE, LABELS = 1, 2, 3  # streams of random numbers
FOUND, LOW_CONFIDENCE, IMPOSSIBLE, NOT_FOUND = "found", "low confidence", "impossible pose", "not found"


@lru_cache(maxsize=4096)
def person_of(seed: int, number: int) -> tuple[Person, int]:
    """Person `number` (from 1) of a seed, and their partition (0 training, 1 validation, 2 test)."""
    rng = np.random.default_rng([seed, PERSON, number])
    return people.draw_person(rng), people.draw_partition(rng)


@dataclass(frozen=True)
class Seen:
    """One face as it will be written: the picture's scene, the labels, and where in the frame it lies."""

    scene: Scene
    labels: labels.Labels
    spot: openface.Spot


@dataclass(frozen=True)
class _Begun:
    """What an image starts with, before bystanders and drawing: whose it is, and the two chances that are left."""

    outcome: str
    person: int
    second: float
    first: float
    portrait: Seen
    truth: labels.Truth


def write_image(options: FaceSimulation, folder: Path, number: int) -> dict[str, Any]:
    """Write one image's files; return its row of the truth."""
    rng, label_rng = _streams(options, number)
    begun = _begin(options, rng, label_rng)
    seen = [] if begun.outcome == NOT_FOUND else [begun.portrait]
    if seen and begun.second < options.two_faces:
        seen.append(_bystander(options, rng, label_rng))
    portrait_last = len(seen) == 2 and begun.first < 0.04  # rarely the tracker meets the bystander first
    if portrait_last:
        seen.reverse()
    stem = f"{number:06d}"
    built = [build(face.scene.person, face.scene.intensities) for face in seen]
    rows = [openface.row(i, face.labels, built[i], face.spot, label_rng) for i, face in enumerate(seen)]
    openface.write(folder, stem, rows, [draw(face.scene, built[i]) for i, face in enumerate(seen)])
    identity = {"image": f"{stem}.jpg", "person": begun.person, "outcome": begun.outcome, "faces": len(seen)}
    return identity | {"face": int(portrait_last)} | _truth_row(begun.truth, begun.portrait.scene)


def read_portrait(options: FaceSimulation, number: int) -> dict[str, float]:
    """What `write_image` writes of the labels of the portrait, by column, without drawing it."""
    return openface.printed(_begin(options, *_streams(options, number)).portrait.labels)


def _streams(options: FaceSimulation, number: int) -> tuple[np.random.Generator, np.random.Generator]:
    """The random numbers of an image and those of its labels."""
    return np.random.default_rng([options.seed, SCENE, number]), np.random.default_rng([options.seed, LABELS, number])


def _begin(options: FaceSimulation, rng: np.random.Generator, label_rng: np.random.Generator) -> _Begun:
    chance, second, first, who = rng.random(4)
    outcome = _outcome(options, chance)
    number_of_person = 1 + int(who * options.identities)
    portrait, truth = _portrait(options, outcome, person_of(options.seed, number_of_person)[0], rng, label_rng)
    return _Begun(outcome, number_of_person, second, first, portrait, truth)


def _outcome(options: FaceSimulation, chance: float) -> str:
    limits = np.cumsum([options.not_found, options.low_confidence, options.impossible])
    return (NOT_FOUND, LOW_CONFIDENCE, IMPOSSIBLE, FOUND)[int(np.searchsorted(limits, chance, side="right"))]


def _make_scene(person: Person, truth: labels.Truth, rng: np.random.Generator) -> Scene:
    pitch, yaw, roll = truth.pose
    gaze = (2.2 * yaw + rng.normal(0, 0.8), -1.5 * pitch + rng.normal(0, 0.4))  # eyes stay with the camera in part
    light, backdrop = people.draw_light(rng), people.draw_backdrop(rng)
    return Scene(person, (pitch, yaw, roll), truth.intensities, gaze, light, backdrop)


def _portrait(
    options: FaceSimulation, outcome: str, person: Person, rng: np.random.Generator, label_rng: np.random.Generator
) -> tuple[Seen, labels.Truth]:
    truth = labels.draw_truth(rng)
    scene = _make_scene(person, truth, rng)
    spot = openface.Spot(rng.normal(0.62, 0.032), rng.normal(88.5, 0.9), rng.normal(135.6, 1.3))
    if outcome in (LOW_CONFIDENCE, IMPOSSIBLE):
        unsure = float(label_rng.choice([0.017, 0.683, 0.783], p=[0.7, 0.15, 0.15]))
        said = labels.lost(label_rng, 0.983 if outcome == IMPOSSIBLE else unsure)
        pitch, yaw, roll = said.pose
        scene = replace(scene, fitted=(pitch, yaw, roll))
    else:
        said = _label(options, truth, label_rng)
    return Seen(scene, said, spot), truth


def _bystander(options: FaceSimulation, rng: np.random.Generator, label_rng: np.random.Generator) -> Seen:
    """A second face: somebody else, smaller and aside; the tracker is sure of one in five."""
    truth = labels.draw_truth(rng)
    scene = _make_scene(people.draw_person(rng), truth, rng)
    spot = openface.Spot(rng.uniform(0.22, 0.55), rng.choice([20.0, 160.0]), rng.uniform(20, 200))
    sure = label_rng.random() < 0.2
    return Seen(scene, _label(options, truth, label_rng) if sure else labels.lost(label_rng, 0.017), spot)


def _label(options: FaceSimulation, truth: labels.Truth, rng: np.random.Generator) -> labels.Labels:
    scales = {"pose_noise": options.pose_noise, "label_noise": options.label_noise, "confounding": options.confounding}
    return labels.label(truth, rng, **scales)


def _truth_row(truth: labels.Truth, scene: Scene) -> dict[str, Any]:
    pose = dict(zip(("pose_Rx", "pose_Ry", "pose_Rz"), truth.pose.tolist(), strict=True))
    intensities = {f"{name}_r": value for name, value in zip(AU_NAMES, truth.intensities.tolist(), strict=True)}
    light = {f"light_{name}": value for name, value in asdict(scene.light).items()}
    look = scene.person.look
    person = {name: getattr(look, name) for name in ("skin", "hair", "beard", "glasses", "long_hair")}
    background = {"background": scene.backdrop.grey, "background_contrast": scene.backdrop.contrast}
    return pose | intensities | light | background | person
