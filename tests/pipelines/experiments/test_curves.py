"""Curves: which points there are, what their stores hold, what becomes of scores, and a tiny one from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from gated_vae.models.figures.sheet import PALETTE, png
from gated_vae.pairing.cluster import ClusterOptions
from gated_vae.pairing.rules import Rule
from gated_vae.pipelines.experiments.curve_stores import Recipe, draw_pictures, give_wrong, make_store, true_faces
from gated_vae.pipelines.experiments.curves import (
    AXES,
    BASE,
    LINES,
    PAIRINGS,
    SCORES,
    TITLES,
    Curves,
    Point,
    curve_scores,
    draw_curves,
    points,
)
from gated_vae.pipelines.experiments.runner import reproduce
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.api import read_openface
from gated_vae.preprocessing.progress import ignore
from gated_vae.preprocessing.simulate.faces import TRUTH, simulate_faces, simulate_labels
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.sources.celeba.faces import LABELS
from gated_vae.preprocessing.store import Store

PLAN = Curves(out=Path("out"), images=4000)
NOISY = {"pose_noise": 2.0, "label_noise": 2.0, "confounding": 1.0}
Pictures = tuple[Store, Path]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """24 pictures of 3 people, labelled with the truth, and the file of the truth."""
    out = tmp_path_factory.mktemp("pictures")
    return draw_pictures(true_faces(24, 3), 16, out, workers=1, progress=ignore), out / TRUTH


def recipe(wrong: float = 0.0, n: int = 20, **noise: float) -> Recipe:
    clusters = ClusterOptions({"pose": 2, "expression": 3}, rule=Rule("independent", 2), draws=2)
    return Recipe(replace(true_faces(n, 3), **noise), wrong, clusters)


# Points


def test_one_axis_varies_and_the_base_is_shared() -> None:
    known = points()
    assert next(iter(known.values())) == BASE
    assert len(known) == len(set(known.values())) == 1 + sum(len(values) - 1 for values in AXES.values())
    for point in list(known.values())[1:]:
        differing = [axis for axis in AXES if getattr(point, axis) != getattr(BASE, axis)]
        assert len(differing) == 1
        assert point.name.startswith(differing[0])
    assert all(point.name == name for name, point in known.items())
    assert {"base", "clusters-0.125", "wrong-0.25", "pairing-uniform"} <= set(known)
    assert PLAN.chosen("base,wrong-*") == ["base", "wrong-0.1", "wrong-0.25", "wrong-0.5"]
    assert all(getattr(BASE, axis) in values for axis, values in AXES.items())
    with pytest.raises(GatedVAEError, match="no 'noise\\*'"):
        PLAN.chosen("wrong-*,noise*")


def test_a_point_changes_what_its_axis_says() -> None:
    base = PLAN.recipe(BASE)
    assert base.clusters == ClusterOptions({"pose": 50, "expression": 80}, rule=Rule("independent", 8), draws=8)
    assert (base.labels.n, base.labels.people, base.labels.pose_noise, base.labels.label_noise) == (4000, 200, 1, 1)
    fine = PLAN.recipe(Point(clusters=4.0))
    assert fine.clusters.clusters == {"pose": 200, "expression": 320}
    assert fine.labels == base.labels
    half = PLAN.recipe(Point(images=0.5))
    assert (half.labels.n, half.labels.people, half.clusters.clusters["pose"]) == (2000, 200, 25)
    assert PLAN.recipe(Point(label_noise=4.0)).labels == replace(base.labels, pose_noise=4.0, label_noise=4.0)
    for name, rule in PAIRINGS.items():
        assert PLAN.recipe(Point(pairing=name)).clusters == replace(base.clusters, rule=rule)


def test_values_in_words_and_numbers() -> None:
    assert PLAN.described("clusters", Point(clusters=0.5)) == ("25/40", 0.5)
    assert PLAN.described("images", Point(images=2.0)) == ("8,000", 8000)
    assert PLAN.described("wrong", Point(wrong=0.1)) == ("0.1", 0.1)
    assert PLAN.described("pairing", BASE) == ("independent", None)


# Labels and stores


def test_labels_written_anew_are_those_of_the_csvs(tmp_path: Path) -> None:
    options = FaceSimulation(n=4, seed=3, people=2, not_found=0, low_confidence=0.3, impossible=0.3, **NOISY)
    simulate_faces(options, tmp_path, workers=1)
    written = read_openface(tmp_path / "processed").query("face == 0")
    again = simulate_labels(options, range(1, 5))
    assert list(again) == list(LABELS)
    np.testing.assert_array_equal(again, written[[*LABELS]])


def test_without_noise_labels_are_the_truth_as_openface_rounds(pictures: Pictures) -> None:
    store, truth_path = pictures
    truth = pd.read_parquet(truth_path)
    angles, units = [name for name in LABELS if "pose" in name], [name for name in LABELS if name.endswith("_r")]
    labels = simulate_labels(true_faces(24, 3), range(1, 25))
    np.testing.assert_array_equal(labels[angles], truth[angles].round(3))
    np.testing.assert_array_equal(labels[units], truth[units].round(2))
    np.testing.assert_array_equal(labels, store.samples[[*LABELS]])
    assert len(store) == 24


def test_a_store_has_the_first_pictures_other_labels_and_whole_pairs(pictures: Pictures, tmp_path: Path) -> None:
    source, _ = pictures
    store = make_store(recipe(**NOISY), source, tmp_path / "store")
    np.testing.assert_array_equal(store.images, source.images[:20])
    kept = ["sample_id", "image", "identity"]
    pd.testing.assert_frame_equal(store.samples[kept], source.samples[kept].iloc[:20])
    assert (store.samples["pose_Ry"] != source.samples["pose_Ry"].iloc[:20]).mean() > 0.9
    assert list(store.partitions) == ["pose", "expression", "identity"]
    assert verify(store.path).problems == []
    manifest = (store.path / "store.json").read_bytes()
    again = make_store(recipe(**NOISY), source, tmp_path / "store")
    assert (again.path / "store.json").read_bytes() == manifest
    assert store.manifest["source_digest"] != source.manifest["source_digest"]
    with pytest.raises(GatedVAEError, match="another store"):
        make_store(recipe(), source, tmp_path / "store")


def test_wrong_labels_are_the_same_labels_elsewhere() -> None:
    labels = pd.DataFrame({"yaw": np.arange(200.0), "smile": np.arange(200.0) + 1000})
    wrong = give_wrong(labels, 0.25, seed=0)
    moved = wrong["yaw"] != labels["yaw"]
    assert moved.sum() == 50
    np.testing.assert_array_equal(wrong["smile"] - wrong["yaw"], 1000)  # a sample's labels stay together
    np.testing.assert_array_equal(np.sort(wrong["yaw"]), labels["yaw"])
    pd.testing.assert_frame_equal(wrong, give_wrong(labels, 0.25, seed=0))
    more = give_wrong(labels, 0.5, seed=0)
    assert (more["yaw"] != labels["yaw"])[moved].all()
    assert (give_wrong(labels, 0.25, seed=1)["yaw"] != wrong["yaw"]).any()
    pd.testing.assert_frame_equal(give_wrong(labels, 0.0, seed=0), labels)


def test_a_store_of_wrong_labels_keeps_pictures_and_people(pictures: Pictures, tmp_path: Path) -> None:
    source, _ = pictures
    store = make_store(recipe(wrong=0.5), source, tmp_path / "store")
    right = source.samples.iloc[:20]
    assert (store.samples["pose_Ry"] != right["pose_Ry"]).sum() == 10
    assert sorted(store.samples["pose_Ry"]) == sorted(right["pose_Ry"])
    pd.testing.assert_series_equal(store.samples["identity"], right["identity"])


# Scores, tables, picture


def scores(**r2: dict[str, float]) -> dict[str, Any]:
    """What an evaluation files, as far as curves read it."""
    summary = {"pose": {"score": 0.4}, "expression": {"score": 0.3}}
    swap = {"by_labels": {"pose": 0.9, "expression": 0.8, "both": 0.7}}
    return {"r2": {"ridge": {"sample": r2}}, "summary": {"ridge": {"sample": summary}}, "swap": swap}


def test_scores_by_hand() -> None:
    pose = {"pose_Rx": 0.5, "pose_Ry": 0.9, "AU06_r": -1.0, "AU12_r": 0.2, "AU20_r": 1.0}
    expression = {"pose_Rx": -0.2, "pose_Ry": 0.1, "AU06_r": 0.6, "AU12_r": 0.8, "AU20_r": 0.0}
    found = curve_scores(scores(pose=pose, expression=expression))
    assert found == pytest.approx(
        {
            "pose_own": 0.7,
            "pose_leakage": 0.05,
            "action_units_own": 0.7,
            "action_units_leakage": 0.1,
            "pose_score": 0.4,
            "expression_score": 0.3,
            "swap_both": 0.7,
        }
    )
    assert set(SCORES) == set(found)


def results() -> pd.DataFrame:
    """Two seeds of two values on one axis, one name on another; every score is 0.5 and 0.7."""
    rows = []
    for axis, value, number in (("wrong", "0", 0.0), ("wrong", "0.25", 0.25), ("pairing", "uniform", None)):
        for seed, score in enumerate((0.5, 0.7)):
            key = {"axis": axis, "value": value, "number": number, "seed": seed, "steps": 9, "images": 4000}
            rows.append(key | dict.fromkeys(SCORES, score))
    return pd.DataFrame(rows)


def test_a_table_per_axis_with_intervals() -> None:
    text = PLAN.report(results())[".md"].decode()
    cells = " | ".join(["0.600 ± 1.271"] * len(SCORES))  # as in tests/pipelines/test_table1.py, by hand
    for line in (f"| 0.25, n=2 | {cells} |", f"| uniform, n=2 | {cells} |", "## Share of wrong labels", "## Pairing"):
        assert line in text.splitlines()
    assert set(TITLES) == set(AXES)


def test_a_panel_per_axis_with_own_and_leakage() -> None:
    figure = draw_curves(results())
    wrong, pairing = figure.axes
    assert [tick.get_text() for tick in wrong.get_xticklabels()] == ["0", "0.25"]
    assert [tick.get_text() for tick in pairing.get_xticklabels()] == ["uniform"]
    means = [line for line in wrong.lines if not str(line.get_label()).startswith("_")]
    assert [line.get_linestyle() for line in means] == ["-", "--"] * len(LINES)
    assert [to_hex(line.get_color()).upper() for line in means] == [colour for colour in PALETTE[:2] for _ in range(2)]
    np.testing.assert_allclose([line.get_ydata() for line in means], 0.6)
    assert len(png(figure)) > 1000


# From end to end


def test_runs_differ_in_store_and_seed_alone() -> None:
    one, other = PLAN.config("base", 0), PLAN.config("wrong-0.25", 1)
    assert replace(other, store=one.store, seed=0) == one
    assert one.store == "out/stores/base"
    assert one.model.method.batches == "together"
    assert one.model.latent == {"pose": 6, "expression": 18, "identity": 16}


@pytest.mark.slow
def test_two_points_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AXES, "images", (1.0,))
    plan = Curves(out=tmp_path, images=48, steps=2, batch_size=16, seeds=1)
    names = ["base", "wrong-0.5"]
    results = reproduce(plan, names, workers=1)
    assert results[["axis", "value", "number", "images"]].values.tolist() == [
        ["wrong", "0", 0.0, 48],
        ["wrong", "0.5", 0.5, 48],
    ]
    assert np.isfinite(results[[*SCORES]]).all().all()
    notes: list[str] = []

    def note(*state: Any) -> None:
        notes.append("".join(state[2:]))

    again = reproduce(plan, names, workers=1, progress=note)
    pd.testing.assert_frame_equal(again, results)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "curves.parquet"), results)
    assert notes[-1] == ""  # no run was left to do
    with pytest.raises(GatedVAEError, match="holds another run"):
        reproduce(replace(plan, steps=3), names, workers=1)
    with pytest.raises(GatedVAEError, match="other options"):
        reproduce(replace(plan, images=64), names, workers=1)
