"""Evaluation of faces on codes whose answer is known: labels, noise, a linear model that swaps perfectly or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gated_vae.models.metrics import random_split
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.labels import LABELS, Label
from gated_vae.pairing.tables import PairTable
from gated_vae.pipelines.cli import main
from gated_vae.pipelines.evaluation.labels import FaceLabels, no_labels, owner_of, read_labels
from gated_vae.pipelines.evaluation.opened import Codes, OpenRun, open_run
from gated_vae.pipelines.evaluation.pictures import draw_pairs
from gated_vae.pipelines.evaluation.probes import evaluate_faces, probe_faces
from gated_vae.pipelines.evaluation.scores import Columns, r2_cells
from gated_vae.pipelines.evaluation.swap import swap_test
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import write_parquet
from gated_vae.preprocessing.store import SCHEMA_VERSION, Store, open_store, samples_path
from tests.stores import Given, make_store, make_store_of

FACTORS = ("pose_Rx", "pose_Ry", "AU06_r", "AU12_r")
PARTS = {"pose": slice(0, 2), "expression": slice(2, 4)}


def label_store(store: Store, **columns: Any) -> Store:
    """Give a store label columns: pitch, yaw and two action units at random, AU45 never, ten images a person."""
    rng = np.random.default_rng(5)
    count = len(store)
    table: dict[str, Any] = {"sample_id": np.arange(count), "image": [f"{i:06d}.jpg" for i in range(count)]}
    table |= {name: rng.normal(0.0, 0.2, count) for name in FACTORS} | {"AU45_r": np.zeros(count)}
    table |= {"identity": np.arange(count) // 10} | columns
    kept = {name: values for name, values in table.items() if values is not None}
    write_parquet(samples_path(store.path), pa.table(kept), schema_version=SCHEMA_VERSION)
    return open_store(store.path)


def made_labels(count: int = 400) -> FaceLabels:
    values = np.random.default_rng(0).normal(size=(count, 4))
    judges = np.arange(count), random_split(count), "at random", "trained on"
    return FaceLabels(*judges, FACTORS, values, (), "labels")


def table_of(r2: Columns) -> np.ndarray:
    return np.array([list(found.values()) for found in r2.values()])


def train_tiny(store: Store, out: Path, latent: dict[str, int]) -> Path:
    model = GatedVAEConfig(latent, image_shape=(16, 16), network="fc", hidden=(8, 8))
    train(TrainConfig(store=str(store.path), model=model, steps=4, batch_size=32), TrainOptions(out))
    return out


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    return train_tiny(label_store(store), tmp_path / "run", {"pose": 2, "expression": 2})


def pipe(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_codes_that_are_the_labels_are_told_from_noise_around_them() -> None:
    """Means equal the labels, the posterior adds noise of their own size: R2 1 from means, 1/2 from samples, 0 elsewhere."""
    labels = made_labels(2000)
    codes = Codes(labels.values.astype(np.float32), np.ones((2000, 4), np.float32))
    tables = probe_faces(codes, labels, PARTS)
    own = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_allclose(table_of(tables["ridge"]["mean"]), own, atol=0.03)
    np.testing.assert_allclose(table_of(tables["ridge"]["sample"]), own / 2, atol=0.08)
    assert tables["random_forest"]["mean"]["pose"]["pose_Ry"] > 0.9
    assert tables["random_forest"]["mean"]["expression"]["pose_Ry"] < 0.1


def test_a_probe_rescales_means_but_not_samples_of_dead_dimensions() -> None:
    labels = made_labels(1000)
    codes = Codes(0.05 * labels.values.astype(np.float32), np.ones((1000, 4), np.float32))
    tables = probe_faces(codes, labels, PARTS)
    assert tables["ridge"]["mean"]["pose"]["pose_Rx"] > 0.99
    assert abs(tables["ridge"]["sample"]["pose"]["pose_Rx"]) < 0.05


class LinearRun:
    """Decodes codes to pixels by an orthogonal map and encodes by its inverse; `deaf` ignores some dimensions on the way."""

    def __init__(self, deaf: slice = slice(0, 0)) -> None:
        basis = np.linalg.qr(np.random.default_rng(3).normal(size=(64, 4)))[0]
        self.basis = basis.astype(np.float32)
        self.partitions, self.deaf = PARTS, deaf

    def decode(self, codes: np.ndarray) -> np.ndarray:
        codes = codes.copy()
        codes[:, self.deaf] = 0
        return (codes @ self.basis.T).reshape(-1, 8, 8)

    def encode(self, images: np.ndarray) -> Codes:
        mean = images.reshape(-1, 64) @ self.basis
        return Codes(mean, np.ones_like(mean))


@pytest.mark.parametrize(("deaf", "expected"), [(slice(0, 0), (1, 1, 1)), (PARTS["expression"], (1, 0.5, 0.5))])
def test_swaps_of_a_perfect_model_and_of_one_that_ignores_expression(
    deaf: slice, expected: tuple[float, float, float]
) -> None:
    """What is not drawn reads as the mean, which is as often nearer to A as to B."""
    labels = made_labels(4000)
    codes = Codes(labels.values.astype(np.float32), np.ones((4000, 4), np.float32))
    found = swap_test(cast(OpenRun, LinearRun(deaf)), codes, labels)
    assert found is not None
    assert found["pairs"] == 1000
    for judge in ("by_probe", "by_labels", "unswapped_by_labels"):
        shares = found[judge]
        np.testing.assert_allclose([shares[name] for name in ("pose", "expression", "both")], expected, atol=0.06)


def test_a_model_that_decodes_expression_as_pose_fails_the_swap() -> None:
    """With the partitions' names exchanged, the swap takes the pose of B and keeps the expression of A: every pair is wrong."""
    labels = made_labels()
    run = LinearRun()
    run.partitions = {"pose": PARTS["expression"], "expression": PARTS["pose"]}
    found = swap_test(
        cast(OpenRun, run), Codes(labels.values.astype(np.float32), np.ones((400, 4), np.float32)), labels
    )
    assert found is not None
    assert found["by_labels"] == found["by_probe"] == {"pose": 0.0, "expression": 0.0, "both": 0.0}
    assert found["unswapped_by_labels"] == {"pose": 1.0, "expression": 1.0, "both": 1.0}


