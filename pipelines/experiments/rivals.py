"""Methods of others and ours on the same pairs: told the same, or said what they are told, and given equally many images.

Runs are named WORLD-METHOD-OBJECTIVE. A world is which pairs there are: `shared`, of each pair one partition's factors agree and
nothing else (dSprites: the paper's four; other grids: every factor alone; faces: the store's own); `apart`, of dSprites, the five
partitions of `partitions.APART`; `changed`, of grids, one factor differs and all others agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from gated_vae.models.networks import FULLY_CONNECTED_HIDDEN
from gated_vae.models.objectives import Objective
from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import Change, Pairing, pair_exactly
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import evaluate_faces, evaluate_factors
from gated_vae.pipelines.evaluation.scores import BOOSTED, DCI, OTHERS, Scores, Table, markdown_table
from gated_vae.pipelines.experiments.partitions import APART, LATENT, LATENT_APART, SHARES
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row
from gated_vae.pipelines.experiments.tables import interval
from gated_vae.pipelines.presets import DEFAULT_PRESET, PRESETS, read_hidden, with_beta
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.store import Store, open_store

VARIANTS = {
    "vae": "vae",
    "gate": "gate",
    "prior_gate": "prior-gate",
    "exchange": "exchange:open_every=4",
    "partners": "partners:self_reconstruction=0.5",
    "composed": "composed:self_reconstruction=1",
    "gvae": "gvae",
    "ml_vae": "ml-vae",
    "ada_gvae": "ada-gvae",
    "ada_gvae_k": "ada-gvae:k=1",
    "ada_ml_vae": "ada-ml-vae",
    "slow_vae": "slow-vae:double_cross_entropy=true",
}
TOLD_WHICH = ("gate", "prior_gate", "exchange", "partners", "composed", "gvae", "ml_vae")
TOLD_NOTHING = ("vae", "ada_gvae", "slow_vae")
BETAS = (0.25, 1, 2, 4, 8)
# What else a VAE that is told nothing is given, by the weight that is varied.
OTHER_OBJECTIVES = {f"tc{beta}": f"tc:beta={beta}" for beta in (2, 4, 8)}
OTHER_OBJECTIVES |= {f"factor{gamma}": f"factor:gamma={gamma}" for gamma in (10, 30)}
WORLDS = {
    "shared": (*TOLD_WHICH, *TOLD_NOTHING),
    "apart": ("vae", *TOLD_WHICH),
    "changed": ("vae", "ada_gvae", "ada_gvae_k", "ada_ml_vae", "slow_vae"),
}
CHANGED = {"changed": 10}  # as many dimensions as in nearly all published comparisons
FACES = ("vae", "gate", "prior_gate", "exchange", "partners", "gvae", "ml_vae", "ada_gvae")
RUN = ["data", "world", "method", "objective"]
# What is chosen by, as no label is needed for it: what a run of weight 1 minimises.
LOSS = "unweighted_loss"
# What the report shows, by the kind of data.
GRIDS = {
    f"{BOOSTED}_disentanglement": "DCI D, boosting",
    "random_forest_disentanglement": "DCI D, forest",
    "random_forest_uninformativeness": "DCI U, forest",
    "mig": "MIG",
    "factor_vae": "FactorVAE's",
    "partition_score": "partition score",
}
PEOPLE = {"pose_score": "pose: own - other", "expression_score": "expression: own - other"}
PEOPLE |= {"pose_full": "pose: full latent", "expression_full": "expression: full latent"}


@dataclass(frozen=True, kw_only=True)
class Rivals(Experiment):
    """Methods on one store, runs named WORLD-METHOD-OBJECTIVE.

    `store` is a grid of factors, or faces with pairs; without one, sprites are drawn in `out`.
    """

    names: ClassVar[Sequence[str]] = [
        *(f"{world}-{method}-beta{beta}" for world, methods in WORLDS.items() for method in methods for beta in BETAS),
        *(f"changed-vae-{objective}" for objective in OTHER_OBJECTIVES),
    ]
    usual: ClassVar[str] = "shared-*-beta1"
    key: ClassVar[Sequence[str]] = (*RUN, "beta", "seed", "steps", "metric")
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {
        "data": None,
        "world": [*WORLDS],
        "method": [*VARIANTS],
        "objective": None,
        "beta": None,
        "steps": None,
        "seed": None,
    }

    steps: int = 30_000  # of a method that encodes one image of each pair; others encode as many images in fewer steps
    hidden: str = ""  # the network's hidden sizes; its own when empty

    def chosen(self, only: str) -> list[str]:
        """Of the names that fit some of the patterns those that the store has pairs for; `UsageError` where there are none."""
        store = open_store(self.store) if self.store else None
        wanted = [name for name in super().chosen(only) if store is None or has_pairs_for(store, name)]
        if not wanted:
            remedy = "Choose others by --only, such as shared-gvae-*."
            raise UsageError(f"{self.store} has no pairs for {only}.", "", remedy)
        return wanted

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        """Make sprites where no store is named, and the pairs of a grid's worlds."""
        store = self.grid()
        if "factors" in store.manifest:
            change: dict[str, Pairing | Sequence[str]] = {"changed": Change(1)}
            pair_exactly(store, {**shares(store), **(APART if store.kind == "dsprites" else {}), **change})

    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        """The usual network for such images, with a method and an objective."""
        world, method, objective = name.split("-")
        preset = PRESETS[DEFAULT_PRESET.get(self.opened.kind, "faces")]
        return self.path, replace(
            preset.model(self.opened),
            latent=latents(self.opened)[world],
            kl_weights={},
            hidden=read_hidden(self.hidden) or (FULLY_CONNECTED_HIDDEN if preset.network == "fc" else ()),
            method=parse(METHODS, VARIANTS[method]),
            objective=self.objective(objective),
        )

    def objective(self, name: str) -> Objective:
        """The objective of a name; beta counts in `unit`."""
        if name in OTHER_OBJECTIVES:
            return parse(OBJECTIVES, OTHER_OBJECTIVES[name])
        return with_beta(parse(OBJECTIVES, "beta"), self.unit * float(name.removeprefix("beta")))

    @cached_property
    def unit(self) -> float:
        """What the weights of the KL divergence are counted in: 1, of faces the preset's for images of their size."""
        usual = PRESETS["faces"].model(self.opened).objective
        return 1.0 if "factors" in self.opened.manifest else float(getattr(usual, "beta", 1.0))

    def config(self, name: str, seed: int) -> TrainConfig:
        """As many steps as encode as many images."""
        config = super().config(name, seed)
        encoded = config.model.method.encoded(len(config.model.latent))
        return replace(config, steps=max(1, round(self.steps / encoded)))

    def score(self, run: OpenRun) -> Scores:
        """By the factors, or by what ridge regression reads of unseen people's pose and expression."""
        if "factors" in run.store.manifest:
            return evaluate_factors(run)
        return evaluate_faces(run, probes=("ridge",), regressors=())

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per run and metric."""
        return [row for run in runs for row in self._rows(run)]

    def _rows(self, run: Finished) -> Iterator[Row]:
        world, method, _ = run.name.split("-")
        config, model = run.config, run.config.model
        kind, beta = weight_of(model.objective)
        steps = config.steps or 0
        row: Row = {"data": self.opened.kind, "world": world, "method": method, "told": model.method.told}
        row |= {"objective": kind, "beta": beta, "seed": config.seed, "steps": steps}
        row |= {"images_encoded": images_encoded(config), "seconds": run.seconds}
        found = {LOSS: unweighted_loss(run.losses, beta, self.unit), **metrics_of(run.scores.values)}
        yield from (row | {"metric": name, "value": value} for name, value in found.items())

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """What was run, then the tables."""
        head = (
            "# Rivals: all tables\n\n"
            f"Batch {self.batch_size}, Adam, learning rate {self.lr:g} {self.schedule}.\n"
            f"Methods that encode one image of each pair take {self.steps:,} steps, the others encode as many images.\n"
        )
        return {".md": f"{head}\n{tables(results)}".encode()}

    def headline(self, results: pd.DataFrame) -> Table:
        """The first metric at the chosen weight."""
        columns: dict[str, dict[str, float]] = {}
        for (_, world), found in results.groupby(["data", "world"], sort=False):
            metric = next(name for name in GRIDS | PEOPLE if name in set(found["metric"]))
            title = f"{world}: {(GRIDS | PEOPLE)[metric]}"
            for run, rows in found.groupby(["method", "objective"], sort=False):
                columns.setdefault(title, {})[" ".join(map(str, run))] = float(at_chosen(rows, metric).mean())
        return Table("At the weight that the loss without labels chose, mean over seeds", columns)


def shares(store: Store) -> dict[str, Sequence[str]]:
    """Partition -> the factors that its pairs share in the world `shared`: the paper's, or every factor that varies alone."""
    if store.kind == "dsprites":
        return dict(SHARES)
    return {name: (name,) for name, size in store.manifest["factors"].items() if size > 1}


