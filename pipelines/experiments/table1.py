"""The paper's Table 1 at a stated scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gated_vae.pipelines.evaluation.factors import REGRESSORS, evaluate_factors

from gated_vae.models.networks import FULLY_CONNECTED_HIDDEN
from gated_vae.models.objectives import DIPVAE2, BetaVAE, InfoVAE, Objective
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.experiments.runner import Progress, Task, do_tasks, finished_in, ignore
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.presets import with_beta
from gated_vae.pipelines.training.run import Run, open_run
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.sources.dsprites.build import preprocess_dsprites
from gated_vae.preprocessing.store import open_store

# The paper's partitions and constants.
SHARES: dict[str, tuple[str, ...]] = {
    "position": ("posX", "posY"),
    "rotation": ("orientation",),
    "shape": ("shape",),
    "size": ("scale",),
}
LATENT = dict.fromkeys(SHARES, 2)
# Ours, with as many dimensions as the paper's. Within one partition of x and y nothing says which way its two dimensions lie. What
# a turn is depends on the shape (a square looks the same after a quarter), so images are partners in it if their shapes agree,
# too; the shape is charged less in its own partition, so that it is told there.
APART: dict[str, tuple[str, ...]] = {"x": ("posX",), "y": ("posY",), "turn": ("orientation", "shape")}
LATENT_APART = {"x": 1, "y": 1, "shape": 2, "turn": 2, "size": 2}
KL_APART = {"shape": 0.5}
OBJECTIVES: dict[str, Objective] = {"beta": BetaVAE(), "info": InfoVAE(), "dip2": DIPVAE2()}


@dataclass(frozen=True)
class Gating:
    """One way to train on the same pairs: what differs from the paper's gate."""

    method: str = "gate"
    beta: float | None = None  # replaces the beta-VAE's, where the method is ours
    latent: Mapping[str, int] = field(default_factory=lambda: LATENT)
    kl_weights: Mapping[str, float] = field(default_factory=dict)


GATINGS = {
    "ungated": Gating("vae"),
    "gated": Gating(),
    "exchange": Gating("exchange"),
    "exchange_open": Gating("exchange:open_every=4", beta=0.5),
    "partners": Gating("partners:self_reconstruction=0.5", beta=0.5),
    "composed": Gating("composed:self_reconstruction=1", beta=0.5),
    "composed_apart": Gating("composed:self_reconstruction=1", 0.5, LATENT_APART, KL_APART),
}


@dataclass(frozen=True)
class Schedule:
    """What every run of the table has in common; the paper's: 288,000 steps, constant rate 1e-4, widths not stated."""

    steps: int = 6000
    lr: float = 1e-3
    schedule: str = "cosine"
    widths: tuple[int, ...] = FULLY_CONNECTED_HIDDEN
    batch_size: int = 128
    precision: str = "bf16"


@dataclass(frozen=True)
class Job:
    """One run of the table."""

    model: str
    gating: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.model}-{self.gating}-{self.seed}"


def jobs_of(models: list[str], gatings: list[str], seeds: int) -> list[Job]:
    """Every run, all models of a seed before the next seed, so that a part of them is a smaller table."""
    for asked, known in ((models, list(OBJECTIVES)), (gatings, list(GATINGS))):
        for name in asked:
            if name not in known:
                raise UsageError(f"There is no {name!r} to reproduce.", "", f"Choose from {', '.join(known)}.")
    return [Job(model, gating, seed) for seed in range(seeds) for model in models for gating in gatings]


def reproduce(
    jobs: list[Job],
    schedule: Schedule,
    out: Path,
    *,
    store: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress = ignore,
) -> list[dict[str, Any]]:
    """Train and evaluate every job under `out`, skipping what is finished.

    Returns one row per regressor and finished run of the folder that was trained so, those of earlier calls included.

    Raises
    ------
    GatedVAEError
        When `out` holds one of the runs, trained otherwise, or a run fails; those that are finished stay.
    """
    with locked(out):
        store = prepare_store(store or out / "store")
        tasks = [Task(job.name, config_of(job, schedule, store), evaluate) for job in jobs]
        do_tasks(tasks, out, workers=workers, device=device, progress=progress)
        return [row for job in finished_jobs(schedule, store, out) for row in rows_of(job, out)]


def evaluate(run: Run) -> dict[str, Any]:
    """Score a run, as plain values."""
    return evaluate_factors(run).to_dict()


def prepare_store(path: Path) -> Path:
    """Make the store of sprites with the paper's pairs and ours, unless it is there."""
    preprocess_dsprites(path)
    pair_exactly(open_store(path), SHARES | APART)
    return path


def finished_jobs(schedule: Schedule, store: Path, out: Path) -> list[Job]:
    """The finished runs of a folder that were trained so, by objective, gating and seed."""
    ways = {f"{model}-{gating}": (model, gating) for model in OBJECTIVES for gating in GATINGS}
    found = [(Job(*ways[name], seed), run) for name, seed, run in finished_in(out, list(ways))]
    return [job for job, run in found if run.config == config_of(job, schedule, store)]


def config_of(job: Job, schedule: Schedule, store: Path) -> TrainConfig:
    """The configuration of one run."""
    gating, objective = GATINGS[job.gating], OBJECTIVES[job.model]
    if gating.beta is not None:
        objective = with_beta(objective, lambda _: gating.beta or 0.0)
    model = GatedVAEConfig(
        latent=dict(gating.latent),
        kl_weights=dict(gating.kl_weights),
        network="fc",
        hidden=schedule.widths,
        objective=objective,
        method=parse(METHODS, gating.method),
    )
    return TrainConfig(
        store=str(store),
        model=model,
        steps=schedule.steps,
        batch_size=schedule.batch_size,
        lr=schedule.lr,
        schedule=schedule.schedule,
        seed=job.seed,
        precision=schedule.precision,
    )


def rows_of(job: Job, out: Path) -> list[dict[str, Any]]:
    """The result rows of a finished run, one per regressor."""
    run = open_run(out / job.name)
    found = run.read_metrics()["evaluate"]
    rows = []
    for regressor in REGRESSORS:
        score = found["dci"][regressor]
        row = {"regressor": regressor, "model": job.model, "gating": job.gating, "seed": job.seed}
        config = run.config
        row |= {"steps": config.steps, "lr": config.lr, "schedule": config.schedule}
        row |= {"widths": ",".join(map(str, config.model.hidden)), "precision": config.precision}
        row |= {key: score[key] for key in ("disentanglement", "completeness", "uninformativeness")}
        row |= {f"uninformativeness_{name}": value for name, value in score["uninformativeness_per_factor"].items()}
        row |= {f"completeness_{name}": value for name, value in score["completeness_per_factor"].items()}
        row |= {f"disentanglement_z{i}": value for i, value in enumerate(score["disentanglement_per_code"])}
        row |= {f"rotation_circular_{name}": value for name, value in found["rotation_circular"].items()}
        row |= {f"partition_score_{name}": value for name, value in found["partition_score"].items()}
        row |= {name: found[name] for name in ("mig", "sap", "modularity")}
        rows.append(row)
    return rows
