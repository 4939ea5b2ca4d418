"""Evaluation against factors on a small grid whose images show the factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.cli import main
from gated_vae.pipelines.evaluation import probes
from gated_vae.pipelines.evaluation.opened import Codes, open_run
from gated_vae.pipelines.evaluation.probes import boosted_split, encode_sample, evaluate_factors, sharers
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import write_json, write_parquet
from gated_vae.preprocessing.store import SCHEMA_VERSION, Store, images_path, manifest_path, open_store, samples_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a grid of 8 x 8 places and 5 brightnesses of one bright square in a 16 x 16 image."""
    path = tmp_path_factory.mktemp("grid") / "store"
    path.mkdir()
    factors = {"light": 5, "posX": 8, "posY": 8}
    classes = np.stack(np.unravel_index(np.arange(320), tuple(factors.values())), 1)
    images = np.zeros((320, 16, 16), np.uint8)
    for image, (light, x, y) in zip(images, classes, strict=True):
        image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 55 + 50 * light
    np.save(images_path(path), images)
    columns = {"sample_id": np.arange(320)} | dict(zip(factors, classes.T, strict=True))
    write_parquet(samples_path(path), pa.table(columns), schema_version=SCHEMA_VERSION)
    manifest = {"schema_version": SCHEMA_VERSION, "kind": "dsprites", "source_digest": "sha256:1", "seen": 320}
    manifest |= {"image_shape": [16, 16], "taken": 320, "rejected": 0, "parameters": {}, "factors": factors}
    write_json(manifest_path(path), manifest)
    pair_exactly(open_store(path), {"place": ("posX", "posY"), "light": ("light",)})
    model = GatedVAEConfig(
        {"place": 4, "light": 1}, image_shape=(16, 16), network="fc", hidden=(64, 64), method=Exchange()
    )
    config = TrainConfig(store=str(path), model=model, steps=600, batch_size=64, lr=3e-3)
    train(config, TrainOptions(path.parent / "run"))
    return path.parent / "run"


@pytest.mark.parametrize("value", [-1, 5, 2**60, "x"])
def test_classes_that_no_factor_has_are_refused(value: Any, run: Path) -> None:
    opened = open_run(run)
    path = samples_path(opened.store.path)
    whole = path.read_bytes()
    try:
        pq.write_table(pq.read_table(path).set_column(1, "light", pa.array([type(value)(0)] * 319 + [value])), path)
        with pytest.raises(
            GatedVAEError, match=r"samples\.parquet cannot be used\.\nIts light is not one of 5 classes"
        ):
            encode_sample(opened, 100, 0)
    finally:
        path.write_bytes(whole)


def test_scores_tell_which_partition_knows_which_factor(run: Path) -> None:
    scores = evaluate_factors(open_run(run), regressors=("random_forest", "lasso")).values
    assert scores["samples"] == 320
    assert scores["rotation_circular"] is None
    assert scores["partition_r2"]["place"]["posX"] > 0.4 > scores["partition_r2"]["light"]["posX"] + 0.3
    assert scores["partition_score"]["posX"] > 0.3
    assert set(scores["dci"]) == {"lasso", "random_forest"}
    assert np.shape(scores["dci"]["lasso"]["importance"]) == (5, 3)


def test_a_factor_of_one_class_is_named_and_shape_is_judged_as_a_class(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes are the factors but for the names of the shapes, whose order says nothing; of shapes, any code guesses a third."""
    opened = open_run(run)
    shape, place = np.repeat(np.arange(3), 80), np.tile(np.arange(8), 30)
    codes = np.column_stack([np.array([1, 2, 0])[shape], place] + [np.zeros(240)] * 3).astype(np.float32)
    factors = np.column_stack([shape, place, np.zeros(240, np.int64)])
    monkeypatch.setattr(probes, "encode_sample", lambda *_: (Codes(codes, np.ones_like(codes)), factors))
    monkeypatch.setitem(opened.store.manifest, "factors", {"shape": 3, "place": 8, "colour": 1})
    scores = evaluate_factors(opened, regressors=("lasso",))
    assert scores.values["sap"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores.facts()["left out"].startswith("colour: ")
    assert "FactorVAE's score" in scores.facts()  # 30 images share a place, 64 are drawn together
    assert {name: row for name, row in other_scores(scores).items() if name in ("beta-VAE's score", "IRS")} == {
        "beta-VAE's score": 1.0,  # a code to a factor
        "IRS": 1.0,
    }


def other_scores(scores: Scores) -> dict[str, float]:
    (table,) = (table for table in scores.tables() if table.title == "Other scores")
    return dict(table.columns[""])


def test_gradient_boosting_is_told_first_and_by_the_published_protocol_where_images_are_enough() -> None:
    for n, expected in ((15_000, (10_000, 5_000)), (14_999, (2_500, 1_250)), (320, (213, 107)), (40, (26, 14))):
        split = boosted_split(n, seed=3)
        assert (len(split.train), len(split.test)) == expected
        assert len({*split.train.tolist(), *split.test.tolist()}) == sum(expected)
        assert max(split.train.max(), split.test.max()) < n


def test_the_sample_is_random_and_paired_with_its_own_factors(run: Path) -> None:
    opened = open_run(run)
    codes, factors = encode_sample(opened, 100, seed=0)
    assert codes.mean.shape == (100, 5)
    ids = np.ravel_multi_index(tuple(factors.T), (5, 8, 8))
    assert len(set(ids.tolist())) == 100
    again, _ = encode_sample(opened, 100, seed=0)
    np.testing.assert_array_equal(codes.mean, again.mean)


def test_the_command_writes_metrics_and_pictures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(run), "--samples", "100"])
    assert stopped.value.code in (0, None)
    assert {"train", "evaluate"} <= set(open_run(run).files.read_metrics())
    for name in ("hinton_lasso", "hinton_random_forest", "reconstructions", "samples"):
        assert (run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    told = " ".join(capsys.readouterr().out.split())
    assert "R2 of each factor by partition" in told
    assert "gradient boosting fits 66 and is judged on 34 of them, as classes: its error is 1 - accuracy" in told
    assert "mind fewer than 100 images judge: scores are rough" in told  # 25 do
    assert "--samples" not in told  # the store has no more
    assert told.count("gradient boosting random forest lasso") == 2
    dci = Scores.of(open_run(run).files).values["dci"]  # type: ignore[union-attr]
    assert [*dci] == ["gradient_boosting", "random_forest", "lasso"]
    assert all(0 < error < 0.9 for error in dci["gradient_boosting"]["uninformativeness_per_factor"].values())


def test_kl_of_known_posteriors() -> None:
    """N(1, 1): 1/2. N(0, e^-1): (e^-2 - 1 + 2) / 2."""
    codes = Codes(np.array([[1.0, 0.0]], np.float32), np.array([[1.0, np.exp(-1)]], np.float32))
    np.testing.assert_allclose(codes.kl(), [0.5, (np.exp(-2) + 1) / 2], rtol=1e-6)


def test_a_factor_belongs_to_the_first_partition_that_shares_it(store: Store) -> None:
    made = {"a": {"shared": ["x", "y"]}, "b": {"shared": ["y", "z"]}}
    store = store.with_partitions(made)
    assert sharers(store, ("z", "y", "x", "w"), made) == {"z": ["b"], "y": ["a", "b"], "x": ["a"], "w": []}
    assert sharers(store, ("z", "y", "x", "w"), ["b"]) == {"z": ["b"], "y": ["b"], "x": [], "w": []}
