"""Many runs: what counts as finished, and what is refused before anything is trained."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.scores import Scores, Table
from gated_vae.pipelines.experiments import runner as of_runs
from gated_vae.pipelines.experiments.runner import (
    Experiment,
    Finished,
    Row,
    do_runs,
    finished_runs,
    is_finished,
    reproduce,
)
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.folder import create_run
from gated_vae.pipelines.training.journal import DivergedError
from gated_vae.pipelines.training.run import Run, open_run
from gated_vae.pipelines.training.train import TrainReport, train
from gated_vae.preprocessing.compute import threads
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, manifest_path

MODEL = GatedVAEConfig({"pose": 2, "expression": 3}, image_shape=(16, 16), network="fc", hidden=(8, 8))


def config(store: Store, steps: int = 2) -> TrainConfig:
    return TrainConfig(str(store.path), MODEL, steps=steps, batch_size=16)


@dataclass(frozen=True, kw_only=True)
class Two(Experiment):
    """Two runs of one model; nothing of it may be judged."""

    steps: int = 2
    batch_size: int = 16

    names = ("gated", "ungated")

    def setup(self, _name: str) -> tuple[Path, GatedVAEConfig]:
        assert self.store is not None
        return self.store, MODEL

    def prepare(self, *_: object) -> None: ...

    def score(self, run: OpenRun) -> Scores:
        raise AssertionError(f"{run.files.path} was evaluated")

    def rows(self, _runs: Sequence[Finished]) -> list[Row]:
        return []

    def report(self, _results: pd.DataFrame) -> dict[str, bytes]:
        return {}

    def headline(self, _results: pd.DataFrame) -> Table:
        return Table("", {})


def scores(split_by: str) -> dict[str, object]:
    """What may be in metrics.json, of nothing."""
    empty: dict[str, object] = {name: {} for name in ("dci", "left_out", "r2", "summary", "reconstruction")}
    lists: dict[str, object] = {"constant": [], "kl": []}
    faces = {"images": 0, "held_out": 0, "judged_by": None, "split_by": split_by, "people": "unseen", "swap": None}
    faces |= {"accuracy": {}, "circular": {}}
    return {**empty, **lists, **faces}


def two(store: Store, out: Path, steps: int = 2) -> Two:
    return Two(out=out, store=store.path, steps=steps, lr=1e-4, schedule="constant")


def do_all(experiment: Two, *names: str) -> None:
    do_runs(experiment, [experiment.run(name, 0) for name in names], workers=1)


def test_results_to_put_beside_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("mine")
    os.mkfifo(tmp_path / "pipe.parquet")
    for name in ("text.parquet", "pipe.parquet", "nothing.parquet"):
        with pytest.raises(GatedVAEError, match=f"{name} (cannot be read|does not exist)"):
            reproduce(None, [], beside=[tmp_path / name])  # type: ignore[arg-type]  # before anything is done


def test_a_run_is_finished_when_it_was_trained_to_the_end_and_evaluated(tmp_path: Path, store: Store) -> None:
    assert not is_finished(tmp_path / "gated-0")
    begun = create_run(tmp_path / "gated-0", config(store), store)
    begun.add_metrics("evaluate", scores("a checkpoint on the way"))
    assert not is_finished(begun.path)
    train(config(store), TrainOptions(begun.path))
    assert not is_finished(begun.path)  # what was measured on the way does not count
    open_run(begun.path).add_metrics("evaluate", scores("the last step"))
    assert is_finished(begun.path)
    found = list(finished_runs(two(store, tmp_path)))
    assert [(run.name, run.config.seed, run.scores.values["split_by"]) for run in found] == [
        ("gated", 0, "the last step")
    ]
    assert not list(finished_runs(two(store, tmp_path, steps=3)))


def test_a_finished_run_of_other_options_is_refused_before_any_is_trained(tmp_path: Path, store: Store) -> None:
    train(config(store), TrainOptions(tmp_path / "gated-0"))
    open_run(tmp_path / "gated-0").add_metrics("evaluate", {})
    with pytest.raises(GatedVAEError, match=r"gated-0 holds another run.\nIt differs in: steps \(2 there, 3 here\)."):
        do_all(two(store, tmp_path, 3), "ungated", "gated")
    assert not (tmp_path / "ungated-0").exists()
    do_all(two(store, tmp_path), "gated")
    manifest = json.loads(manifest_path(store.path).read_text())
    manifest["partitions"]["pose"]["seed"] = 1
    manifest_path(store.path).write_text(json.dumps(manifest))
    with pytest.raises(
        GatedVAEError, match=r"gated-0 holds another run.\nIt differs in: the store's pairs were made anew."
    ):
        do_all(two(store, tmp_path), "gated")


@dataclass(frozen=True, kw_only=True)
class Scored(Two):
    """Two runs that are judged the same, with a row each."""

    key = ("run", "seed")
    order = {"run": None, "seed": None}  # noqa: RUF012

    def score(self, _run: OpenRun) -> Scores:
        return Scores(scores("the last step"))

    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        return [{"run": run.name, "seed": run.config.seed} for run in runs]

    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        return {".md": " ".join(results["run"]).encode()}


@pytest.mark.parametrize("stacked", [1, 2])
def test_where_a_run_diverges_the_others_are_scored_and_reported(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, stacked: int
) -> None:
    experiment = Scored(out=tmp_path / "out", store=store.path, seeds=1)
    bad = {experiment.out / "gated-0": "Not finite."}

    def alone(config: TrainConfig, options: TrainOptions) -> TrainReport | DivergedError:
        return DivergedError(bad) if options.out in bad else train(config, options)

    def as_stack(runs: Sequence[Run], *_: object) -> None:
        for run in runs:
            if run.path not in bad:
                train(run.config, TrainOptions(run.path))
        raise DivergedError(bad)

    with monkeypatch.context() as patch:
        patch.setattr(of_runs, "one_core_each", lambda *_: threads(1))
        patch.setattr(of_runs, "train_on_one_core", alone)
        patch.setattr(of_runs, "train_stacks", as_stack)
        with pytest.raises(DivergedError, match=r"The others are in \S*scored.md. Use a lower") as diverged:
            reproduce(experiment, experiment.names, stacked=stacked)
        assert diverged.value.where == bad
        bad = {tmp_path / "none" / "gated-0": "Not finite."}
        with pytest.raises(DivergedError) as diverged:
            reproduce(replace(experiment, out=tmp_path / "none"), ["gated"], stacked=stacked)
        assert "others" not in str(diverged.value)
        assert not [*tmp_path.glob("none/scored.*")]
    assert (experiment.out / "scored.md").read_text() == "ungated"
    assert pd.read_parquet(experiment.out / "scored.parquet").to_dict("list") == {"run": ["ungated"], "seed": [0]}
    assert [*reproduce(experiment, experiment.names, workers=1)["run"]] == ["gated", "ungated"]
