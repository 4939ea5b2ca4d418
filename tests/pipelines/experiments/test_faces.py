"""Methods on one store of faces: what they differ in, what becomes of scores, and a tiny one from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate
from gated_vae.models.methods.vae import Ungated
from gated_vae.pipelines.evaluation.opened import open_run
from gated_vae.pipelines.evaluation.probes import evaluate_faces
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.pipelines.experiments.faces import Faces
from gated_vae.pipelines.experiments.runner import Finished, reproduce
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.pipelines.evaluation.test_probes_of_faces import label_store, train_tiny
from tests.stores import make_store


def test_exchanging_and_ungated_runs_share_all_but_the_method(store: Store) -> None:
    plan = Faces(out=Path("out"), store=store.path, steps=5, beta=0.5)
    made = {name: plan.config(name, 2) for name in ("ungated", "ungated_beta", "gated", "exchange")}
    assert {name: config.model.objective.beta for name, config in made.items()} == {
        "ungated": 0.5,
        "ungated_beta": 2.0,
        "gated": 0.5,
        "exchange": 0.5,
    }
    assert [type(config.model.method) for config in made.values()] == [Ungated, Ungated, Gate, Exchange]
    assert made["exchange"].model.method == Exchange()
    assert len({(config.seed, config.steps, config.model.network, config.lr) for config in made.values()}) == 1


def test_tables_hold_the_mean_over_seeds(store: Store, tmp_path: Path) -> None:
    run = open_run(train_tiny(label_store(store), tmp_path / "run", {"pose": 2, "expression": 2}))
    scores = evaluate_faces(run).values
    plan = Faces(out=tmp_path, store=store.path, steps=9)
    runs = []
    for seed, value in enumerate((0.5, 0.7)):
        changed = json.loads(json.dumps(scores))
        changed["r2"]["ridge"]["sample"]["pose"]["pose_Ry"] = value
        runs.append(Finished("gated", plan.run("gated", seed), Scores(changed)))
    rows = plan.rows(runs)
    text = plan.report(pd.DataFrame(rows))[".md"].decode()
    assert "| pose_Ry | 0.600 ± 1.271 |" in text
    mine = next(row for row in rows if row["seed"] == 1 and row["factor"] == "pose_Ry")
    assert dict(list(mine.items())[:11]) == {
        "data": "celeba",
        "method": "gated",
        "seed": 1,
        "steps": 9,
        "augment": "none",
        "people": "trained on",
        "partition": "pose",
        "factor": "pose_Ry",
        "regressor": "ridge",
        "codes": "sample",
        "r2": 0.7,
    }
    swap = scores["swap"]["by_labels"]["both"]
    assert mine["swap_by_labels_both"] == swap
    assert f"{swap:.3f} ± 0.000" in text


@pytest.mark.slow
def test_reproducing_goes_on_and_refuses_another_plan(tmp_path: Path) -> None:
    store = label_store(make_store(tmp_path / "store", 120, size=16))
    plan = Faces(out=tmp_path / "out", store=store.path, steps=2, batch_size=16, seeds=1)
    first = reproduce(plan, ["gated"], workers=1)
    done: list[tuple[int, int, str]] = []

    def note(at: int, total: int, note: str = "") -> None:
        done.append((at, total, note))

    both = reproduce(plan, ["gated", "exchange"], workers=1, progress=note)
    assert done == [(1, 2, ""), (2, 2, "exchange-0")]
    assert both["method"].unique().tolist() == ["gated", "exchange"]
    pd.testing.assert_frame_equal(both[: len(first)], first)
    with pytest.raises(GatedVAEError, match="holds another run"):
        reproduce(replace(plan, steps=3), ["gated"], workers=1)
    truth = tmp_path / "truth.parquet"
    store.samples.to_parquet(truth)
    with pytest.raises(GatedVAEError, match="judged otherwise"):
        reproduce(replace(plan, truth=truth), ["gated"], workers=1)
