"""The paper's Table 1 at a stated scale: objectives and methods on dSprites, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from gated_vae.models.networks import FULLY_CONNECTED_HIDDEN
from gated_vae.models.objectives import DIPVAE2, BetaVAE, InfoVAE, Objective
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import REGRESSORS, evaluate_factors
from gated_vae.pipelines.evaluation.scores import DCI, OTHERS, Scores, Table, markdown_table
from gated_vae.pipelines.experiments.partitions import APART, KL_APART, LATENT, LATENT_APART, SHARES
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row
from gated_vae.pipelines.experiments.tables import interval
from gated_vae.pipelines.presets import read_hidden, with_beta
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import Progress

# The paper's constants.
OBJECTIVES: dict[str, Objective] = {"beta": BetaVAE(), "info": InfoVAE(), "dip2": DIPVAE2()}

# Our factors by the paper's names.
FACTORS = {"shape": "shape", "size": "scale", "rotation": "orientation", "x_position": "posX", "y_position": "posY"}
MODELS = {"beta": "beta-VAE", "info": "InfoVAE", "dip2": "DIP-VAE-II"}
LENGTH = ("steps", "lr", "schedule", "hidden")
RUN = ["regressor", "model", "method", *LENGTH]  # what seeds have in common
TABLES = {
    "Table 1: scores": {name: name for name in DCI},
    "Table 2: uninformativeness by factor (lower is better)": {
        name: f"uninformativeness_{column}" for name, column in FACTORS.items()
    },
    "Table 3: completeness by factor": {name: f"completeness_{column}" for name, column in FACTORS.items()},
    "Table 4: disentanglement by latent dimension (the paper does not state which partition is which)": {
        f"z{i}": f"disentanglement_z{i}" for i in range(8)
    },
}


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

    The paper's: 288,000 steps, constant learning rate 1e-4, hidden sizes not stated. `store` holds dSprites, of the
    official file or drawn; without one they are drawn in `out`.
    """

    names: ClassVar[Sequence[str]] = [f"{model}-{method}" for model in OBJECTIVES for method in VARIANTS]
    usual: ClassVar[str] = "*-ungated,*-gated"
    key: ClassVar[Sequence[str]] = (*RUN, "seed")
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {
        "model": [*MODELS],
        "method": [*VARIANTS],
        **dict.fromkeys((*LENGTH, "seed")),
    }

    seeds: int = 10
    steps: int = 6000
    hidden: str = ",".join(map(str, FULLY_CONNECTED_HIDDEN))

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        """Draw the sprites where no store is named, and make the paper's pairs and ours; `UsageError` for other images."""
        store = self.grid()
        if store.kind != "dsprites":
            remedy = "Name one that `pipe preprocess dsprites` made, or leave it out to have the sprites drawn."
            raise UsageError(f"{self.path} is no store of dSprites.", f"Its images are of {store.kind}.", remedy)
        pair_exactly(store, SHARES | APART)

    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        """The paper's network with an objective, and a method."""
        model, _, method = name.partition("-")
        variant, objective = VARIANTS[method], OBJECTIVES[model]
        if variant.beta is not None:
            objective = with_beta(objective, variant.beta)
        return self.path, GatedVAEConfig(
            latent=dict(variant.latent),
            kl_weights=dict(variant.kl_weights),
            network="fc",
            hidden=read_hidden(self.hidden),
            objective=objective,
            method=parse(METHODS, variant.method),
        )

    def score(self, run: OpenRun) -> Scores:
        """By the factors of 10,000 random images."""
        return evaluate_factors(run, regressors=REGRESSORS)

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per run and regressor of DCI."""
        return [_row(run, regressor) for run in runs for regressor in run.scores.values["dci"]]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """What was run, then the tables."""
        head = (
            "# Table 1: all tables\n\n"
            f"Ours: steps as stated, batch {self.batch_size}, Adam, learning rate {Table1.lr:g} {Table1.schedule}, hidden sizes"
            f" {Table1.hidden}, unless a row says otherwise.\n"
            "Each run's precision is in the Parquet file.\n"
            f"{_weights()}\n"
            "The paper: 50 epochs (288,000 steps), learning rate 1e-4, hidden sizes not stated.\n"
            "n is the number of seeds; intervals are 95% of the mean over them (Student's t).\n"
            "Codes are posterior means of 10,000 random images, a quarter of them held out.\n"
            "Scores as in the paper: Lasso 0.02; random forest of 10 trees, depth 12; NRMSE.\n"
        )
        return {".md": f"{head}\n{tables(results)}".encode()}

    def headline(self, results: pd.DataFrame) -> Table:
        """Disentanglement by each regressor."""
        names = results["model"] + "-" + results["method"] + ", " + results["steps"].astype(str) + " steps"
        means = results.assign(run=names).pivot_table("disentanglement", "run", "regressor", sort=False)
        return Table("Disentanglement, mean over seeds", means.to_dict())


def _weights() -> str:
    """The weight of the KL divergence in the paper's objectives, and which methods have another."""
    theirs = {MODELS[name]: model.beta for name, model in OBJECTIVES.items() if hasattr(model, "beta")}
    ours = {name: variant.beta for name, variant in VARIANTS.items() if variant.beta is not None}
    paper, told = (", ".join(f"{name} {beta:g}" for name, beta in betas.items()) for betas in (theirs, ours))
    return f"Beta is the paper's, {paper}, but for {told}."


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


