"""The paper's Table 1 at a stated scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from gated_vae.models.networks import FULLY_CONNECTED_HIDDEN
from gated_vae.models.objectives import DIPVAE2, BetaVAE, InfoVAE, Objective
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import evaluate_factors
from gated_vae.pipelines.evaluation.scores import DCI, OTHERS, Scores, Table
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row
from gated_vae.pipelines.experiments.table1_report import MODELS, markdown
from gated_vae.pipelines.training.presets import read_hidden, with_beta
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.dsprites.build import DSprites

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
class Variant:
    """One way to train on the same pairs: what differs from the paper's gate."""

    method: str = "gate"
    beta: float | None = None  # replaces the beta-VAE's, where the method is ours
    latent: Mapping[str, int] = field(default_factory=lambda: LATENT)
    kl_weights: Mapping[str, float] = field(default_factory=dict)


VARIANTS = {
    "ungated": Variant("vae"),
    "gated": Variant(),
    "exchange": Variant("exchange"),
    "exchange_open": Variant("exchange:open_every=4", beta=0.5),
    "partners": Variant("partners:self_reconstruction=0.5", beta=0.5),
    "composed": Variant("composed:self_reconstruction=1", beta=0.5),
    "composed_apart": Variant("composed:self_reconstruction=1", 0.5, LATENT_APART, KL_APART),
}


@dataclass(frozen=True, kw_only=True)
class Table1(Experiment):
    """Objectives and methods on dSprites, runs named OBJECTIVE-METHOD.

    The paper's: 288,000 steps, constant learning rate 1e-4, hidden sizes not stated. `store` holds sprites; it is made when
    missing, by default in `out`.
    """

    usual: ClassVar[str] = "*-ungated,*-gated"
    key: ClassVar[Sequence[str]] = ("regressor", "model", "method", "steps", "lr", "schedule", "hidden", "seed")
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {
        "model": [*MODELS],
        "method": [*VARIANTS],
        **dict.fromkeys(("steps", "lr", "schedule", "hidden", "seed")),
    }

    seeds: int = 10
    steps: int = 6000
    hidden: str = ",".join(map(str, FULLY_CONNECTED_HIDDEN))

    def __post_init__(self) -> None:
        if self.truth is not None:
            raise UsageError("--truth is for faces.", "", "Leave it out.")

    @property
    def names(self) -> Sequence[str]:
        """OBJECTIVE-METHOD."""
        return [f"{model}-{method}" for model in OBJECTIVES for method in VARIANTS]

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        """Make the store of sprites with the paper's pairs and ours, unless it is there."""
        store = self.store_of("")
        pair_exactly(make_store(DSprites(), store).store, SHARES | APART)

    def store_of(self, name: str) -> Path:  # noqa: ARG002
        """The one store."""
        return self.store or self.out / "store"

    def model(self, name: str) -> GatedVAEConfig:
        """The paper's network with an objective, and a method."""
        model, _, method = name.partition("-")
        variant, objective = VARIANTS[method], OBJECTIVES[model]
        if variant.beta is not None:
            objective = with_beta(objective, lambda _: variant.beta or 0.0)
        return GatedVAEConfig(
            latent=dict(variant.latent),
            kl_weights=dict(variant.kl_weights),
            network="fc",
            hidden=read_hidden(self.hidden),
            objective=objective,
            method=parse(METHODS, variant.method),
        )

    def score(self, run: OpenRun) -> Scores:
        """By the factors of 10,000 random images."""
        return evaluate_factors(run)

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per run and regressor of DCI."""
        return [_row(run, regressor) for run in runs for regressor in run.scores.values["dci"]]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """The paper's four tables beside ours."""
        usual = {"lr": Table1.lr, "schedule": Table1.schedule, "hidden": Table1.hidden}
        return {".md": markdown(results, usual, self.batch_size, self.precision).encode()}

    def headline(self, results: pd.DataFrame) -> Table:
        """Disentanglement by each regressor."""
        names = results["model"] + "-" + results["method"] + ", " + results["steps"].astype(str) + " steps"
        means = results.assign(run=names).pivot_table("disentanglement", "run", "regressor", sort=False)
        return Table("Disentanglement, mean over seeds", means.to_dict())


def _row(run: Finished, regressor: str) -> Row:
    values, config = run.scores.values, run.config
    score = values["dci"][regressor]
    model, _, method = run.name.partition("-")
    row: Row = {"regressor": regressor, "model": model, "method": method, "seed": config.seed}
    row |= {"steps": config.steps, "lr": config.lr, "schedule": config.schedule}
    row |= {"hidden": ",".join(map(str, config.model.hidden)), "precision": config.precision}
    row |= {key: score[key] for key in DCI}
    row |= {f"uninformativeness_{name}": value for name, value in score["uninformativeness_per_factor"].items()}
    row |= {f"completeness_{name}": value for name, value in score["completeness_per_factor"].items()}
    row |= {f"disentanglement_z{i}": value for i, value in enumerate(score["disentanglement_per_code"])}
    row |= {f"rotation_circular_{name}": value for name, value in values["rotation_circular"].items()}
    row |= {f"partition_score_{name}": value for name, value in values["partition_score"].items()}
    return row | {name: values[name] for name in OTHERS}
