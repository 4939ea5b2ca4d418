"""Faces, gated and not, on one store: the same network and steps, several seeds, the same scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from gated_vae.models.objectives import VAE
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.evaluation.labels import pairs_made, read_labels
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import FACES, evaluate_faces
from gated_vae.pipelines.evaluation.scores import DCI, Scores, Table, r2_cells
from gated_vae.pipelines.experiments.faces_report import markdown
from gated_vae.pipelines.experiments.runner import Experiment, Finished, Row, finished_runs
from gated_vae.pipelines.training.presets import PRESETS, choose_kl_weights, choose_latent, read_hidden
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.store import Store, open_store

PRESET = PRESETS["faces"]


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

    Attributes
    ----------
    store:
        The faces, paired.
    truth:
        Where the true values are (simulated faces); by default the store's labels judge.
    beta:
        Weight of the KL divergence; the preset's for images of that size when None.
    latent:
        Sizes by partition as ``NAME=SIZE,...``; the preset's when empty.
    kl_weights:
        ``NAME=WEIGHT,...``: what `beta` is multiplied by in some partitions, where there is a gate.
    hidden:
        The network's hidden sizes; its own when empty.
    """

    key: ClassVar[Sequence[str]] = (
        *("data", "method", "seed", "steps"),
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
    beta: float | None = None
    latent: str = ""
    kl_weights: str = ""
    hidden: str = ""

    def __post_init__(self) -> None:
        if self.store is None:
            raise UsageError(
                "There is no store to train on.", "", "Name one of faces with pairs: reproduce faces STORE."
            )

    @property
    def names(self) -> Sequence[str]:
        """Names of the methods."""
        return [*VARIANTS]

    @property
    def data(self) -> str:
        """What results call the data."""
        return "simulated" if self.truth else self.opened().kind

    def opened(self) -> Store:
        """The store."""
        return open_store(self.store_of(""))

    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:  # noqa: ARG002
        """Refuse another kind of store, and runs that were judged by something else, lest one table mixes them."""
        if "factors" in self.opened().manifest:
            raise GatedVAEError(f"{self.store} holds no faces.", "", "Use `pipe reproduce table1` for dSprites.")
        judge, other = ("truth", "labels") if self.truth else ("labels", "truth")
        if any(run.scores.values["judged_by"] != judge for run in finished_runs(self)):
            why = f"They were judged by the {other}, not by the {judge}."
            raise GatedVAEError(f"{self.out} holds runs that were judged otherwise.", why, "Choose another --out.")

    def store_of(self, name: str) -> Path:  # noqa: ARG002
        """The one store."""
        assert self.store is not None
        return self.store

    def model(self, name: str) -> GatedVAEConfig:
        """The preset's network with a method."""
        variant, store = VARIANTS[name], self.opened()
        height, width = store.manifest["image_shape"]
        latent = choose_latent(self.latent or None, PRESET, store)
        return GatedVAEConfig(
            latent=latent,
            kl_weights={} if variant.method == "vae" else choose_kl_weights(self.kl_weights or None, latent),
            image_shape=(height, width),
            network=PRESET.network,
            hidden=read_hidden(self.hidden),
            objective=self._objective(variant, store),
            method=parse(METHODS, variant.method),
        )

    def _objective(self, variant: Variant, store: Store) -> VAE:
        preset = PRESET.objective_for(store)
        assert isinstance(preset, VAE)
        return VAE((preset.beta if self.beta is None else self.beta) * variant.times)

    def score(self, run: OpenRun) -> Scores:
        """By the truth or the labels of 20,000 random faces."""
        return evaluate_faces(run, truth=self.truth)

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """One per run, partition, factor, probe and kind of codes; scores of the whole run stand in each of its rows."""
        return [row for run in runs for row in self._rows(run)]

    def _rows(self, run: Finished) -> list[Row]:
        values = run.scores.values
        key: Row = {"data": self.data, "method": run.name, "seed": run.config.seed, "steps": run.config.steps}
        whole: Row = {
            f"swap_{judge}_{what}": share
            for judge, shares in (values["swap"] or {}).items()
            if judge != "pairs"
            for what, share in shares.items()
        }
        whole |= {f"{name}_{regressor}": found[name] for regressor, found in values["dci"].items() for name in DCI}
        return [key | cell | whole | values["reconstruction"] for cell in r2_cells(values)]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """What each partition tells, by method."""
        return {".md": markdown(results[results["data"] == self.data], self._preamble()).encode()}

    def headline(self, results: pd.DataFrame) -> Table:
        """Yaw, from every partition."""
        mine = (results["regressor"] == "ridge") & (results["codes"] == "sample") & (results["factor"] == "pose_Ry")
        means = results[mine].pivot_table("r2", "method", "partition", sort=False)
        return Table("R2 of yaw by partition (ridge, posterior samples), mean over seeds", means.to_dict())

    def _preamble(self) -> str:
        """What was run, and how it was judged."""
        store = self.opened()
        beta, charged = (self._objective(VARIANTS[name], store).beta for name in ("gated", "ungated_beta"))
        judge = "the truth behind the simulation" if self.truth else "OpenFace's labels, noise included"
        pairs = "; ".join(f"{name}: {pairs_made(record)}" for name, record in store.partitions.items())
        height, width = store.manifest["image_shape"]
        hidden = f", hidden {self.hidden}" if self.hidden else ""
        weights = f", times {self.kl_weights} where there is a gate" if self.kl_weights else ""
        split_by = read_labels(store, FACES, truth=self.truth).split_by
        return (
            f"# Faces ({self.data}), {self.steps:,} steps\n\n"
            f"{len(store):,} images of {width}x{height}. Pairs: {pairs}. Every run: the faces' preset ({PRESET.network} network"
            f"{hidden}), batch {self.batch_size}, Adam, learning rate {self.lr:g} {self.schedule}, {self.precision}, KL weight"
            f" {beta:g}{weights} (ungated_beta: {charged:g}). Ungated networks have the same"
            " partitions, which mean nothing to them.\n\n"
            f"Judged by {judge}; split {split_by}. The networks were trained on all images, without labels. R2 below 0 counts"
            " as 0 in means. `own` is from a factor's own partition, `other` from the best other one, `full` from the full"
            " latent, `score` own - other. Intervals are 95% of the mean over seeds (Student's t).\n"
        )
