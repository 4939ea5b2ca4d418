from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

from gated_vae.pairing import partition
from gated_vae.pairing.cluster import ClusterOptions, cluster_store, parse_near
from gated_vae.pairing.labels import EXPRESSION, LABELS, Label
from gated_vae.pairing.labels import POSE as POSE_LABEL
from gated_vae.pairing.rules import RULES, UNIFORM, Rule, RuleKind
from gated_vae.pairing.rules.base import Grouping
from gated_vae.pairing.verify import verify_partitions
from gated_vae.pipelines import cli
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked, write_json
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.store import SCHEMA_VERSION, centroids_path, open_store, samples_path
from tests.stores import Given, random_images

POSE, UNITS = ["pose_Rx", "pose_Ry"], ["AU01_r", "AU06_r", "AU12_r"]
SMALL = ClusterOptions({"pose": 20, "expression": 30}, draws=3)


def faces(samples: int = 600) -> pd.DataFrame:
    """Labels of made-up faces: intensities that lean on the yaw, one unit that never fires, 40 persons."""
    rng = np.random.default_rng(0)
    pose = rng.normal(0, [0.15, 0.3, 0.05], (samples, 3))
    units = np.clip(rng.gamma(1.0, 0.8, (samples, 3)) + 2 * pose[:, [1]], 0, 5)
    return pd.DataFrame(
        {
            "sample_id": range(samples),
            "confidence": 0.98,
            **dict(zip([*POSE, "pose_Rz"], pose.T, strict=True)),
            **dict(zip(UNITS, units.T, strict=True)),
            "AU45_r": 0.0,
            "AU12_c": (units[:, 2] > 1).astype(float),
            "identity": rng.integers(1, 41, samples),
        }
    )


def store_of(path: Path, samples: pd.DataFrame) -> Path:
    path.mkdir(parents=True)
    samples.to_parquet(samples_path(path))
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "celeba",
        "image_shape": [64, 64],
        "parameters": {},
    }
    write_json(
        path / "store.json",
        {**manifest, "source_digest": "", "seen": len(samples), "taken": len(samples), "rejected": 0},
    )
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", faces())