def paper() -> pd.DataFrame:
    """The paper's figures: table, regressor, model, gating, quantity, mean, std."""
    text = resources.files(__package__).joinpath("paper_tables.csv").read_text()
    return pd.read_csv(StringIO(text))


def tables(results: pd.DataFrame) -> str:
    """Table 1 with both regressors, then Tables 2 to 4, ours under the paper's."""
    known, parts = paper(), []
    for number, (title, columns) in enumerate(TABLES.items(), start=1):
        parts += [f"## {title}\n", _table(results, known[known["table"] == number], columns)]
    return "\n".join([*parts, "## Rotation, partitions and other metrics\n", _others(results)])


def _table(results: pd.DataFrame, known: pd.DataFrame, columns: Mapping[str, str]) -> str:
    lines = []
    shown = set()
    for (regressor, model, method, *length), rows in results.groupby(RUN, sort=False):
        which = (known["regressor"] == regressor) & (known["model"] == MODELS[model]) & (known["gating"] == method)
        theirs = known[which].set_index("quantity")
        run = [regressor, MODELS[model], method]
        if len(theirs) and tuple(run) not in shown:
            shown.add(tuple(run))
            cells = [f"{theirs.loc[name, 'mean']:.3f} (sd {theirs.loc[name, 'std']:.3f})" for name in columns]
            lines.append([*run, "paper", *cells])
        ours = [interval(rows[column]) for column in columns.values()]
        lines.append([*run, f"ours, {_length(length)}, n={len(rows)}", *ours])
    return markdown_table(["regressor", "model", "method", "", *columns], lines)


def _length(length: Sequence[Any]) -> str:
    """Steps, and learning rate and hidden sizes where they are not the usual ones."""
    steps, lr, schedule, hidden = length
    rate = "" if (lr, schedule) == (Table1.lr, Table1.schedule) else f" at {lr:g} {schedule}"
    sizes = "" if hidden == Table1.hidden else f", hidden {hidden}"
    return f"{steps:,} steps{rate}{sizes}"


def _others(results: pd.DataFrame) -> str:
    rows = results[results["regressor"] == "random_forest"]
    names = [name for name in rows.columns if name.startswith(("rotation_circular", "partition_score"))]
    names += [name for name in OTHERS if name in rows]
    lines = [
        [MODELS[model], method, _length(length), *(interval(group[name]) for name in names)]
        for (model, method, *length), group in rows.groupby(RUN[1:], sort=False)
    ]
    return markdown_table(["model", "method", "steps", *(name.replace("_", " ") for name in names)], lines)
