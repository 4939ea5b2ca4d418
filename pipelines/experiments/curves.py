"""Curves: how well pose and expression of simulated faces separate, as one thing after the other is changed.

Every point is a store and one run per seed. All runs have the same network and steps, and all are judged by the truth of
the same pictures: those of the base point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gated_vae.pipelines.evaluation.faces import evaluate_faces

from gated_vae.models.registry import OBJECTIVES, parse
from gated_vae.pairing.cluster import ClusterOptions
from gated_vae.pipelines.experiments.curve_stores import Recipe, draw_pictures, make_store, true_faces
from gated_vae.pipelines.experiments.faces import FacePlan, face_config
from gated_vae.pipelines.experiments.runner import Progress, Task, do_tasks, finished_in, ignore
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.presets import PIXELS, PRESETS
from gated_vae.pipelines.training.run import Run
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.store import Store, open_store

PRESET = PRESETS["faces"]
SIZE = 32  # pixels a side
LATENT = "pose=6,expression=18,identity=16"
KL_WEIGHTS = "expression=0.3"
DRAWS, STRATA = 8, 8
IMAGES_PER_CLUSTER = {"pose": 80, "expression": 50}
IMAGES_PER_PERSON = 20

# Ways to pair: what each changes in the base's options. Add a line to compare another one.
PAIRINGS: dict[str, dict[str, Any]] = {
    "uniform": {"strata": 1},
    "independent": {},
    "other_person": {"other_person": True},
    "nearest": {"strata": 1, "nearest": 5},
    "balanced": {"balanced": 60},
    "confidence": {"strata": 1, "confidence_weighted": True},
}
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
UNITS = ("AU06_r", "AU12_r", "AU25_r", "AU01_r", "AU04_r")  # mouth and brows: what 32 pixels show

Row = dict[str, Any]


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


@dataclass(frozen=True)
class CurvePlan:
    """What all points have in common; `images` is the base's number, `beta` the weight of the KL divergence."""

    images: int = 4000
    steps: int = 600
    beta: float = parse(OBJECTIVES, PRESET.objective).beta * SIZE**2 / PIXELS  # type: ignore[attr-defined]
    lr: float = 1e-3
    schedule: str = "cosine"
    batch_size: int = 128
    precision: str = "bf16"

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


def points_on(axes: Sequence[str]) -> list[Point]:
    """The base, then every other point of the axes.

    Raises
    ------
    GatedVAEError
        When there is no such axis.
    """
    unknown = [axis for axis in axes if axis not in AXES]
    if unknown:
        raise UsageError(f"There is no axis {unknown[0]!r}.", "", f"Choose from {', '.join(AXES)}.")
    return list(dict.fromkeys([BASE, *(replace(BASE, **{axis: value}) for axis in axes for value in AXES[axis])]))


def reproduce_curves(
    plan: CurvePlan,
    axes: Sequence[str],
    seeds: int,
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress = ignore,
) -> list[Row]:
    """Make the stores of all points, train and evaluate every seed, skipping what is finished.

    Returns
    -------
    One row per axis, value and seed of all finished runs of the plan, those of earlier calls included: axis, value, number,
    seed, steps, images and the scores of `curve_scores`. The base is on every axis that has another point.

    Raises
    ------
    GatedVAEError
        When an axis is unknown, there are too few images, `out` holds another plan's pictures, stores or runs, or a run
        fails; what is finished stays.
    """
    points = points_on(axes)
    with locked(out):
        stores, truth = _make_stores(plan, points, out, workers, progress)
        evaluate = partial(judge, store=stores[BASE].path, truth=truth)
        tasks = [
            Task(f"{point.name}-{seed}", curve_config(plan, stores[point], seed), evaluate)
            for seed in range(seeds)
            for point in points
        ]
        do_tasks(tasks, _runs(out), workers=workers, device=device, progress=progress)
    return list(_finished_rows(plan, out))


def recipe_of(plan: CurvePlan, point: Point) -> Recipe:
    """How the store of a point is made."""
    labels = replace(
        true_faces(plan.images_at(point), plan.people),
        pose_noise=point.label_noise,
        label_noise=point.label_noise,
        confounding=point.confounding,
    )
    pairing = {"draws": DRAWS, "strata": STRATA, **plan.clusters_at(point), **PAIRINGS[point.pairing]}
    return Recipe(labels, point.wrong, ClusterOptions(**pairing))