def contents(store: Path) -> dict[str, bytes]:
    files = (file for file in store.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def test_a_store_gets_groups_centroids_pairs_and_a_record(store: Path) -> None:
    reports = cluster_store(store, SMALL)
    assert [(report.name, report.k, report.already_done) for report in reports] == [
        ("pose", 20, False),
        ("expression", 30, False),
    ]
    assert [report.shared for report in reports] == [tuple(POSE), (*UNITS, "AU45_r")]
    assert list(open_store(store).partitions) == ["pose", "expression"]
    samples, pairs, groups = faces(), pd.read_parquet(store / "pairs"), pd.read_parquet(store / "groups")
    for report in reports:
        mine, columns = groups[groups.partition == report.name], list(report.shared)
        centroids = pd.read_parquet(centroids_path(store, report.name))
        apart = cdist(samples[columns], centroids[columns])
        strays = apart[np.arange(600), mine.group] > apart.min(axis=1) + 1e-5
        assert strays.sum() == report.merged
        assert np.allclose(apart[np.arange(600), mine.group], mine.distance, atol=1e-5)
        assert (np.bincount(mine.group, minlength=report.k) == centroids["size"]).all()
        assert (centroids["size"] != 1).all()
        assert sum(report.sizes.values()) == report.k
        own = pairs[pairs.partition == report.name]
        assert len(own) == report.pairs == 1800
        assert (mine.group.to_numpy()[own.target_id] == own.group).all()
        assert (mine.group.to_numpy()[own.input_id] == own.group).all()


@pytest.mark.parametrize("rows", [600, 170], ids=["one row group", "four"])
@pytest.mark.parametrize(
    ("same", "near", "named"),
    [
        ([*UNITS, "AU45_r"], (), "expression.*AU\\*_r"),
        (POSE, (), "pose.*pose_Rx, pose_Ry"),
        ([], (Label("sure", ("confidence",)),), "sure.*confidence"),
    ],
)
@pytest.mark.parametrize("value", [0.0, 0.1, -3])
def test_labels_that_are_all_the_same_are_refused(
    tmp_path: Path, rows: int, same: list[str], near: tuple[Label, ...], named: str, value: float
) -> None:
    store = store_of(tmp_path / "store", faces())
    faces().assign(**dict.fromkeys(same, value)).to_parquet(samples_path(store), row_group_size=rows)
    before = contents(store)
    with pytest.raises(GatedVAEError, match=f"(?s)grouped by {named}: partners would be random"):
        cluster_store(store, replace(SMALL, near=near))
    assert contents(store) == before


def test_a_constant_column_among_others_changes_no_pair(store: Path, tmp_path: Path) -> None:
    cluster_store(store, SMALL)
    other = store_of(tmp_path / "other", faces().drop(columns="AU45_r"))
    cluster_store(other, SMALL)
    assert pd.read_parquet(store / "pairs").equals(pd.read_parquet(other / "pairs"))


def test_one_face_that_moves_among_faces_at_rest_makes_no_partition(tmp_path: Path) -> None:
    rest = faces().assign(**dict.fromkeys(UNITS, 0.0))
    rest.loc[7, "AU12_r"] = 2.0
    with pytest.raises(GatedVAEError, match="All but 1 of 600 fell into one cluster"):
        cluster_store(store_of(tmp_path / "store", rest), SMALL)


def test_fewer_values_than_clusters_are_groups_of_equals_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    light = np.arange(600) % 5
    store = store_of(tmp_path / "store", faces()[["sample_id"]].assign(light=light))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["cluster", str(store), "--near", "light=light:40", "--draws", "2"])
    assert not stopped.value.code
    assert "35 clusters empty: perhaps there are fewer different values" in " ".join(capsys.readouterr().out.split())
    pairs = pd.read_parquet(store / "pairs")
    assert (light[pairs.input_id] == light[pairs.target_id]).all()


def test_the_report_compares_pairs_with_random_ones(store: Path) -> None:
    pose, expression = cluster_store(store, SMALL)
    assert pose.quality["pose_Ry"].apart < 0.35 * pose.quality["pose_Ry"].apart_random
    assert expression.quality["AU12_r"].apart < 0.6 * expression.quality["AU12_r"].apart_random
    assert expression.quality["AU45_r"].correlation is None  # it never fires
    assert set(pose.quality) == {*POSE, "pose_Rz", *UNITS, "AU45_r"}
    own = pd.read_parquet(store / "pairs").query("partition == 'pose' and draw == 0")
    yaw, person = faces().pose_Ry.to_numpy(), faces().identity.to_numpy()
    expected = np.corrcoef(yaw[own.input_id], yaw[own.target_id])[0, 1]
    assert pose.quality["pose_Ry"].correlation == pytest.approx(expected)
    assert pose.same == pytest.approx({"identity": (person[own.input_id] == person[own.target_id]).mean()})


def test_clustering_again_does_nothing_and_tells_the_same(store: Path) -> None:
    first = cluster_store(store, SMALL)
    times = {file: file.stat().st_mtime_ns for file in store.rglob("*.*") if file.name != ".lock"}
    again = cluster_store(store, SMALL)
    assert [report.already_done for report in again] == [True, True]
    assert [vars(a) | {"already_done": False} for a in again] == [vars(report) for report in first]
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_other_options_are_refused_unless_told_to_overwrite(store: Path, tmp_path: Path) -> None:
    cluster_store(store, SMALL)
    before = contents(store)
    other = ClusterOptions({"pose": 20, "expression": 25}, draws=3)
    with pytest.raises(GatedVAEError, match=r"(?s)expression exists and differs.*made with k 30; this command has 25"):
        cluster_store(store, other)
    assert contents(store) == before
    _, expression = cluster_store(store, other, overwrite=True)
    assert not expression.already_done
    fresh = store_of(tmp_path / "fresh", faces())
    cluster_store(fresh, other)
    assert contents(store) == contents(fresh)


