"""Faces, gated and not, on one store: the same network and steps, several seeds, the same scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gated_vae.pipelines.evaluation.faces import evaluate_faces, long_rows

from gated_vae.models.objectives import Objective
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.experiments.runner import Progress, Task, do_tasks, finished_in, ignore, is_finished
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.presets import PRESETS, choose_kl_weights, choose_latent, with_beta
from gated_vae.pipelines.training.run import Run, open_run, run_of
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.store import Store, open_store

PRESET = PRESETS["faces"]


@dataclass(frozen=True)
class FaceGating:
    """One way to train on the same images: with which gate, and how often the others' KL weight."""

    method: str
    times: float = 1.0


FACE_GATINGS = {
    "ungated": FaceGating("vae"),
    "ungated_beta": FaceGating("vae", times=4.0),  # what the paper's 4 is to a VAE's 1
    "gated": FaceGating("gate"),
    "exchange": FaceGating("exchange"),
    "partners": FaceGating(PRESETS["faces-partners"].method),
}


@dataclass(frozen=True)
class FacePlan:
    """What all runs have in common.

    Attributes
    ----------
    beta:
        Weight of the KL divergence; the preset's for images of that size when None.
    latent:
        Sizes by partition as ``NAME=SIZE,...``; the preset's when None.
    kl_weights:
        ``NAME=WEIGHT,...``: what `beta` is multiplied by in some partitions, where there is a gate.
    widths:
        The network's hidden sizes; its own when empty.
    truth:
        Where the true values are (simulated faces); by default the store's labels judge.
    """

    store: Path
    steps: int = 4000
    beta: float | None = None
    latent: str | None = None
    lr: float = PRESET.lr
    schedule: str = "cosine"
    batch_size: int = 128
    precision: str = "bf16"
    truth: Path | None = None
    kl_weights: str | None = None
    widths: tuple[int, ...] = ()


@dataclass(frozen=True)
class FaceRun:
    """A finished run: what was varied, and all that `pipe evaluate` found."""

    data: str
    gating: str
    seed: int
    steps: int
    scores: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of faces.parquet: data, gating, seed, steps, partition, factor, regressor, codes, r2."""
        key = {"data": self.data, "gating": self.gating, "seed": self.seed, "steps": self.steps}
        return [key | row for row in long_rows(self.scores)]


def reproduce_faces(
    plan: FacePlan,
    gatings: Sequence[str],
    seeds: int,
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress = ignore,
) -> list[FaceRun]:
    """Train and evaluate every gating with every seed under `out`, skipping what is finished.

    Returns all finished runs of the plan, those of earlier calls included.

    Raises
    ------
    GatedVAEError
        When a gating is unknown, the store is not one of faces with pairs, `out` holds runs of another plan, or a run fails;
        those that are finished stay.
    """
    unknown = [name for name in gatings if name not in FACE_GATINGS]
    if unknown:
        raise UsageError(f"There is no {unknown[0]!r} to reproduce.", "", f"Choose from {', '.join(FACE_GATINGS)}.")
    store = open_store(plan.store)
    if "factors" in store.manifest:
        raise GatedVAEError(f"{plan.store} holds no faces.", "", "Use `pipe reproduce table1` for dSprites.")
    evaluate = partial(evaluate_plain, truth=plan.truth)
    tasks = [
        Task(f"{name}-{seed}", face_config(plan, store, name, seed), evaluate)
        for seed in range(seeds)
        for name in gatings
    ]
    with locked(out):
        for task in tasks:
            _refuse_other_judge(out / task.name, plan)
        do_tasks(tasks, out, workers=workers, device=device, progress=progress)
    return finished_runs(plan, store, out)


def _refuse_other_judge(folder: Path, plan: FacePlan) -> None:
    """Refuse a run that was judged by something else, lest one table mixes them."""
    if is_finished(folder) and not _is_judged(open_run(folder), plan):
        why = f"The other judge is {'the labels' if plan.truth else 'the truth'}."
        raise GatedVAEError(f"{folder} was judged by something else.", why, "Choose another --out.")


def _is_judged(run: Run, plan: FacePlan) -> bool:
    judge: str = run.read_metrics()["evaluate"]["judged_by"]
    return judge == ("truth" if plan.truth else "labels")


def face_config(plan: FacePlan, store: Store, gating: str, seed: int) -> TrainConfig:
    """The configuration of one run."""
    way = FACE_GATINGS[gating]
    height, width = store.manifest["image_shape"]
    latent = choose_latent(plan.latent, PRESET, store)
    model = GatedVAEConfig(
        latent=latent,
        kl_weights=choose_kl_weights(plan.kl_weights, latent) if way.method != "vae" else {},
        image_shape=(height, width),
        network=PRESET.network,
        hidden=plan.widths,
        objective=objective_of(plan, store, gating),
        method=parse(METHODS, way.method),
    )
    return TrainConfig(
        store=str(plan.store),
        model=model,
        steps=plan.steps,
        batch_size=plan.batch_size,
        lr=plan.lr,
        schedule=plan.schedule,
        seed=seed,
        precision=plan.precision,
    )


def objective_of(plan: FacePlan, store: Store, gating: str) -> Objective:
    """The objective of one run."""
    preset = PRESET.objective_for(store)
    times = FACE_GATINGS[gating].times
    return with_beta(preset, lambda beta: (beta if plan.beta is None else plan.beta) * times)


def evaluate_plain(run: Run, truth: Path | None) -> dict[str, Any]:
    """Score a run, as plain values."""
    return evaluate_faces(run, truth=truth).to_dict()


def finished_runs(plan: FacePlan, store: Store, out: Path) -> list[FaceRun]:
    """The finished runs of a folder that belong to the plan, by gating and seed."""
    data = "simulated" if plan.truth else store.kind
    return [
        FaceRun(data, gating, seed, plan.steps, run.read_metrics()["evaluate"])
        for gating, seed, run in finished_in(out, list(FACE_GATINGS))
        if run == run_of(run.path, face_config(plan, store, gating, seed), store) and _is_judged(run, plan)
    ]