def curve_config(plan: CurvePlan, store: Store, seed: int) -> TrainConfig:
    """The configuration of one run: a partner for every partition, as `partners` of `pipe reproduce faces`."""
    faces = FacePlan(
        store.path,
        plan.steps,
        plan.beta,
        LATENT,
        plan.lr,
        plan.schedule,
        plan.batch_size,
        plan.precision,
        kl_weights=KL_WEIGHTS,
    )
    return face_config(faces, store, "partners", seed)


def judge(run: Run, store: Path, truth: Path) -> dict[str, Any]:
    """Score a run on the pictures of another store, by the truth, as plain values; without forests, which cost a training."""
    other = replace(run, moved=store, store_digest=open_store(store).manifest["source_digest"])
    return evaluate_faces(other, truth=truth, readouts=["ridge"], regressors=[]).to_dict()


def curve_scores(scores: dict[str, Any]) -> dict[str, float]:
    """The scores on a curve, from what `judge` found; R2 below 0 counts as 0, and what is not there is not a number.

    `pose_own` and `pose_leak` are the mean R2 of pitch and yaw from the partitions of pose and of expression, `units_own` and
    `units_leak` those of five action units from expression and from pose: ridge regression on posterior samples. Partition
    scores are over all action units, and subtract the best other partition, be it identity's. `swap_both` is the share of
    swaps with A's pose and B's expression.
    """
    r2, summary = scores["r2"]["ridge"]["sample"], scores["summary"]["ridge"]["sample"]

    def mean(partition: str, factors: Sequence[str]) -> float:
        known = [max(0.0, r2[partition][factor]) for factor in factors if factor in r2[partition]]
        return float(np.mean(known)) if known else float("nan")

    def score(partition: str) -> float:
        return float(summary[partition]["score"]) if partition in summary else float("nan")

    return {
        "pose_own": mean("pose", POSE),
        "pose_leak": mean("expression", POSE),
        "units_own": mean("expression", UNITS),
        "units_leak": mean("pose", UNITS),
        "pose_score": score("pose"),
        "expression_score": score("expression"),
        "swap_both": scores["swap"]["by_labels"]["both"] if scores["swap"] else float("nan"),
    }


def describe(plan: CurvePlan, axis: str, point: Point) -> tuple[str, float | None]:
    """The value of a point on an axis, in words and as a number; None for names."""
    value = getattr(point, axis)
    if axis == "clusters":
        return "/".join(str(count) for count in plan.clusters_at(point).values()), value
    if axis == "images":
        return f"{plan.images_at(point):,}", plan.images_at(point)
    return (value, None) if isinstance(value, str) else (f"{value:g}", value)


def _make_stores(
    plan: CurvePlan, points: Sequence[Point], out: Path, workers: int | None, progress: Progress
) -> tuple[dict[Point, Store], Path]:
    """Draw the pictures, as many as any axis needs, and make every point's store of them; give also the truth's path."""
    faces = true_faces(max(plan.images_at(point) for point in points_on(["images"])), plan.people)

    def drawn(done: int) -> None:
        progress(done, faces.n, "pictures")

    pictures, truth = draw_pictures(faces, SIZE, out / "pictures", workers=workers, progress=drawn)
    stores = {}
    for done, point in enumerate(points):
        progress(done, len(points), f"store {point.name}")
        stores[point] = make_store(recipe_of(plan, point), pictures, _store_path(out, point))
    return stores, truth


def _store_path(out: Path, point: Point) -> Path:
    return out / "stores" / point.name


def _runs(out: Path) -> Path:
    return out / "runs"


def _finished_rows(plan: CurvePlan, out: Path) -> Iterator[Row]:
    for axis, values in AXES.items():
        points = [replace(BASE, **{axis: value}) for value in values]
        found = [(point, run) for point in points for run in _finished(plan, point, out)]
        if any(point != BASE for point, _ in found):
            yield from (_row(plan, axis, point, run) for point, run in found)


def _finished(plan: CurvePlan, point: Point, out: Path) -> list[Run]:
    """The finished runs of a point, by seed."""
    return [
        run
        for _, seed, run in finished_in(_runs(out), [point.name])
        if run.config == curve_config(plan, open_store(_store_path(out, point)), seed)
    ]


def _row(plan: CurvePlan, axis: str, point: Point, run: Run) -> Row:
    value, number = describe(plan, axis, point)
    key = {"axis": axis, "value": value, "number": number, "seed": run.config.seed}
    size = {"steps": run.config.steps, "images": plan.images_at(point)}
    return key | size | curve_scores(run.read_metrics()["evaluate"])