@pytest.mark.parametrize("stop_at", range(1, 7))
def test_an_interrupted_run_ends_in_the_same_bytes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stop before the n-th file is written: groups, centroids and pairs of both partitions."""
    cluster_store(store, ClusterOptions({"pose": 10, "expression": 10}, draws=3))
    calls = 0

    def stopping(writer: Any) -> Any:
        def write(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise KeyboardInterrupt
            return writer(*args, **kwargs)

        return write

    with monkeypatch.context() as patch:
        for name in ("write_groups", "write_centroids", "write_pairs"):
            patch.setattr(partition, name, stopping(getattr(partition, name)))
        with pytest.raises(KeyboardInterrupt):
            cluster_store(store, SMALL, overwrite=True)
    kept = open_store(store)
    assert [made["k"] for made in kept.partitions.values()] == [20 if stop_at > 3 else 10, 10]
    assert not list(verify_partitions(kept))  # what is not replaced yet is whole
    cluster_store(store, SMALL, overwrite=True)
    undisturbed = store_of(tmp_path / "undisturbed", faces())
    cluster_store(undisturbed, SMALL)
    assert contents(store) == contents(undisturbed)


@pytest.mark.parametrize(("columns", "made"), [(POSE, "pose"), (UNITS, "expression")])
def test_a_store_with_one_kind_of_labels_gets_one_partition(tmp_path: Path, columns: list[str], made: str) -> None:
    store = store_of(tmp_path / "store", faces()[["sample_id", *columns]])
    (report,) = cluster_store(store, SMALL)
    assert report.name == made
    assert report.same == {}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["pose_Ry", "AU12_c"], SMALL, r"It has neither pose_Rx and pose_Ry \(pitch and yaw\) nor AU\*_r"),
        (
            [*POSE, *UNITS],
            ClusterOptions({"pose": 20, "expression": 301}),
            "cannot make 301 expression clusters.*\n.*\nAsk for 300 or fewer",
        ),
        ([*POSE, *UNITS], ClusterOptions({"pose": 0, "expression": 30}), "cannot make 0 pose clusters"),
        (POSE, ClusterOptions({"pose": 20}, draws=0), "draws >= 1"),
        (POSE, ClusterOptions({"pose": 20}, rule=Rule("independent", 4)), "The store has no other label"),
        ([*POSE, *UNITS], ClusterOptions(SMALL.clusters, rule=Rule("independent", 301)), "300 strata at most"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_written(
    tmp_path: Path, columns: list[str], options: ClusterOptions, message: str
) -> None:
    store = store_of(tmp_path / "store", faces()[["sample_id", *columns]])
    before = contents(store)
    with pytest.raises(GatedVAEError, match=message):
        cluster_store(store, options)
    assert contents(store) == before


def test_a_store_in_use_or_missing_is_refused(store: Path) -> None:
    with locked(store), pytest.raises(GatedVAEError, match="in use"):
        cluster_store(store, SMALL)
    with pytest.raises(GatedVAEError, match="no store"):
        cluster_store(store / "elsewhere", SMALL)
    assert not (store / "elsewhere").exists()


def test_other_partitions_stay_and_follow_pose_and_expression(store: Path) -> None:
    made = open_store(store)
    made.with_partitions({"identity": {"method": "exact", "shared": ["identity"], "draws": 1, "seed": 0, "stream": 0}})
    cluster_store(store, SMALL)
    assert list(open_store(store).partitions) == ["pose", "expression", "identity"]


def test_partners_can_be_independent_in_pose(store: Path) -> None:
    options = ClusterOptions({"pose": 8, "expression": 8}, rule=Rule("independent", 8), draws=2)
    check_repeats(store, options, "independent:8")
    assert recorded(store)["pose"]["independent_of"] == [*UNITS, "AU45_r"]
    _, expression = cluster_store(store, options)
    yaw = expression.quality["pose_Ry"]
    assert yaw.correlation_uniform is not None
    assert yaw.correlation is not None
    assert yaw.correlation_uniform > 0.25
    assert abs(yaw.correlation) < yaw.correlation_uniform / 2


def test_unknown_persons_are_not_one_person(tmp_path: Path) -> None:
    samples = faces().assign(identity=lambda table: table.identity.where(table.identity < 5))
    (pose,) = cluster_store(store_of(tmp_path / "store", samples[["sample_id", *POSE, "identity"]]), SMALL)
    assert pose.same["identity"] < 0.02


def recorded(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "store.json").read_text())["partitions"]
    return found


def check_repeats(store: Path, options: ClusterOptions, rule: str) -> None:
    """A store made with a rule verifies, is left alone with the same one, and is refused with another."""
    reports = cluster_store(store, options)
    assert [*verify_partitions(open_store(store))] == []
    assert all(record["rule"] == rule for record in recorded(store).values())
    before = contents(store)
    assert cluster_store(store, options) == tuple(replace(report, already_done=True) for report in reports)
    with pytest.raises(GatedVAEError, match=f"made with rule {rule}; this command has uniform"):
        cluster_store(store, replace(options, rule=UNIFORM))
    assert contents(store) == before


def test_partners_can_be_among_the_nearest(store: Path) -> None:
    check_repeats(store, replace(SMALL, rule=Rule("nearest", 3)), "nearest:3")
    pairs, groups, samples = pd.read_parquet(store / "pairs"), pd.read_parquet(store / "groups"), faces()
    for name, columns in (("pose", POSE), ("expression", [*UNITS, "AU45_r"])):
        group = groups[groups.partition == name].group.to_numpy()
        apart = cdist(samples[columns], samples[columns])
        apart[group[:, None] != group[None]] = np.inf
        np.fill_diagonal(apart, np.inf)
        third = np.sort(apart, axis=1)[:, 2]
        own = pairs[pairs.partition == name]
        assert (apart[own.input_id, own.target_id] <= np.minimum(third[own.input_id], 1e9) + 1e-5).all()
        assert np.isfinite(apart[own.input_id, own.target_id]).all()


class FirstPartners:
    """A rule of these tests: the first other member of the group."""

    def __init__(self, grouping: Grouping) -> None:
        self.members = grouping.members

    def partners(self, ids: np.ndarray, *, seed: int, draw: int) -> np.ndarray:  # noqa: ARG002
        own = self.members.group[ids]
        first = self.members.ids[self.members.offsets[own]]
        return np.where(first == ids, self.members.ids[self.members.offsets[own] + 1], first).astype(np.int64)


def prepare(grouping: Grouping, _number: int) -> FirstPartners:
    return FirstPartners(grouping)


def test_a_rule_is_a_module_and_a_line_in_the_registry(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "first", RuleKind(__name__))
    check_repeats(store, replace(SMALL, rule=Rule.parse("first")), "first")
    pairs = pd.read_parquet(store / "pairs").query("partition == 'pose'")
    first = pairs.groupby("group").input_id.min()[pairs.group].to_numpy()
    others = pairs.input_id.to_numpy() != first
    assert (pairs.target_id.to_numpy() == first)[others].all()
    assert others.any()


def test_a_label_is_a_line_in_the_registry(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = store_of(tmp_path / "aged", faces().assign(age=np.arange(600) % 50))
    cluster_store(labelled, SMALL)
    monkeypatch.setitem(LABELS, "age", Label("age", ("age",), unit="years"))
    pose, expression, age = cluster_store(labelled, replace(SMALL, clusters={**SMALL.clusters, "age": 25}))
    assert (pose.already_done, expression.already_done, age.already_done) == (True, True, False)
    assert [*open_store(labelled).partitions] == ["pose", "expression", "age"]
    assert open_store(labelled).shared("age") == ("age",)
    found = age.quality["age"]
    assert (found.shared, found.unit) == (True, "years")
    assert found.apart < 2 < 10 < found.apart_random
    assert age.quality["pose_Ry"].unit == "degrees"
    assert [*verify_partitions(open_store(labelled))] == []
    assert [report.name for report in cluster_store(store, SMALL)] == ["pose", "expression"]  # which has no such column


def test_any_columns_of_numbers_can_be_named(tmp_path: Path) -> None:
    samples = faces().assign(age=np.arange(600) % 50, word="x")[["sample_id", "pose_Ry", "AU12_r", "age", "word"]]
    store = store_of(tmp_path / "store", samples)
    labels, clusters = parse_near(["old=age:30", "face=pose_Ry,AU*_r"])
    assert clusters == {"old": 30}
    reports = cluster_store(store, ClusterOptions(clusters, labels, draws=2))
    made = [(report.name, report.shared, report.k) for report in reports]
    assert made == [("expression", ("AU12_r",), 12), ("old", ("age",), 30), ("face", ("pose_Ry", "AU12_r"), 12)]
    assert reports[1].quality["age"].apart < 2
    for text, message in [
        ("a=height", "not all of height.*\n.*age"),
        ("a=age,height", "not all of"),
        ("a=word", "word holds no numbers"),
    ]:
        with pytest.raises(GatedVAEError, match=message):
            cluster_store(store, ClusterOptions(near=parse_near([text])[0]))


@pytest.mark.parametrize("name", ["pose_Rx", "pose_Rz", "AU12_r"])
@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["x"] * 39 + ["y"], "holds no numbers"),
        ([[1]] * 39 + [[2]], "holds no numbers"),
        ([0.0] * 39 + [1e300], r"is 1e\+300 in row 39, which no label can be"),
        (pa.array([0.0] * 39 + [-3e38], pa.float32()), r"is -3e\+38 in row 39, which no label can be"),
        ([0] * 39 + [2**62], r"is 4.61169e\+18 in row 39, which no label can be"),
    ],
)
def test_labels_that_none_can_be_are_refused_by_name_and_row(name: str, values: Any, why: str, tmp_path: Path) -> None:
    columns = {key: np.linspace(0, 1, 40) for key in ("pose_Rx", "pose_Ry", "pose_Rz", "AU12_r")}
    store, _ = make_store(Given(random_images(40), pa.table(columns)), tmp_path / "store")
    options = ClusterOptions(clusters={"pose": 4, "expression": 4}, draws=1)
    cluster_store(store.path, options)
    table, before = pq.read_table(samples_path(store.path)), open_store(store.path).partitions
    pq.write_table(table.set_column(table.column_names.index(name), name, [values]), samples_path(store.path))
    with pytest.raises(GatedVAEError, match=rf"samples\.parquet cannot be used\.\nIts {name} {why}"):
        cluster_store(store.path, options, overwrite=True)
    assert before.items() <= open_store(store.path).partitions.items()


def test_bytes_and_truth_values_are_measured_as_numbers(tmp_path: Path) -> None:
    samples = faces().assign(number=(np.arange(600) % 200).astype(np.uint8), flag=np.arange(600) % 2 == 0)
    store = store_of(tmp_path / "store", samples[["sample_id", "number", "flag"]])
    labels, clusters = parse_near(["number=number:5", "flag=flag:2"])
    number, flag = cluster_store(store, ClusterOptions(clusters, labels))
    assert number.quality["number"].apart < 20 < 60 < number.quality["number"].apart_random
    assert flag.quality["flag"].apart == 0
    assert flag.quality["flag"].apart_random == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "texts", [["age"], ["=age"], ["a=age,"], ["a/b=age"], ["a=age:many"], ["a=age:0"], ["a=age:"], ["a=x", "a=y"]]
)
def test_unreadable_names_are_wrong_usage(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--near"):
        parse_near(texts)


@pytest.mark.parametrize("text", ["", "best", "uniform:3", "nearest:", "nearest:0", "nearest:many", "independent:-1"])
def test_unreadable_rules_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"uniform\|independent\[:N\]\|nearest\[:N\]"):
        Rule.parse(text)


def test_rules_are_written_as_they_are_read() -> None:
    assert [str(Rule.parse(text)) for text in ("uniform", "independent", "nearest:5")] == [
        "uniform",
        "independent:16",
        "nearest:5",
    ]


def test_the_density_is_the_paper_s() -> None:
    assert [label.clusters(202_599) for label in (POSE_LABEL, EXPRESSION)] == [2500, 4000]
    assert [POSE_LABEL.clusters(samples) for samples in (2, 100, 600)] == [1, 1, 7]
    assert Label("fine", ("x",), density=1).clusters(9) == 4


def test_the_command_reads_numbers(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--pose", "0"], ["--pose", "many"], ["--rule", "many"], ["--near", "many"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["cluster", str(store), *wrong])
        assert stopped.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            ["cluster", str(store), "--expression", "5", "--near", "roll=pose_Rz:4", "--rule", "nearest:2", "--json"]
        )
    assert stopped.value.code == 0
    made = [(report["name"], report["k"]) for report in json.loads(capsys.readouterr().out)]
    assert made == [("pose", 7), ("expression", 5), ("roll", 4)]


def test_the_report_is_a_line_for_each_partition_and_a_table(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def report(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="0"):
            cli.main(["cluster", str(store), "--pose", "7", "--expression", "5", *words])
        return capsys.readouterr().out

    brief = report()
    pairs = pd.read_parquet(store / "pairs").query("partition == 'pose' and draw == 0")
    labels = pd.read_parquet(store / "samples.parquet").filter(regex="^pose_R|^AU.*_r$")
    own, partner = (labels.iloc[pairs[side]].reset_index(drop=True) for side in ("input_id", "target_id"))
    correlation = own.corrwith(partner)
    shared = correlation.index.isin(["pose_Rx", "pose_Ry"])
    expected = [f"{correlation[shared].mean():.2f}", f"{correlation[~shared].abs().mean():.2f}"]
    assert len(brief.splitlines()) <= 10
    assert "7 clusters by pose_Rx, pose_Ry" in brief
    whole = report("--verbose")
    for told in (brief, whole):
        assert re.search(rf"^pose +{expected[0]} +{expected[1]}", told, re.MULTILINE)
    assert "AU06_r " not in brief
    assert len(re.findall(r"^AU06_r +intensity", whole, re.MULTILINE)) == 2


def test_angles_of_a_full_turn_begin_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    month = rng.uniform(0, 12, 400)
    samples = pa.table({"image": [f"{i}.png" for i in range(400)], "month": month, "light": rng.uniform(0, 1, 400)})
    store, _ = make_store(Given(random_images(400), samples, "images"), tmp_path / "store")
    (made,) = cluster_store(store.path, ClusterOptions({"season": 4}, parse_near(["season=month@12:4"])[0]))
    store = open_store(store.path)
    assert store.partitions["season"]["turns"] == {"month": 12.0}
    assert [*made.quality] == ["month cos", "month sin"]
    groups = pd.read_parquet(store.path / "groups")["group"].to_numpy()
    angle = 2 * np.pi * month / 12
    radius = 12 / (2 * np.pi)
    points = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centroids = pd.read_parquet(store.path / "centroids" / "season.parquet")[["month cos", "month sin"]].to_numpy()
    nearest = np.square(points[:, None] - centroids).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(groups, nearest)
    across = (month < 0.5).nonzero()[0], (month > 11.5).nonzero()[0]  # the turn of the year parts no group
    assert {*groups[across[0]]} & {*groups[across[1]]}
    assert not [*verify_partitions(store)]


@pytest.mark.parametrize("text", ["a=month@", "a=month@x", "a=month@-1", "a=month@inf"])
def test_what_is_no_full_turn_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no full turn"):
        parse_near([text])
