"""Curves: how well pose and expression of simulated faces separate, as one thing after the other is changed.

Every point is a store and one run per seed. All runs have the same network and steps, and all are judged by the truth of
the same pictures: those of the base point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gated_vae.models.figures.curves import Panel, curve_panels
from gated_vae.models.figures.sheet import png
from gated_vae.models.objectives import VAE
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.cluster import ClusterOptions
from gated_vae.pairing.rules import UNIFORM, Rule
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import evaluate_faces
from gated_vae.pipelines.evaluation.scores import Scores, Table, Values
from gated_vae.pipelines.experiments.curve_stores import Recipe, draw_pictures, make_store, true_faces
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row
from gated_vae.pipelines.experiments.tables import over_seeds
from gated_vae.pipelines.presets import PRESETS
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.simulate.faces import TRUTH
from gated_vae.preprocessing.store import open_store

PRESET = PRESETS["faces-partners"]
SIZE = 32  # pixels a side
LATENT = {"pose": 6, "expression": 18, "identity": 16}
KL_WEIGHTS = {"expression": 0.3}
DRAWS = 8
IMAGES_PER_CLUSTER = {"pose": 80, "expression": 50}
IMAGES_PER_PERSON = 20

# Ways to pair. Add a line to compare another one.
PAIRINGS = {"uniform": UNIFORM, "independent": Rule("independent", 8), "nearest": Rule("nearest", 5)}
# What is varied, and over what: times the base's number (clusters, images), times OpenFace's own (label_noise, confounding),
# a share of the samples (wrong), a name of `PAIRINGS`.
AXES: dict[str, tuple[Any, ...]] = {
    "clusters": (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0),
    "label_noise": (0.0, 0.5, 1.0, 2.0, 4.0),
    "wrong": (0.0, 0.1, 0.25, 0.5),
    "confounding": (0.0, 0.5, 1.0, 2.0),
    "images": (1 / 4, 1 / 2, 1.0, 2.0),
    "pairing": tuple(PAIRINGS),
}
POSE = ("pose_Rx", "pose_Ry")
ACTION_UNITS = ("AU06_r", "AU12_r", "AU25_r", "AU01_r", "AU04_r")  # mouth and brows: what 32 pixels show

SCORES = {
    "pose_own": "pose from pose",
    "pose_leakage": "pose from expression",
    "action_units_own": "action units from expression",
    "action_units_leakage": "action units from pose",
    "pose_score": "pose: score",
    "expression_score": "expression: score",
    "swap_both": "swap: both",
}
TITLES = {
    "clusters": "clusters (pose/expression)",
    "label_noise": "noise of the labels, times OpenFace's",
    "wrong": "share of wrong labels",
    "confounding": "confounding by pose, times OpenFace's",
    "images": "images",
    "pairing": "pairing",
}
LINES = {
    "pose (pitch, yaw)": ("pose_own", "pose_leakage"),
    "mouth and brow action units": ("action_units_own", "action_units_leakage"),
}


@dataclass(frozen=True)
class Point:
    """One value on every axis; the base's where nothing is said, with labels as OpenFace's on CelebA."""

    clusters: float = 1.0
    label_noise: float = 1.0
    wrong: float = 0.0
    confounding: float = 1.0
    images: float = 1.0
    pairing: str = "independent"

    @property
    def name(self) -> str:
        """Name of its folder: the axis that is not at the base and its value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                return f"{field.name}-{value if isinstance(value, str) else format(value, 'g')}"
        return "base"


BASE = Point()


def points() -> dict[str, Point]:
    """Every point of the axes by name, the base first."""
    others = (replace(BASE, **{axis: value}) for axis, values in AXES.items() for value in values)
    return {point.name: point for point in (BASE, *others)}