def latents(store: Store) -> dict[str, dict[str, int]]:
    """World -> latent sizes by partition, of the worlds that a store has."""
    if "factors" not in store.manifest:
        sizes = PRESETS["faces-partners"]
        return {"shared": {name: sizes.latent.get(name, sizes.latent_else) for name in store.partitions}}
    own = LATENT if store.kind == "dsprites" else dict.fromkeys(shares(store), 2)
    apart = {"apart": dict(LATENT_APART)} if store.kind == "dsprites" else {}
    # In the order in which the store has its partitions, which is that of training.
    worlds = {"shared": own, **apart, "changed": CHANGED}
    return {world: {name: sizes[name] for name in store.partitions if name in sizes} for world, sizes in worlds.items()}


def has_pairs_for(store: Store, name: str) -> bool:
    """Whether a run of this name can be trained on a store: faces have one world, and no targets to compose."""
    world, method, _ = name.split("-")
    if "factors" not in store.manifest:
        return world == "shared" and method in FACES
    return world != "apart" or store.kind == "dsprites"


def images_encoded(config: TrainConfig) -> int:
    """How many images a run has encoded."""
    return round((config.steps or 0) * config.batch_size * config.model.method.encoded(len(config.model.latent)))


def weight_of(objective: Objective) -> tuple[str, float]:
    """An objective's name and the weight that is varied."""
    name = next(name for name, kind in OBJECTIVES.items() if type(objective) is kind)
    weight: float = getattr(objective, "gamma", getattr(objective, "beta", 1.0))
    return name, float(weight)


