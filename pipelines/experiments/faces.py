"""Faces, gated and not, on one store: the same network and steps, several seeds, the same scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from gated_vae.models.objectives import VAE
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.partition import pairs_made
from gated_vae.pipelines.evaluation.labels import owner_of, read_labels
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import FACES, REGRESSORS, evaluate_faces
from gated_vae.pipelines.evaluation.scores import DCI, JUDGES, SWAP, Scores, Table, markdown_table, r2_cells, summarise
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row, finished_runs
from gated_vae.pipelines.experiments.tables import interval, over_seeds
from gated_vae.pipelines.presets import PRESETS, read_hidden, read_kl_weights, read_latent
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.progress import Progress

PRESET = PRESETS["faces"]
RUN = ["method", "steps", "seed"]
SCORES = {
    "Swap test": {
        f"swap_{judge}_{key}": f"{title} ({how})" for judge, how in JUDGES.items() for key, title in SWAP.items()
    },
    "DCI and reconstruction": {
        **{f"{key}_{name}": f"{key}, {name.replace('_', ' ')}" for name in REGRESSORS for key in DCI},
        "rmse": "rmse",
        "rmse_of_mean_image": "rmse of mean image",
    },
}


@dataclass(frozen=True)
class Variant:
    """One way to train on the same images: a method, and how often the others' KL weight."""

    method: str
    times: float = 1.0


VARIANTS = {
    "ungated": Variant("vae"),
    "ungated_beta": Variant("vae", times=4.0),  # what the paper's 4 is to a VAE's 1
    "gated": Variant("gate"),
    "exchange": Variant("exchange"),
    "partners": Variant(PRESETS["faces-partners"].method),
}