@dataclass(frozen=True, kw_only=True)
class Curves(Experiment):
    """Points around a base, runs named AXIS-VALUE or base: the method, steps and network are the same for all."""

    names: ClassVar[Sequence[str]] = [*points()]
    key: ClassVar[Sequence[str]] = ("axis", "value", "seed", "steps", "images")
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {"axis": [*AXES], "number": None}

    images: int = 4000  # pictures of the base
    steps: int = 600
    beta: float = 0.0625  # weight of the KL divergence: the preset's, for pictures of this size

    def __post_init__(self) -> None:
        if self.store is not None or self.truth is not None:
            raise UsageError("Curves are of pictures of their own.", "", "Leave the store and --truth out.")

    @property
    def people(self) -> int:
        """How many people are on the pictures, whatever the number of those."""
        return max(1, round(self.images / IMAGES_PER_PERSON))

    def images_at(self, point: Point) -> int:
        """Number of images of a point."""
        return round(self.images * point.images)

    def clusters_at(self, point: Point) -> dict[str, int]:
        """Number of clusters by partition."""
        count = self.images_at(point) * point.clusters
        return {name: max(1, round(count / size)) for name, size in IMAGES_PER_CLUSTER.items()}

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:
        """Draw the pictures, as many as any point needs, and make of them the stores of the base and of these points."""
        known = points()
        faces = true_faces(max(map(self.images_at, known.values())), self.people)
        pictures = draw_pictures(faces, SIZE, self.out / "pictures", workers=workers, progress=progress)
        needed = [*dict.fromkeys((BASE.name, *names))]
        for done, name in enumerate(needed):
            progress(done, len(needed), f"store {name}")
            make_store(self.recipe(known[name]), pictures, self.store_of(name))

    def recipe(self, point: Point) -> Recipe:
        """How the store of a point is made."""
        labels = replace(
            true_faces(self.images_at(point), self.people),
            pose_noise=point.label_noise,
            label_noise=point.label_noise,
            confounding=point.confounding,
        )
        clusters = ClusterOptions(self.clusters_at(point), rule=PAIRINGS[point.pairing], draws=DRAWS)
        return Recipe(labels, point.wrong, clusters)

    def store_of(self, name: str) -> Path:
        """The store of a point."""
        return self.out / "stores" / name

    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        """A partner for every partition, at all points."""
        return self.store_of(name), GatedVAEConfig(
            latent=LATENT,
            kl_weights=KL_WEIGHTS,
            image_shape=(SIZE, SIZE),
            network=PRESET.network,
            objective=VAE(self.beta),
            method=parse(METHODS, PRESET.method),
        )

    def score(self, run: OpenRun) -> Scores:
        """By the truth of the base's pictures, without forests, which cost as much as a training."""
        judged = replace(run, other=open_store(self.store_of(BASE.name)))
        truth = self.out / "pictures" / TRUTH
        return evaluate_faces(judged, truth=truth, probes=["ridge"], regressors=[])

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per axis, point and seed; the base is on every axis that has another point."""
        known = points()
        rows = []
        for axis, values in AXES.items():
            at = [replace(BASE, **{axis: value}) for value in values]
            mine = [(point, run) for point in at for run in runs if known[run.name] == point]
            if any(point != BASE for point, _ in mine):
                rows += [self._row(axis, point, run) for point, run in mine]
        return rows

    def _row(self, axis: str, point: Point, run: Finished) -> Row:
        value, number = self.described(axis, point)
        key = {"axis": axis, "value": value, "number": number, "seed": run.config.seed}
        size = {"steps": run.config.steps, "images": self.images_at(point)}
        return key | size | curve_scores(run.scores.values)

    def described(self, axis: str, point: Point) -> tuple[str, float | None]:
        """The value of a point on an axis, in words and as a number; None for names."""
        value = getattr(point, axis)
        if axis == "clusters":
            return "/".join(str(count) for count in self.clusters_at(point).values()), value
        if axis == "images":
            return f"{self.images_at(point):,}", self.images_at(point)
        return (value, None) if isinstance(value, str) else (f"{value:g}", value)

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """What was run, a table and a panel per axis."""
        return {".md": f"{self._preamble()}\n{tables(results)}".encode(), ".png": png(draw_curves(results))}

    def headline(self, results: pd.DataFrame) -> Table:
        """What pose and expression tell of their own factors and of each other's."""
        names = ["pose_own", "pose_leakage", "action_units_own", "action_units_leakage"]
        named = results["axis"].str.replace("_", " ") + " " + results["value"]
        means = results.assign(point=named).groupby("point", sort=False)[names].mean()
        return Table("Mean R2", means.rename(columns=lambda name: name.replace("_", " ")).to_dict())

    def _preamble(self) -> str:
        clusters = self.clusters_at(BASE)
        sizes, weights = _told(LATENT), _told(KL_WEIGHTS)
        return (
            f"# Curves on simulated faces, {self.steps:,} steps: all tables\n\n"
            f"One thing is varied at a time.\nThe base: {self.images:,} pictures of {self.people:,} people, {SIZE}x{SIZE}, labels"
            f" as noisy and as confounded as OpenFace's on CelebA (scale {BASE.label_noise:g} and {BASE.confounding:g}),\n"
            f"none swapped; {clusters['pose']} pose and {clusters['expression']} expression clusters and exact pairs by identity,"
            f" {DRAWS} draws, rule {PAIRINGS[BASE.pairing]}.\nClusters grow with images.\nLatent: {sizes}; a partner for every"
            f" partition; batch {self.batch_size}, Adam, learning rate {self.lr:g} {self.schedule}, {self.precision},\n"
            f"KL weight {self.beta:g}, times {weights}.\n"
            "Seeds decide weights and order; pictures, labels and pairs of a point are the same for all.\n\n"
            f"Judged by the truth of the base's {self.images:,} pictures, probes fitted on some people and judged on others.\n"
            "Scores are R2 of ridge regression on posterior samples, below 0 counted as 0.\n"
            "`pose` is pitch and yaw; `action units` are AU01, AU04, AU06, AU12 and AU25.\n"
            "`score` is own - best other partition, over all of them.\n"
            "`swap: both` is the share of swaps that show A's pose and B's expression.\n"
            "Intervals are 95% of the mean over seeds (Student's t).\n\n"
            f"Pairings: {', '.join(PAIRINGS)} (the base: {BASE.pairing}).\n"
        )


