"""Rivals: equal numbers of encoded images, the weight chosen without labels by hand, worlds as the store has them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gated_vae.models.methods.averaged import AdaGVAE
from gated_vae.models.objectives import TCVAE, BetaVAE, FactorVAE
from gated_vae.models.objectives.base import Objective
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.probes import evaluate_factors
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.pipelines.experiments.rivals import (
    FACES,
    LOSS,
    VARIANTS,
    Rivals,
    chosen_beta,
    unweighted_loss,
    weight_of,
)
from gated_vae.pipelines.experiments.runner import do_run, finished_runs
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import ignore
from gated_vae.preprocessing.sources.base import make_store as make_source_store
from tests.stores import Given, make_store, random_images


class Quick(Rivals):
    """Judged by one regressor and few images."""

    def score(self, run: OpenRun) -> Scores:
        return evaluate_factors(run, samples=200, regressors=("lasso",))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factor of one value is nothing to share."""
    path = tmp_path_factory.mktemp("rivals") / "store"
    factors = {"a": 6, "b": 7, "c": 8, "one": 1}
    classes = dict(zip(factors, np.indices((*factors.values(),)).reshape(4, -1), strict=True))
    make_source_store(Given(random_images(336), pa.table(classes), factors=factors), path)
    Rivals(out=path.parent, store=path).prepare(["shared-gate-beta1", "changed-vae-tc4"], None, ignore)
    return path


def test_every_run_encodes_as_many_images(tmp_path: Path, grid: Path) -> None:
    """Three partitions: a method that encodes a partner of each takes a third of the steps."""
    rivals = Rivals(out=tmp_path, store=grid, steps=1200)
    steps = {method: rivals.config(f"shared-{method}-beta1", 0).steps for method in VARIANTS if method != "ada_gvae_k"}
    one, two = ("vae", "gate", "prior_gate", "composed"), ("gvae", "ml_vae", "ada_gvae", "ada_ml_vae", "slow_vae")
    assert steps == dict.fromkeys(one, 1200) | dict.fromkeys(two, 600) | {"exchange": 686, "partners": 400}
    for method, count in steps.items():
        encoded = rivals.config(f"shared-{method}-beta1", 0).model.method.encoded(3) * count
        assert encoded == pytest.approx(1200, rel=1e-3)


def test_a_grid_has_two_worlds(tmp_path: Path, grid: Path) -> None:
    rivals = Rivals(out=tmp_path, store=grid)
    assert rivals.opened.shared("a") == ("a",)
    assert list(rivals.opened.partitions) == ["a", "b", "c", "changed"]
    shared, changed = (rivals.config(name, 3).model for name in ("shared-gvae-beta8", "changed-ada_gvae_k-beta2"))
    assert (shared.latent, shared.objective) == ({"a": 2, "b": 2, "c": 2}, BetaVAE(8))
    assert (changed.latent, changed.objective, changed.method) == ({"changed": 10}, BetaVAE(2), AdaGVAE(k=1))
    assert changed.method.told == "count"
    assert rivals.chosen("*-gate-beta1") == ["shared-gate-beta1"]
    with pytest.raises(UsageError, match="no pairs for apart-gate-beta1"):
        rivals.chosen("apart-gate-beta1")


def test_other_methods_and_worlds_are_not_for_faces(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", size=32)
    rivals = Rivals(out=tmp_path, store=store.path)
    rivals.prepare(["shared-gvae-beta1"], None, ignore)
    for name in ("changed-vae-beta1", "shared-composed-beta1"):
        with pytest.raises(UsageError, match="no pairs for"):
            rivals.chosen(name)
    assert "shared-ml_vae-beta1" in rivals.chosen("")
    assert len(rivals.chosen("")) == len(FACES)
    model = rivals.config("shared-gvae-beta4", 0).model
    assert model.objective == BetaVAE(4 * 0.25 / 4)  # a quarter of the pixels, a quarter of the preset's weight
    assert model.latent == {"pose": 4, "expression": 6}


def test_unknown_names_are_told_a_few(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Rivals(out=tmp_path).chosen("shared-nope-*")
    assert "..." in refused.value.remedy
    assert len(refused.value.remedy) < 1000
    assert Rivals(out=tmp_path).chosen("*-gvae-beta4") == ["shared-gvae-beta4", "apart-gvae-beta4"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [(BetaVAE(2), ("beta", 2.0)), (TCVAE(4), ("tc", 4.0)), (FactorVAE(gamma=30), ("factor", 30.0))],
)
def test_what_is_varied(objective: Objective, expected: tuple[str, float]) -> None:
    assert weight_of(objective) == expected


def test_the_loss_that_weights_are_compared_by() -> None:
    """Two partitions: (90 + 8 / 4) and (50 + 4 / 4), mean 71.5; in units of 0.5, 70."""
    losses = {"a": {"reconstruction": 90.0, "kl": 8.0}, "b": {"reconstruction": 50.0, "kl": 4.0}}
    assert unweighted_loss(losses, 4.0) == 71.5
    assert unweighted_loss(losses, 4.0, unit=0.5) == 70.75


def results() -> pd.DataFrame:
    """Weight 2 has the lower loss in the mean, weight 1 the better score."""
    rows = []
    for beta, losses, scores in ((1.0, (9.0, 20.0), (0.8, 0.9)), (2.0, (10.0, 10.0), (0.2, 0.4))):
        for seed, (loss, score) in enumerate(zip(losses, scores, strict=True)):
            row = {"data": "dsprites", "world": "shared", "method": "gvae", "told": "shared", "objective": "beta"}
            row |= {"beta": beta, "seed": seed, "steps": 5, "images_encoded": 1280}
            rows += [row | {"metric": LOSS, "value": loss}, row | {"metric": "mig", "value": score}]
    return pd.DataFrame(rows)


def test_the_weight_is_chosen_without_labels_and_the_median_stands_beside() -> None:
    """Scores at weight 2: mean 0.3, sd 0.1414, 12.706 * 0.1414 / sqrt(2) = 1.2706; the median of all four is 0.6."""
    found = results()
    assert chosen_beta(found) == 2.0
    text = Rivals(out=Path("out")).report(found)[".md"].decode()
    assert "| gvae | beta | shared | 1,280 | 2 | 2 | 0.300 ± 1.271 |" in text
    assert "| gvae | beta | shared | 1,280 | median of 2 | 2 | 0.600 |" in text
    assert Rivals(out=Path("out")).headline(found).columns == {"shared: MIG": {"gvae beta": pytest.approx(0.3)}}


def test_a_run_is_trained_and_scored_row_by_row(tmp_path: Path, grid: Path) -> None:
    quick, start = Quick(out=tmp_path, store=grid, steps=4, batch_size=8, hidden="4,8,16"), time.monotonic()
    do_run(quick, quick.run("shared-gvae-beta2", 1), "cpu")
    (finished,) = finished_runs(quick)
    rows = pd.DataFrame(quick.rows([finished]))
    assert {*Rivals.key} <= {*rows.columns}
    first = rows.iloc[0]
    assert (first["told"], first["objective"], first["beta"], first["seed"]) == ("shared", "beta", 2.0, 1)
    assert (first["steps"], first["images_encoded"]) == (2, 2 * 8 * 2)
    values = rows.set_index("metric")["value"]
    assert values["lasso_disentanglement"] == finished.scores.values["dci"]["lasso"]["disentanglement"]
    assert values[LOSS] == pytest.approx(
        sum(terms["reconstruction"] + terms["kl"] / 2 for terms in finished.losses.values()) / len(finished.losses)
    )
    assert 0 <= finished.seconds <= time.monotonic() - start