def test_no_person_is_on_both_sides_and_unknown_ones_stand_alone(store: Store) -> None:
    identity = pd.array([None if i < 50 else i // 10 for i in range(300)], dtype="Int64")
    labels = read_labels(label_store(store, identity=pa.array(identity, from_pandas=True)), 300)
    fit, judge = (set(identity[side].dropna()) for side in (labels.split.train, labels.split.test))
    assert not fit & judge
    assert labels.split_by == "by person: fitted on 56, judged on 19 others"  # 50 unknown, 25 known; round(75 / 4) = 19
    assert labels.factors == FACTORS
    assert labels.constant == ("AU45_r",)


def test_a_label_that_hardly_varies_among_those_held_out_is_left_out_and_named(store: Store) -> None:
    held_out = read_labels(label_store(store), 300).split.test
    unit = np.random.default_rng(1).exponential(0.4, 300)
    unit[held_out] = 0.01 * (np.arange(len(held_out)) == 0)
    labels = read_labels(label_store(store, AU45_r=unit), 300)
    assert (labels.factors, labels.constant) == (FACTORS, ("AU45_r",))
    unit[held_out[:20]] = 1.0
    assert read_labels(label_store(store, AU45_r=unit), 300).constant == ()


@pytest.mark.parametrize(
    ("identity", "words"), [(None, "no identities"), (np.arange(300) % 3, "persons on both sides: there are 3 only")]
)
def test_a_split_that_is_not_by_person_says_so(store: Store, identity: Any, words: str) -> None:
    assert words in read_labels(label_store(store, identity=identity), 300).split_by


def test_truth_judges_by_image_name_in_any_order(store: Store, tmp_path: Path) -> None:
    labelled = label_store(store)
    truth = labelled.samples[["image", *FACTORS]].iloc[::-1]
    truth.assign(pose_Rx=truth["pose_Rx"] + 1).to_parquet(tmp_path / "truth.parquet")
    labels = read_labels(labelled, 300, truth=tmp_path / "truth.parquet")
    assert labels.source == "truth"
    np.testing.assert_array_equal(labels.values[:, 0], labelled.samples["pose_Rx"] + 1)
    truth.iloc[1:].to_parquet(tmp_path / "short.parquet")
    with pytest.raises(GatedVAEError, match=r"lacks 1 of the store's 300 images, such as 000299\.jpg"):
        read_labels(labelled, 300, truth=tmp_path / "short.parquet")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (dict.fromkeys(FACTORS, np.zeros(300)), "one value only"),
        (dict.fromkeys((*FACTORS, "AU45_r")), "no labels"),
        ({"AU06_r": np.where(np.arange(300) == 7, np.nan, 1.0)}, "first is sample 7"),
    ],
)
def test_labels_that_will_not_do(store: Store, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(GatedVAEError, match=words):
        read_labels(label_store(store, **columns), 300)


def test_too_few_images(store: Store) -> None:
    with pytest.raises(GatedVAEError, match="It has 39 images"):
        read_labels(Store(store.path, {**store.manifest, "taken": 39}), 300)


def test_a_run_whose_partitions_have_other_names_has_a_table_but_no_summary(store: Store, tmp_path: Path) -> None:
    labelled = label_store(store)
    for old, new in (("pose", "look"), ("expression", "mood")):
        for kind in ("pairs", "groups"):
            (store.path / kind / f"partition={old}").rename(store.path / kind / f"partition={new}")
    made = labelled.partitions
    labelled = labelled.with_partitions({"look": made["pose"], "mood": made["expression"]})
    scores = evaluate_faces(open_run(train_tiny(labelled, tmp_path / "run", {"look": 1, "mood": 2}))).values
    assert tuple(scores["r2"]["ridge"]["mean"]) == ("look", "mood", "full")
    assert scores["summary"]["ridge"]["mean"] == {}
    assert scores["swap"] is None


def test_a_registered_label_gets_its_row_of_the_evaluation(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LABELS, "age", Label("age", ("age",), unit="years"))
    labelled = label_store(store, age=np.random.default_rng(2).normal(40, 10, 300))
    for kind in ("pairs", "groups"):
        (store.path / kind / "partition=expression").rename(store.path / kind / "partition=age")
    made = labelled.partitions
    labelled = labelled.with_partitions({"pose": made["pose"], "age": made["expression"]})
    scores = evaluate_faces(open_run(train_tiny(labelled, tmp_path / "run", {"pose": 1, "age": 2})))
    assert set(scores.values["summary"]["ridge"]["sample"]) == {"pose", "age"}
    told = next(table for table in scores.tables() if table.title.startswith("R2 of each factor"))
    assert "age" in [line[0] for line in told.lines()]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time and bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def shown(words: str) -> str:
    return " ".join(words.split())


def rmse_by_hand(run: Path, images: np.ndarray) -> float:
    opened = open_run(run)
    return float(np.sqrt(np.mean((images / 255 - opened.decode(opened.encode(images).mean)) ** 2)))


def test_one_partition_is_judged_alone(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_tiny(label_store(store), tmp_path / "run", {"pose": 2})
    assert pipe("evaluate", run) == 0
    assert "own - other none: there is one partition only" in shown(capsys.readouterr().out)
    scores = open_run(run).files.read_metrics()["evaluate"]
    r2 = scores["r2"]["ridge"]["mean"]
    assert r2["pose"] == r2["full"], "the only partition is the full latent"
    own = np.mean([max(0, r2["pose"][name]) for name in ("pose_Rx", "pose_Ry")])
    assert scores["summary"]["ridge"]["mean"] == {"pose": {"own": pytest.approx(own), "full": pytest.approx(own)}}
    assert pipe("report", run) == 0


@pytest.mark.parametrize(
    ("columns", "why", "latent"),
    [
        (dict.fromkeys((*FACTORS, "AU45_r")), "It has no labels", {"pose": 2}),
        (dict.fromkeys(FACTORS, np.zeros(300)), "one value only", {"pose": 2, "expression": 1}),
        ({"AU06_r": np.where(np.arange(300) == 7, np.nan, 1.0)}, "first is sample 7", {"pose": 2}),
    ],
)
def test_without_labels_there_are_reconstruction_and_divergence(
    columns: dict[str, Any],
    why: str,
    latent: dict[str, int],
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled = label_store(store, **columns)
    run = train_tiny(labelled, tmp_path / "run", latent)
    assert pipe("evaluate", run) == 0
    told = shown(capsys.readouterr().out)
    assert "probes, DCI, swap test none:" in told
    assert why in told
    scores = open_run(run).files.read_metrics()["evaluate"]
    assert (scores["r2"], scores["dci"], scores["swap"]) == ({}, {}, None)
    assert len(scores["kl"]) == sum(latent.values())
    held_out = no_labels(labelled, 300).split.test
    assert len(held_out) == scores["held_out"] < 100
    assert scores["reconstruction"]["rmse"] == pytest.approx(rmse_by_hand(run, labelled.images[held_out]), rel=1e-4)
    assert pipe("report", run) == 0
    assert why in (run / "report.html").read_text()


def test_a_handful_of_images_is_judged_by_all_of_them(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 80)
    run = train_tiny(store, tmp_path / "run", {"pose": 2, "expression": 2})
    few, _ = make_store_of(Given(store.images[:9]), tmp_path / "few")
    scores = evaluate_faces(replace(open_run(run), other=few)).values
    assert scores["reconstruction"]["rmse"] == pytest.approx(rmse_by_hand(run, few.images), rel=1e-4)
    assert "It has 9 images; 40 are the least" in scores["left_out"]["probes, DCI, swap test"]


def test_a_store_without_pairs_is_judged_like_any(run: Path) -> None:
    store = open_run(run).store
    for folder in ("pairs", "groups"):
        shutil.rmtree(store.path / folder)
    store.with_partitions({})
    for command in ("evaluate", "report", "traverse"):
        assert pipe(command, run) == 0


@pytest.mark.parametrize(
    ("pose", "why"),
    [
        ([0.1], "It lacks"),
        (["x"], "Its pose_Rx holds no numbers."),
        ([{"a": 1}], "Its pose_Rx holds no numbers."),
        ([1e300], "Its pose_Rx is 1e+300 in row 0, which no label can be."),
    ],
)
def test_a_truth_that_will_not_do_is_refused(
    pose: list[Any], why: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "truth.parquet"
    pq.write_table(pa.table({"image": ["a"], "pose_Rx": pose}), truth)
    assert pipe("evaluate", run, "--truth", truth) == 1
    assert str(truth) in (said := capsys.readouterr().err)
    assert why in said


def test_a_run_that_may_not_be_written_to_is_judged_elsewhere(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    out = tmp_path / "results"
    assert pipe("evaluate", run, "--out", out) == 0
    assert pipe("report", run, "--out", out) == 0
    assert pipe("report", run, "--out", tmp_path / "alone" / "it.html") == 0
    assert contents(run) == before
    assert {"train", "evaluate"} == set(json.loads((out / "metrics.json").read_text()))
    assert (out / "figures" / "traversals.png").exists()
    for page in (out / "report.html", tmp_path / "alone" / "it.html"):
        assert page.read_text().count("<img") == 4 + (page.parent == out)
    assert "Disentanglement" in (out / "report.html").read_text().title()
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["it.html"]
    capsys.readouterr()
    assert pipe("inspect", run) == 0
    assert "measured train" in shown(capsys.readouterr().out)


def test_that_nothing_can_be_written_is_said_before_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr("gated_vae.pipelines.training.run.TemporaryFile", refuse)
    monkeypatch.setattr(OpenRun, "encode", None)
    for words in (("evaluate", run), ("report", run), ("evaluate", run, "--out", tmp_path / "out")):
        assert pipe(*words) == 1
        told = capsys.readouterr().err
        assert "Nothing can be written to" in told
        assert "--out FOLDER" in told


def test_of_a_run_that_is_not_trained_to_its_end_it_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipe("evaluate", run, "--samples", "100") == 0
    assert "not finished" not in capsys.readouterr().out
    (run / "metrics.json").unlink()
    assert pipe("evaluate", run, "--samples", "100") == 0
    assert "not finished: its last checkpoint is judged" in capsys.readouterr().out


def test_results_of_other_weights_are_not_reported(run: Path, tmp_path: Path) -> None:
    assert pipe("evaluate", run, "--out", tmp_path / "out") == 0
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    values["train"]["steps"] += 1
    (tmp_path / "out" / "metrics.json").write_text(json.dumps(values))
    assert "evaluate" not in open_run(run).writing_to(tmp_path / "out").files.read_metrics()
    other = train_tiny(open_run(run).store, tmp_path / "other", {"pose": 2, "expression": 2})
    with pytest.raises(GatedVAEError, match="is a store or a run"):
        open_run(run).writing_to(other)


def test_the_command_gives_no_nan_and_fits_80_columns(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert pipe("evaluate", run) == 0
    shown = capsys.readouterr().out
    assert "AU45_r: (nearly) the same in every image" in shown
    assert "NaN" not in (shown + json.dumps(open_run(run).files.read_metrics()))
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    rows = pd.DataFrame(r2_cells(open_run(run).files.read_metrics()["evaluate"]))
    assert list(rows.columns) == ["partition", "factor", "regressor", "codes", "r2"]
    assert len(rows) == 3 * 4 * 2 * 2
    assert (run / "figures" / "hinton_random_forest.png").exists()


def test_dead_dimensions_and_constant_codes_give_numbers(run: Path) -> None:
    """Weights of zero: every code is the same, nothing can be told."""
    opened = open_run(run)
    model = opened.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    scores = evaluate_faces(opened).values
    assert np.isfinite(pd.DataFrame(r2_cells(scores))["r2"]).all()
    assert json.dumps(scores, allow_nan=False)
    assert scores["kl"] == [0.0] * 4


def test_pairs_drawn_before_training_are_those_of_the_table(store: Store, tmp_path: Path) -> None:
    assert pipe("inspect", store.path, "--pairs", tmp_path / "pairs.png") == 0
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")
    ids = np.array([3, 100, 299])
    pairs = pd.read_parquet(store.path / "pairs")
    pose = pairs[pairs["partition"] == "pose"].set_index(["input_id", "draw"])["target_id"]
    expected = [[pose.loc[(i, draw)] for draw in range(3)] for i in ids]  # three draws were made, four asked for
    np.testing.assert_array_equal(PairTable.of(store, "pose").partners(ids, 4), expected)
    with pytest.raises(GatedVAEError, match="no pairs yet"):
        draw_pairs(store.with_partitions({}), tmp_path / "none.png")


def test_owner() -> None:
    assert [owner_of(name) for name in FACTORS] == ["pose", "pose", "expression", "expression"]
