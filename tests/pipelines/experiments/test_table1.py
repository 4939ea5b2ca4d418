"""The paper's tables beside ours: intervals by hand, the paper's figures unchanged, runs in the right order."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gated_vae.models.methods.base import Method
from gated_vae.models.methods.composed import Composed
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate
from gated_vae.models.methods.partners import Partners
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.objectives import DIPVAE2, BetaVAE, InfoVAE
from gated_vae.pipelines.experiments.rivals import Rivals
from gated_vae.pipelines.experiments.runner import Experiment, make_experiment
from gated_vae.pipelines.experiments.table1 import Table1, paper
from gated_vae.pipelines.experiments.tables import interval
from gated_vae.pipelines.experiments.tables import merge as merge_tables
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.progress import ignore
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.dsprites import DSprites
from gated_vae.preprocessing.store import Store

TABLE1 = Table1(out=Path("out"))


def markdown(results: pd.DataFrame) -> str:
    return TABLE1.report(results)[".md"].decode()


def merge(results: list[pd.DataFrame]) -> pd.DataFrame:
    return merge_tables(results, Table1.key, Table1.order)


def results() -> pd.DataFrame:
    """Two seeds of one gated model, all scores 0.5 and 0.7."""
    rows = []
    for seed, value in enumerate((0.5, 0.7)):
        row: dict[str, object] = {"regressor": "random_forest", "model": "beta", "method": "gated", "seed": seed}
        row |= {"steps": 5000, "lr": 1e-3, "schedule": "cosine", "hidden": "256,256"}
        names = ["disentanglement", "completeness", "uninformativeness", "mig", "sap", "modularity"]
        names += [
            f"{score}_{factor}"
            for score in ("uninformativeness", "completeness")
            for factor in ("shape", "scale", "orientation", "posX", "posY")
        ]
        names += [f"disentanglement_z{i}" for i in range(8)] + ["rotation_circular_mean", "partition_score_shape"]
        rows.append(row | dict.fromkeys(names, value))
    return pd.DataFrame(rows)


def test_interval_is_student_s_by_hand() -> None:
    """Mean 0.6, sd 0.1414, one degree of freedom: 12.706 * 0.1414 / sqrt(2) = 1.2706."""
    assert interval(pd.Series([0.5, 0.7])) == "0.600 ± 1.271"
    assert interval(pd.Series([0.25])) == "0.250"


def test_the_paper_stands_beside_ours() -> None:
    text = markdown(results())
    assert (
        "| random_forest | beta-VAE | gated | paper | 0.631 (sd 0.113) | 0.667 (sd 0.093) | 0.258 (sd 0.046) |" in text
    )
    assert (
        "| random_forest | beta-VAE | gated | ours, 5,000 steps, n=2 | 0.600 ± 1.271 | 0.600 ± 1.271 | 0.600 ± 1.271 |"
        in text
    )
    for title in ("Table 1", "Table 2", "Table 3", "Table 4"):
        assert title in text


def test_schedules_are_told_apart_and_earlier_results_replaced() -> None:
    longer = results().assign(steps=40_000, disentanglement=0.9)
    text = markdown(merge([results(), longer]))
    assert "| gated | ours, 5,000 steps, n=2 | 0.600 ± 1.271 |" in text
    assert "| gated | ours, 40,000 steps, n=2 | 0.900 ± 0.000 |" in text
    assert text.count("| gated | paper |") == 4
    wider = results().assign(hidden="512,512", disentanglement=0.7)
    text = markdown(merge([results(), wider]))
    assert "| gated | ours, 5,000 steps, n=2 | 0.600 ± 1.271 |" in text
    assert "| gated | ours, 5,000 steps, hidden 512,512, n=2 | 0.700 ± 0.000 |" in text
    slower = results().assign(lr=1e-4, schedule="constant", disentanglement=0.8)
    text = markdown(merge([results(), slower]))
    assert "| gated | ours, 5,000 steps, n=2 | 0.600 ± 1.271 |" in text
    assert "| gated | ours, 5,000 steps at 0.0001 constant, n=2 | 0.800 ± 0.000 |" in text
    again = results().assign(disentanglement=0.1)
    merged = merge([results(), longer, again])
    assert len(merged) == 4
    assert sorted(merged.disentanglement) == [0.1, 0.1, 0.9, 0.9]
    ungated = results().assign(method="ungated")
    assert merge([results(), ungated]).method.tolist() == ["ungated"] * 2 + ["gated"] * 2


def test_results_that_do_not_say_how_they_were_trained_are_refused() -> None:
    with pytest.raises(GatedVAEError, match="no column lr"):
        merge([results(), results().drop(columns="lr")])


def test_the_paper_s_figures_are_those_of_the_source(real_data: Path) -> None:
    folder = real_data.parent / "paper"
    if not folder.is_dir():
        pytest.skip("the paper's tables do not lie beside the real inputs")
    names = ["table1", "table2_uninformativeness", "table3_completeness", "table4_disentanglement"]
    source = pd.concat([pd.read_csv(folder / f"{name}.csv") for name in names], ignore_index=True)
    pd.testing.assert_frame_equal(paper().drop(columns="table"), source)


def test_runs_are_chosen_by_name_and_unknown_ones_are_refused() -> None:
    assert TABLE1.chosen("") == [
        f"{model}-{method}" for model in ("beta", "info", "dip2") for method in ("ungated", "gated")
    ]
    assert TABLE1.chosen("beta-*ed,info-gated") == ["beta-ungated", "beta-gated", "beta-composed", "info-gated"]
    for unknown in ("vq-gated", "beta-half", "beta-gated,x*"):
        with pytest.raises(UsageError, match="to reproduce"):
            TABLE1.chosen(unknown)


def test_settings_replace_defaults_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    given = {"out": tmp_path, "steps": 7, "seeds": None}
    made = make_experiment("table1", given, ["lr=1e-4", "schedule=constant", "hidden=8,8"])
    config = made.config("dip2-gated", 3)
    assert (config.steps, config.lr, config.schedule, config.model.hidden) == (7, 1e-4, "constant", (8, 8))
    assert (made.seeds, config.batch_size) == (10, 128)
    for entry in ("rate=1", "out=x", "lr=fast", "steps=1.5"):
        with pytest.raises(UsageError):
            make_experiment("table1", given, [entry])


def test_the_constants_are_the_paper_s() -> None:
    config = TABLE1.config("beta-gated", 3)
    assert config.model.latent == {"position": 2, "rotation": 2, "shape": 2, "size": 2}
    assert config.model.objective == BetaVAE(4.0)
    assert (config.batch_size, config.seed, config.model.method) == (128, 3, Gate(regulariser=True))
    assert TABLE1.config("info-ungated", 0).model.objective == InfoVAE(0.0, 500.0)
    assert TABLE1.config("info-ungated", 0).model.method == Ungated()
    assert TABLE1.config("dip2-gated", 0).model.objective == DIPVAE2(1.0, 250.0, 250.0)


@pytest.mark.parametrize(
    ("name", "method", "beta"),
    [
        ("exchange", Exchange(), 4.0),
        ("exchange_open", Exchange(open_every=4), 0.5),
        ("partners", Partners(self_reconstruction=0.5), 0.5),
        ("composed", Composed(self_reconstruction=1.0), 0.5),
        ("composed_apart", Composed(self_reconstruction=1.0), 0.5),
    ],
)
def test_our_own_methods_have_their_constants(name: str, method: Method, beta: float) -> None:
    model = TABLE1.config(f"beta-{name}", 0).model
    assert (model.method, model.objective) == (method, BetaVAE(beta))
    assert model.kl_weights == ({"shape": 0.5} if name == "composed_apart" else {})


def test_the_report_says_which_methods_have_another_beta() -> None:
    assert "Beta is the paper's, beta-VAE 4, DIP-VAE-II 1, but for exchange_open 0.5, partners 0.5, " in markdown(
        results()
    )


def test_dsprites_of_whatever_source_are_taken_as_they_are(tmp_path: Path, store: Store) -> None:
    """Such as those of the official file, whose plan is not that of drawn ones; here a smaller grid."""
    factors = {"shape": 3, "scale": 2, "orientation": 4, "posX": 4, "posY": 4}
    made = make_store(DSprites(factors=factors), tmp_path / "dsprites").store
    table1 = Table1(out=tmp_path, store=made.path)
    table1.prepare(["beta-gated"], None, ignore)
    assert [*table1.opened.partitions] == ["position", "rotation", "shape", "size", "x", "y", "turn"]
    assert table1.config("beta-gated", 0).store == str(made.path)
    with pytest.raises(UsageError, match="is no store of dSprites"):
        Table1(out=tmp_path, store=store.path).prepare(["beta-gated"], None, ignore)
    with pytest.raises(GatedVAEError, match="There is no store at"):  # 3 GB would be drawn at a name written wrong
        Table1(out=tmp_path, store=tmp_path / "dsprite").prepare(["beta-gated"], None, ignore)


@pytest.mark.parametrize("kind", [Table1, Rivals])
def test_the_store_that_lies_in_out_is_taken_as_it_is(tmp_path: Path, kind: type[Experiment]) -> None:
    factors = {"shape": 3, "scale": 2, "orientation": 4, "posX": 4, "posY": 4}
    made = make_store(DSprites(factors=factors), tmp_path / "store").store
    experiment = kind(out=tmp_path)
    experiment.prepare(experiment.chosen(""), None, ignore)
    assert experiment.opened.manifest["digests"] == made.manifest["digests"]
