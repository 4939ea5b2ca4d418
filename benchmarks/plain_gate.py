"""What keeps the plain gate from learning shape and rotation: `python -m benchmarks.plain_gate --out DIR`.

Every run is the paper's gate on dSprites with one thing changed. Runs are named VARIANT-betaBETA and are resumed run by run;
DIR/plaingate.parquet has a row for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch

from gated_vae.models.methods.base import BatchKind, Method, Step, StepBatch, partition_slices
from gated_vae.models.methods.gate import Gate
from gated_vae.models.networks import FULLY_CONNECTED_HIDDEN
from gated_vae.models.objectives import BetaVAE
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines import console
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import evaluate_factors
from gated_vae.pipelines.evaluation.scores import DCI, Scores, Table
from gated_vae.pipelines.experiments.partitions import LATENT, SHARES
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row, reproduce
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.dsprites import DSprites

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE

BLOCK = 125  # turns of all partitions: 500 steps of one after the other


@dataclass(frozen=True)
class ToldGate(Method):
    """The gate, with 0 for the codes of closed partitions: the decoder is told which partition is open."""

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        step = Gate().step(vae, batch, noise)
        return step if batch.through is None else replace(step, codes=torch.where(batch.through, step.codes, 0.0))


@dataclass(frozen=True)
class NoStatistics(Method):
    """The gate without batch statistics: what batch normalisation does when training is over, from the first step on."""

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        vae.eval()
        return Gate().step(vae, batch, noise)


@dataclass(frozen=True)
class Blocks(Method):
    """The gate, with 500 steps of each partition in succession."""

    batches: ClassVar[BatchKind] = "together"

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:
        place = turn // BLOCK % len(batch.target)
        name = [*LATENT][place]
        return replace(batch, target=batch.target[place], partition=name, label=name)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        return Gate().step(vae, batch, noise)


@dataclass(frozen=True)
class Mixed(Method):
    """The gate, with all partitions in every batch, each in a quarter of its rows."""

    batches: ClassVar[BatchKind] = "together"

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        rows = torch.arange(len(batch.input))
        return replace(batch, target=batch.target[rows % len(batch.target), rows], partition=None, label="mixed")

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        through = vae.masks[torch.arange(len(batch.input)) % len(vae.masks)]
        return Gate().step(vae, replace(batch, through=through), noise)


OURS: dict[str, type[Method]] = {"told-gate": ToldGate, "no-statistics": NoStatistics, "blocks": Blocks, "mixed": Mixed}
for _name, _method in OURS.items():
    METHODS.add(_name, _method)


@dataclass(frozen=True)
class Variant:
    """What differs from the paper's gate."""

    method: str = "gate"
    lr: float = 1e-4
    schedule: str = "constant"
    hidden: tuple[int, ...] = FULLY_CONNECTED_HIDDEN


VARIANTS = {
    "plain": Variant(),
    "wide": Variant(hidden=(1200, 1200)),
    "fast": Variant(lr=1e-3, schedule="cosine"),
    "open_regulariser": Variant("gate:regulariser=false"),
    "no_statistics": Variant("no-statistics"),
    "blocks": Variant("blocks"),
    "mixed": Variant("mixed"),
    "prior": Variant("prior-gate"),
    "told": Variant("told-gate"),
    "exchange": Variant("exchange"),
    "exchange_fast": Variant("exchange", lr=1e-3, schedule="cosine"),
}
# The factor that is looked for in each partition.
OWN = {"position": "posX", "rotation": "orientation", "shape": "shape", "size": "scale"}
BETAS = (0.1, 0.25, 0.5, 1, 4)


@dataclass(frozen=True, kw_only=True)
class PlainGate(Experiment):
    """The paper's gate on dSprites with one thing changed, at its learning rate and a twelfth of its steps."""

    names: ClassVar[Sequence[str]] = [f"{variant}-beta{beta}" for variant in VARIANTS for beta in BETAS]
    usual: ClassVar[str] = "*-beta4"
    key: ClassVar[Sequence[str]] = ("variant", "beta", "steps", "seed")
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {
        "variant": [*VARIANTS],
        **dict.fromkeys(("beta", "steps", "seed")),
    }

    seeds: int = 2
    steps: int = 24_000
    precision: str = "bf16"

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        pair_exactly(make_store(DSprites(), self.path).store, SHARES)

    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        variant, beta = parts(name)
        return self.path, GatedVAEConfig(
            latent=dict(LATENT),
            network="fc",
            hidden=variant.hidden,
            objective=BetaVAE(beta=beta),
            method=parse(METHODS, variant.method),
        )

    def config(self, name: str, seed: int) -> TrainConfig:
        variant, _ = parts(name)
        return replace(super().config(name, seed), lr=variant.lr, schedule=variant.schedule)

    def score(self, run: OpenRun) -> Scores:
        return evaluate_factors(run, regressors=["random_forest"])

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        return [row(run) for run in runs]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def headline(self, results: pd.DataFrame) -> Table:
        names = results["variant"] + "-beta" + results["beta"].astype(str)
        means = results.assign(run=names).groupby("run", sort=False)[["disentanglement"]].mean()
        return Table("Means over seeds", means.T.to_dict())


def parts(name: str) -> tuple[Variant, float]:
    variant, _, beta = name.partition("-beta")
    return VARIANTS[variant], float(beta)


def row(run: Finished) -> Row:
    """Scores of the forest, and of each partition its KL divergence and what of its own factor's variance it predicts."""
    values, config = run.scores.values, run.config
    variant, _, beta = run.name.partition("-beta")
    score = values["dci"]["random_forest"]
    cells: Row = {"variant": variant, "beta": float(beta), "steps": config.steps, "seed": config.seed, "lr": config.lr}
    cells |= {"hidden": ",".join(map(str, config.model.hidden)), "precision": config.precision}
    cells |= {key: score[key] for key in DCI}
    cells |= {f"uninformativeness_{name}": value for name, value in score["uninformativeness_per_factor"].items()}
    cells |= {f"rotation_circular_{name}": value for name, value in values["rotation_circular"].items()}
    for name, dimensions in partition_slices(config.model.latent).items():
        cells[f"kl_{name}"] = sum(values["kl"][dimensions])
        cells[f"own_{name}"] = values["partition_r2"][name][OWN[name]]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="of sprites; made when missing")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="patterns of names, separated by commas")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    experiment = PlainGate(out=options.out, store=options.store, seeds=options.seeds, steps=options.steps)
    with console.progress("plain gate", "runs") as progress:
        results = reproduce(experiment, experiment.chosen(options.only), workers=options.workers, progress=progress)
    print(results.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