def tables(results: pd.DataFrame) -> str:
    """A table per axis."""
    parts = []
    for axis, rows in results.groupby("axis", sort=False):
        named = rows[["value", *SCORES]].rename(columns={"value": axis, **SCORES})
        parts += [f"## {TITLES[axis][0].upper()}{TITLES[axis][1:]}\n", over_seeds(named, axis)]
    return "\n".join(parts)


def _told(given: Mapping[str, float]) -> str:
    return ",".join(f"{name}={value}" for name, value in given.items())


def curve_scores(scores: Values) -> dict[str, float]:
    """The scores on a curve, from what `Curves.score` found; R2 below 0 counts as 0.

    `pose_own` and `pose_leakage` are the mean R2 of pitch and yaw from the partitions of pose and of expression,
    `action_units_own` and `action_units_leakage` those of five action units from expression and from pose: ridge regression
    on posterior samples. Partition scores are over all action units, and subtract the best other partition, be it identity's.
    `swap_both` is the share of swaps with A's pose and B's expression.
    """
    r2, summary = scores["r2"]["ridge"]["sample"], scores["summary"]["ridge"]["sample"]

    def mean(partition: str, factors: Sequence[str]) -> float:
        return float(np.mean([max(0.0, r2[partition][factor]) for factor in factors if factor in r2[partition]]))

    return {
        "pose_own": mean("pose", POSE),
        "pose_leakage": mean("expression", POSE),
        "action_units_own": mean("expression", ACTION_UNITS),
        "action_units_leakage": mean("pose", ACTION_UNITS),
        "pose_score": summary["pose"]["score"],
        "expression_score": summary["expression"]["score"],
        "swap_both": scores["swap"]["by_labels"]["both"],
    }


def draw_curves(results: pd.DataFrame) -> Figure:
    """A panel per axis: what pose and expression tell of their own factors and of each other's."""
    return curve_panels([_panel(TITLES[axis], rows) for axis, rows in results.groupby("axis", sort=False)])


def _panel(title: str, rows: pd.DataFrame) -> Panel:
    groups = {str(value): group for value, group in rows.groupby("value", sort=False)}

    def runs(name: str) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        return [group[name].to_numpy() for group in groups.values()]

    labels = tuple(value.replace("_", "\n") for value in groups)
    return Panel(title, labels, {line: (runs(own), runs(leakage)) for line, (own, leakage) in LINES.items()})