def unweighted_loss(losses: Mapping[str, Mapping[str, float]], beta: float, unit: float = 1.0) -> float:
    """Reconstruction and `unit` times the KL divergence, nats per image at the end of training, mean over what steps were for.

    The losses have it `beta` times.
    """
    found = [terms["reconstruction"] + terms.get("kl", 0.0) * unit / beta for terms in losses.values()]
    return sum(found) / len(found)


def metrics_of(values: Mapping[str, Any]) -> dict[str, float]:
    """What a run's scores say, by name."""
    found: dict[str, float] = {
        f"{regressor}_{name}": score[name] for regressor, score in values["dci"].items() for name in DCI
    }
    if "r2" in values:
        for partition, summary in values["summary"].get("ridge", {}).get("sample", {}).items():
            found |= {f"{partition}_{name}": value for name, value in summary.items()}
        found |= values["reconstruction"]
        return found
    gaps = values["partition_score"]
    found |= {"partition_score": sum(gaps.values()) / len(gaps)} if gaps else {}
    errors = values["dci"].get(BOOSTED, {}).get("uninformativeness_per_factor", {})
    found |= {f"{BOOSTED}_uninformativeness_{name}": error for name, error in errors.items()}
    found |= {"rotation_circular": values["rotation_circular"]["mean"]} if values["rotation_circular"] else {}
    found |= {name: values[name] for name in OTHERS if values[name] is not None}
    return found


def chosen_beta(rows: pd.DataFrame) -> float:
    """The weight whose runs have the lowest unweighted loss, mean over seeds: no label was asked."""
    losses = rows[rows["metric"] == LOSS].groupby("beta")["value"].mean()
    return float(losses.idxmin())


def tables(results: pd.DataFrame) -> str:
    """By data and world: every method at the weight that its loss chose, and the medians over weights."""
    parts = [
        "The weight (beta, or FactorVAE's gamma) is the one with the lowest loss, whose KL divergence is weighed alike; no label"
        " is asked.\nIntervals are 95% of the mean over seeds (Student's t).\nMedians are over all weights and seeds, where each"
        " has the score.\n"
    ]
    for (data, world), found in results.groupby(["data", "world"], sort=False):
        shown = {metric: title for metric, title in (GRIDS | PEOPLE).items() if metric in set(found["metric"])}
        lines = [
            line
            for (method, objective), rows in found.groupby(["method", "objective"], sort=False)
            for line in _lines([method, objective, rows.iloc[0]["told"]], rows, [*shown])
        ]
        header = ["method", "objective", "told", "images encoded", "weight", "seeds", *shown.values()]
        parts += [f"## {data}, {world}\n", markdown_table(header, lines)]
    return "\n".join(parts)


def at_chosen(rows: pd.DataFrame, metric: str) -> pd.Series:
    """A metric of the runs at the chosen weight, a number a seed; rows are those of one method and objective."""
    return rows[(rows["beta"] == chosen_beta(rows)) & (rows["metric"] == metric)]["value"]


def _lines(head: list[str], rows: pd.DataFrame, metrics: Sequence[str]) -> Iterator[list[str]]:
    """At the chosen weight, then the medians where there are several weights."""
    best, weights = chosen_beta(rows), rows["beta"].unique()
    images = f"{rows.iloc[0]['images_encoded']:,}"
    seeds = rows[rows["beta"] == best]["seed"].nunique()
    yield [*head, images, f"{best:g}", str(seeds), *(interval(at_chosen(rows, metric)) for metric in metrics)]
    if len(weights) > 1:
        of = {metric: rows[rows["metric"] == metric] for metric in metrics}
        medians = [f"{it['value'].median():.3f}" if it["beta"].nunique() == len(weights) else "-" for it in of.values()]
        yield [*head, images, f"median of {len(weights)}", str(seeds), *medians]
