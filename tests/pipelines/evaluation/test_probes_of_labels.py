"""Scores by labels of the user's own: numbers, classes, angles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.cluster import ClusterOptions, cluster_store, parse_near
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.evaluation.labels import read_labels
from gated_vae.pipelines.evaluation.opened import Codes, open_run
from gated_vae.pipelines.evaluation.probes import evaluate, probe_others
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.store import Store, open_store, samples_path
from tests.pipelines.test_cli import pipe
from tests.stores import Given, random_images

COUNT = 400


def store_of(path: Path, **more: Any) -> Store:
    rng = np.random.default_rng(1)
    samples = {
        "image": [f"{number}.png" for number in range(COUNT)],
        "age": rng.normal(40, 10, COUNT),
        "brand": rng.choice(["acme", "bolt", "cog"], COUNT),
        "boxed": rng.random(COUNT) < 0.4,
        "heading": rng.uniform(0, 360, COUNT),
        "serial": [f"s{number}" for number in range(COUNT)],
        "wear": np.where(np.arange(COUNT) == 3, np.nan, rng.random(COUNT)),
        **more,
    }
    make_store(Given(random_images(COUNT), pa.table(samples), "images"), path)
    labels, _ = parse_near(["look=age", "turn=heading@360"])
    cluster_store(path, ClusterOptions({"look": 20, "turn": 12}, labels, draws=1))
    pair_exactly(open_store(path), {"brand": ["brand"]})
    return open_store(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    split = ["train"] * 200 + ["valid"] * 100 + ["test"] * 100
    return store_of(tmp_path_factory.mktemp("labels") / "store", split=split)


def test_lists_are_no_labels_and_an_angle_is_a_number(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", tags=[[number] for number in range(COUNT)])
    assert read_labels(store, COUNT).classes.keys() == {"brand", "boxed"}
    table = pq.read_table(samples_path(store.path))
    words = table.set_column(table.column_names.index("heading"), "heading", [["north"] * COUNT])
    pq.write_table(words, samples_path(store.path))
    with pytest.raises(GatedVAEError, match="Its heading holds no numbers"):
        read_labels(store, COUNT)


def test_what_no_label_can_be_and_what_says_whence_a_picture_is_are_named_and_others_judge(tmp_path: Path) -> None:
    stamps = [2**60 + number for number in range(COUNT)]
    store = store_of(
        tmp_path / "store", stamp=stamps, frame=list(range(COUNT)), identity=[n // 4 for n in range(COUNT)]
    )
    labels = read_labels(store, COUNT)
    assert labels.factors == ("age",)
    assert labels.left_out.keys() == {"serial", "wear", "stamp", "frame", "identity"}
    assert "Its stamp is 1.15292e+18 in row 0" in labels.left_out["stamp"]


def test_images_are_too_few_to_judge_where_few_did_not_train(tmp_path: Path) -> None:
    split = ["train"] * (COUNT - 39) + ["valid"] * 20 + ["test"] * 19
    with pytest.raises(GatedVAEError, match="39 images that validate and test; 40 are the least"):
        read_labels(store_of(tmp_path / "store", split=split), COUNT)


def test_every_label_is_judged_by_what_it_is_and_what_cannot_be_is_named(store: Store, tmp_path: Path) -> None:
    model = GatedVAEConfig({"look": 2, "turn": 2, "brand": 2}, (16, 16), "fc", (8, 8))
    train(TrainConfig(str(store.path), model, steps=4, batch_size=32), TrainOptions(tmp_path / "run"))
    values = evaluate(open_run(tmp_path / "run")).values
    parts = {"look", "turn", "brand", "full"}
    assert values["people"] == "unseen"
    assert {name: [*found] for name, found in values["r2"]["ridge"]["mean"].items()} == {
        name: ["age"] for name in parts
    }
    assert values["accuracy"].keys() == parts | {"chance"}
    assert values["accuracy"]["chance"] == {"brand": 1 / 3, "boxed": 1 / 2}
    assert values["circular"].keys() == parts
    assert all(found.keys() == {"heading"} for found in values["circular"].values())
    assert values["summary"]["ridge"]["mean"].keys() == {"look"}
    assert values["left_out"].keys() == {"serial", "wear"}
    assert "1 of 400" in values["left_out"]["wear"]
    assert pipe("evaluate", tmp_path / "run") == 0
    assert pipe("report", tmp_path / "run") == 0
    assert "<th>wear</th><td>none: 1 of 400 images" in (tmp_path / "run" / "report.html").read_text()


def test_codes_that_hold_a_label_are_found_to(store: Store) -> None:
    labels = read_labels(store, COUNT)
    assert (labels.factors, [*labels.classes], [*labels.angles]) == (("age",), ["brand", "boxed"], ["heading"])
    rows = store.samples.iloc[labels.ids]
    assert np.array_equal(labels.values[:, 0], rows["age"])
    angle = np.deg2rad(rows["heading"].to_numpy())
    np.testing.assert_allclose(labels.angles["heading"], angle)
    brand = rows["brand"].map({"acme": (0, 0), "bolt": (1, 0), "cog": (0, 1)})
    mean = np.column_stack([rows["age"], np.cos(angle), np.sin(angle), np.stack(brand)]).astype(np.float32)
    parts = {"look": slice(0, 1), "turn": slice(1, 3), "brand": slice(3, 5)}
    found = probe_others(Codes(mean, np.ones_like(mean)), labels, parts, seed=0)
    assert found["accuracy"]["brand"]["brand"] == 1
    assert found["accuracy"]["turn"]["brand"] < 0.6
    assert found["circular"]["turn"]["heading"] < 0.2
    assert found["circular"]["look"]["heading"] > 0.8


def test_labels_of_faces_are_judged_as_before(tmp_path: Path) -> None:
    """Further columns of a store of faces count only where pairs share them."""
    rng = np.random.default_rng(0)
    columns = {"pose_Ry": rng.normal(size=COUNT), "AU12_r": rng.random(COUNT), "smiling": rng.integers(0, 2, COUNT)}
    samples = pa.table({"image": [f"{number}.png" for number in range(COUNT)], **columns, "confidence": np.ones(COUNT)})
    store, _ = make_store(Given(random_images(COUNT), samples), tmp_path / "store")
    assert read_labels(store, COUNT).factors == ("pose_Ry", "AU12_r")
    pair_exactly(store, {"smile": ["smiling"]})
    labels = read_labels(open_store(store.path), COUNT)
    assert (labels.factors, [*labels.classes]) == (("pose_Ry", "AU12_r"), ["smiling"])
