"""Many runs: what counts as finished, and what is refused before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.experiments.runner import Task, do_tasks, finished_in, is_finished
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import Run, create_run, open_run
from gated_vae.pipelines.training.trainer import TrainOptions, train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, manifest_path

MODEL = GatedVAEConfig({"pose": 2, "expression": 3}, image_shape=(16, 16), network="fc", hidden=(8, 8))


def config(store: Store, steps: int = 2) -> TrainConfig:
    return TrainConfig(str(store.path), MODEL, steps=steps, batch_size=16)


def never(run: Run) -> dict[str, Any]:
    raise AssertionError(f"{run.path} was evaluated")


def test_a_run_is_finished_when_it_was_trained_to_the_end_and_evaluated(tmp_path: Path, store: Store) -> None:
    assert not is_finished(tmp_path / "gated-0")
    begun = create_run(tmp_path / "gated-0", config(store), store)
    begun.add_metrics("evaluate", {"of": "a checkpoint on the way"})
    assert not is_finished(begun.path)
    train(config(store), TrainOptions(begun.path))
    assert not is_finished(begun.path)  # what was measured on the way does not count
    open_run(begun.path).add_metrics("evaluate", {"of": "the last step"})
    assert is_finished(begun.path)
    assert [(name, seed) for name, seed, _ in finished_in(tmp_path, ["gated"])] == [("gated", 0)]


def test_a_finished_run_of_other_options_is_refused_before_any_is_trained(tmp_path: Path, store: Store) -> None:
    train(config(store), TrainOptions(tmp_path / "gated-0"))
    open_run(tmp_path / "gated-0").add_metrics("evaluate", {})
    longer = [Task("ungated-0", config(store, 3), never), Task("gated-0", config(store, 3), never)]
    with pytest.raises(GatedVAEError, match=r"gated-0 holds another run.\nIt differs in: steps \(2 there, 3 here\)."):
        do_tasks(longer, tmp_path, workers=1)
    assert not (tmp_path / "ungated-0").exists()
    same = [replace(longer[1], config=config(store))]
    do_tasks(same, tmp_path, workers=1)
    manifest = json.loads(manifest_path(store.path).read_text())
    manifest["partitions"]["pose"]["seed"] = 1
    manifest_path(store.path).write_text(json.dumps(manifest))
    with pytest.raises(
        GatedVAEError, match=r"gated-0 holds another run.\nIt differs in: the store's pairs were made anew."
    ):
        do_tasks(same, tmp_path, workers=1)