@dataclass(frozen=True, kw_only=True)
class Faces(Experiment):
    """Methods on a clustered store of faces, runs named as the method.

    `store` holds the faces, paired; `truth` their true values, if they are simulated: by default the store's labels judge.
    """

    names: ClassVar[Sequence[str]] = [*VARIANTS]
    key: ClassVar[Sequence[str]] = (
        *("data", "method", "augment", "seed", "steps"),
        *("partition", "factor", "regressor", "codes"),
    )
    order: ClassVar[Mapping[str, Sequence[str] | None]] = {
        "data": None,
        "method": [*VARIANTS],
        "steps": None,
        "seed": None,
    }

    steps: int = 4000
    lr: float = 5e-4
    beta: float | None = None  # weight of the KL divergence; the preset's for images of that size when None
    latent: str = ""  # sizes by partition as NAME=SIZE,...; the preset's when empty
    kl_weights: str = ""  # NAME=WEIGHT,...: what `beta` is multiplied by in some partitions, where there is a gate
    hidden: str = ""  # the network's hidden sizes; its own when empty

    def __post_init__(self) -> None:
        if self.store is None:
            raise UsageError(
                "There is no store to train on.", "", "Name one of faces with pairs: reproduce faces STORE."
            )

    @property
    def data(self) -> str:
        """What results call the data."""
        return "simulated" if self.truth else self.opened.kind

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        """Refuse another kind of store, and runs that were judged by something else, lest one table mixes them."""
        if "factors" in self.opened.manifest:
            raise GatedVAEError(f"{self.store} holds no faces.", "", "Use `pipe reproduce table1` for dSprites.")
        read_labels(self.opened, FACES, truth=self.truth)  # refuses what cannot be judged before it is trained on
        judge, other = ("truth", "labels") if self.truth else ("labels", "truth")
        if any(run.scores.values["judged_by"] != judge for run in finished_runs(self)):
            why = f"They were judged by the {other}, not by the {judge}."
            raise GatedVAEError(f"{self.out} holds runs that were judged otherwise.", why, "Choose another --out.")

    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        """The preset's network with a method."""
        variant, store = VARIANTS[name], self.opened
        model = PRESET.model(store)
        gated = variant.method != "vae"
        return store.path, replace(
            model,
            latent=read_latent(self.latent, model.latent) if self.latent else model.latent,
            kl_weights=read_kl_weights(self.kl_weights, model.latent) if self.kl_weights and gated else {},
            hidden=read_hidden(self.hidden),
            objective=VAE(self.beta_of(name)),
            method=parse(METHODS, variant.method),
        )

    def beta_of(self, name: str) -> float:
        """The weight of a method's KL divergence."""
        preset = PRESET.model(self.opened).objective
        assert isinstance(preset, VAE)
        return (preset.beta if self.beta is None else self.beta) * VARIANTS[name].times

    def score(self, run: OpenRun) -> Scores:
        """By the truth or the labels of 20,000 random faces."""
        return evaluate_faces(run, truth=self.truth)

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per run, partition, factor, probe and kind of codes; scores of the whole run stand in each of its rows."""
        return [row for run in runs for row in self._rows(run)]

    def _rows(self, run: Finished) -> list[Row]:
        values = run.scores.values
        key: Row = {"data": self.data, "method": run.name, "seed": run.config.seed, "steps": run.config.steps}
        key |= {"people": values["people"], "augment": run.config.augment}
        whole: Row = {
            f"swap_{judge}_{what}": share
            for judge in JUDGES
            for what, share in (values["swap"] or {}).get(judge, {}).items()
        }
        whole |= {f"{name}_{regressor}": found[name] for regressor, found in values["dci"].items() for name in DCI}
        return [key | cell | whole | values["reconstruction"] for cell in r2_cells(values)]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """What was run and how it was judged, then the tables."""
        mine = results[results["data"] == self.data]
        return {".md": f"{self._preamble()}\n{tables(mine)}".encode()}

    def headline(self, results: pd.DataFrame) -> Table:
        """Yaw, from every partition."""
        mine = (results["regressor"] == "ridge") & (results["codes"] == "sample") & (results["factor"] == "pose_Ry")
        means = results[mine].pivot_table("r2", "method", "partition", sort=False)
        return Table("R2 of yaw by partition (ridge, posterior samples), mean over seeds", means.to_dict())

    def _preamble(self) -> str:
        """What was run, and how it was judged."""
        store = self.opened
        beta, charged = self.beta_of("gated"), self.beta_of("ungated_beta")
        judge = "the truth behind the simulation" if self.truth else "OpenFace's labels, noise included"
        pairs = "; ".join(f"{name}: {pairs_made(record)}" for name, record in store.partitions.items())
        height, width, *colours = store.manifest["image_shape"]
        colour = " in colour" if colours else ""
        hidden = f", hidden {self.hidden}" if self.hidden else ""
        augmented = "" if self.augment == "none" else f", what is encoded augmented ({self.augment})"
        weights = f", times {self.kl_weights} where there is a gate" if self.kl_weights else ""
        judges = read_labels(store, FACES, truth=self.truth)
        trained = f"{store.training:,} of them, and none of the people who judge," if store.splits else "all images,"
        return (
            f"# Faces ({self.data}), {self.steps:,} steps: all tables\n\n"
            f"{len(store):,} images of {width}x{height}{colour}.\nPairs: {pairs}.\n"
            f"Every run: the faces' preset ({PRESET.network} network"
            f"{hidden}){augmented}, batch {self.batch_size}, Adam, learning rate {self.lr:g} {self.schedule},"
            f" {self.precision},\nKL weight {beta:g}{weights} (ungated_beta: {charged:g}).\n"
            "Ungated networks have the same partitions, which mean nothing to them.\n\n"
            f"Judged by {judge}; people: {judges.people}; split {judges.split_by}.\n"
            f"The networks were trained on {trained} without labels.\n"
            "`own` is from a factor's own partition, `other` from the best other one, `full` from the full latent.\n"
            "`score` is own - other.\nR2 below 0 counts as 0 in means.\n"
            "Intervals are 95% of the mean over seeds (Student's t).\n"
        )


def tables(results: pd.DataFrame) -> str:
    """Partitions in short by each probe, the swap test, the other scores, then factor by factor."""
    shown = {
        f"Mean R2, {probe.replace('_', ' ')}, posterior {codes}s": pd.DataFrame(
            [{"method": run[0], **_summary(found)} for run, found in cells.groupby(RUN, sort=False)]
        )
        for (probe, codes), cells in results.groupby(["regressor", "codes"], sort=False)
    }
    runs = results.drop_duplicates(RUN)
    for title, names in SCORES.items():
        if (known := runs.filter([*names]).notna().any()).any():
            kept = [name for name in names if known.get(name, False)]
            shown[title] = runs[["method", *kept]].rename(columns=names)
    parts = [f"## {title}\n\n{over_seeds(table, 'method')}" for title, table in shown.items()]
    detail = results[(results["regressor"] == "ridge") & (results["codes"] == "sample")]
    return "\n".join([*parts, "## R2 by factor, ridge, posterior samples\n", *_factor_tables(detail)])


def _summary(cells: pd.DataFrame) -> dict[str, float]:
    """One run's mean R2 by partition: ``NAME: own`` and so on."""
    r2 = {name: found.set_index("factor")["r2"].to_dict() for name, found in cells.groupby("partition", sort=False)}
    owner = {factor: name for factor in cells["factor"].unique() if (name := owner_of(factor))}
    return {f"{name}: {key}": value for name, found in summarise(r2, owner).items() for key, value in found.items()}


def _factor_tables(detail: pd.DataFrame) -> Iterator[str]:
    """One table per method, factors as rows and partitions as columns."""
    for method, cells in detail.groupby("method", sort=False):
        yield f"### {method}, n={len(cells.drop_duplicates(RUN))}\n"
        table = cells.pivot_table("r2", "factor", "partition", interval, fill_value="-", sort=False).reset_index()
        yield markdown_table([*table.columns], table.to_numpy().tolist())
