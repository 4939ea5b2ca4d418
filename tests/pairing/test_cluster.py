from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from gated_vae.pairing import cluster
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.partners import Partners
from gated_vae.pairing.verify import verify_partitions
from gated_vae.pipelines import cli
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import locked, write_json
from gated_vae.preprocessing.store import SCHEMA_VERSION, centroids_path, open_store, samples_path

POSE, UNITS = ["pose_Rx", "pose_Ry"], ["AU01_r", "AU06_r", "AU12_r"]
SMALL = ClusterOptions(pose=20, expression=30, draws=3)


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
    assert [report.columns for report in reports] == [tuple(POSE), (*UNITS, "AU45_r")]
    assert list(open_store(store).partitions) == ["pose", "expression"]
    samples, pairs, groups = faces(), pd.read_parquet(store / "pairs"), pd.read_parquet(store / "groups")
    for report in reports:
        mine, columns = groups[groups.partition == report.name], list(report.columns)
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
    assert pose.same_person == pytest.approx((person[own.input_id] == person[own.target_id]).mean())


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
    other = ClusterOptions(pose=20, expression=25, draws=3)
    with pytest.raises(GatedVAEError, match=r"(?s)expression exists and differs.*Its k is 30, this command's is 25"):
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
    cluster_store(store, ClusterOptions(pose=10, expression=10, draws=3))
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
        for name in ("write_groups", "_write_centroids", "write_pairs"):
            patch.setattr(cluster, name, stopping(getattr(cluster, name)))
        with pytest.raises(KeyboardInterrupt):
            cluster_store(store, SMALL, overwrite=True)
    assert list(open_store(store).partitions) == (["pose"] if stop_at > 3 else [])  # no record of what is half made
    cluster_store(store, SMALL)
    undisturbed = store_of(tmp_path / "undisturbed", faces())
    cluster_store(undisturbed, SMALL)
    assert contents(store) == contents(undisturbed)


@pytest.mark.parametrize(("columns", "made"), [(POSE, "pose"), (UNITS, "expression")])
def test_a_store_with_one_kind_of_labels_gets_one_partition(tmp_path: Path, columns: list[str], made: str) -> None:
    store = store_of(tmp_path / "store", faces()[["sample_id", *columns]])
    (report,) = cluster_store(store, SMALL)
    assert report.name == made
    assert report.same_person is None


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["pose_Ry", "AU12_c"], SMALL, "It has neither pose_Rx and pose_Ry nor AU01_r"),
        ([*POSE, *UNITS], ClusterOptions(pose=20, expression=301), "Use --expression 300 or fewer"),
        ([*POSE, *UNITS], ClusterOptions(pose=0, expression=30), "cannot make 0 pose clusters"),
        (POSE, ClusterOptions(pose=20, draws=0), "draws >= 1"),
        (POSE, ClusterOptions(pose=20, scale="range"), "scale none or std"),
        (POSE, ClusterOptions(pose=20, other_person=True), "no identities"),
        (POSE, ClusterOptions(pose="many"), "many is no number of pose clusters"),
        (POSE, ClusterOptions(pose=20, confidence_weighted=True), "The store has no column confidence"),
        (POSE, ClusterOptions(pose=20, confidence_weighted=True, nearest=3), "cannot be combined"),
        (POSE, ClusterOptions(pose=20, confidence_weighted=True, other_person=True), "cannot be combined"),
        (POSE, ClusterOptions(pose=20, balanced=2), "Give --balanced 3 or more"),
        (POSE, ClusterOptions(pose=20, nearest=0), "Give --nearest 1 or more"),
        (
            POSE,
            ClusterOptions(pose=20, nearest=3, strata=2),
            "--nearest and --strata or --other-person cannot be combined",
        ),
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
    made.with_partitions({"identity": {"method": "exact"}})
    cluster_store(store, SMALL)
    assert list(open_store(store).partitions) == ["pose", "expression", "identity"]


def test_scaling_makes_units_irrelevant_and_centroids_keep_theirs(tmp_path: Path) -> None:
    plain, stretched = faces(), faces().assign(pose_Ry=lambda table: 1024 * table.pose_Ry)
    options = ClusterOptions(pose=20, expression=30, draws=1, scale="std")
    a, b = store_of(tmp_path / "a", plain), store_of(tmp_path / "b", stretched)
    (pose, _), _ = cluster_store(a, options), cluster_store(b, options)
    centroids = pd.read_parquet(centroids_path(a, "pose"))
    assert np.allclose(1024 * centroids.pose_Ry, pd.read_parquet(centroids_path(b, "pose")).pose_Ry)
    group = pd.read_parquet(a / "groups").query("partition == 'pose'").group.to_numpy()
    unit = plain[POSE].to_numpy().std(axis=0)
    nearest = cdist(plain[POSE] / unit, centroids[POSE] / unit).argmin(axis=1)
    assert np.count_nonzero(group != nearest) == pose.merged < 5


def test_partners_can_be_independent_in_pose_and_of_other_persons(store: Path) -> None:
    options = ClusterOptions(pose=8, expression=8, draws=2, strata=8, other_person=True)
    _, expression = cluster_store(store, options)
    yaw = expression.quality["pose_Ry"]
    assert yaw.correlation_uniform is not None
    assert yaw.correlation is not None
    assert yaw.correlation_uniform > 0.25
    assert abs(yaw.correlation) < yaw.correlation_uniform / 2
    assert expression.same_person == 0
    assert json.loads((store / "store.json").read_text())["partitions"]["expression"]["strata"] == 8


def test_unknown_persons_are_not_one_person(tmp_path: Path) -> None:
    samples = faces().assign(identity=lambda table: table.identity.where(table.identity < 5))
    (pose,) = cluster_store(store_of(tmp_path / "store", samples[["sample_id", *POSE, "identity"]]), SMALL)
    assert pose.same_person is not None
    assert pose.same_person < 0.02


def recorded(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "store.json").read_text())["partitions"]
    return found


def test_a_chosen_number_of_clusters_is_recorded_with_its_reason(store: Path, tmp_path: Path) -> None:
    chosen = ClusterOptions(pose="auto", expression="auto", draws=2)
    reports = cluster_store(store, chosen)
    assert [*verify_partitions(open_store(store))] == []
    for report in reports:
        record = recorded(store)[report.name]
        assert report.choice is not None
        assert record["clusters"] == "auto"
        assert record["k"] == report.k == report.choice.k <= 600 // 20
        assert record["report"]["choice"] == asdict(report.choice)
    assert cluster_store(store, chosen) == tuple(replace(report, already_done=True) for report in reports)
    same = ClusterOptions(pose=reports[0].k, expression=reports[1].k, draws=2)
    with pytest.raises(GatedVAEError, match="Its clusters is auto, this command's is None"):
        cluster_store(store, same)
    plain = store_of(tmp_path / "plain", faces())
    cluster_store(plain, same)
    assert "clusters" not in recorded(plain)["pose"]
    with pytest.raises(GatedVAEError, match="Its clusters is None, this command's is auto"):
        cluster_store(plain, chosen)
    tables = [{name: data for name, data in contents(path).items() if name != "store.json"} for path in (store, plain)]
    assert tables[0] == tables[1]  # as if the number had been given


def test_the_command_reads_a_number_or_auto(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "-3", "many", "2.5", "Auto"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["cluster", str(store), "--pose", wrong])
        assert stopped.value.code == 2
        assert "neither a whole number" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    with pytest.raises(SystemExit) as stopped:
        cli.main(["cluster", str(store), "--pose", "auto", "--expression", "5"])
    assert stopped.value.code == 0
    assert "labels of one face seen twice" in " ".join(capsys.readouterr().out.split())


def check_repeats(store: Path, options: ClusterOptions, key: str, *, shown: object) -> None:
    """A store made with options verifies, is left alone with the same ones, and is refused without the one of `key`."""
    reports = cluster_store(store, options)
    assert [*verify_partitions(open_store(store))] == []
    assert all(record[key] == shown for record in recorded(store).values())
    before = contents(store)
    assert cluster_store(store, options) == tuple(replace(report, already_done=True) for report in reports)
    with pytest.raises(GatedVAEError, match="exists and differs"):
        cluster_store(store, replace(options, **{key: getattr(ClusterOptions(), key)}))
    assert contents(store) == before


@pytest.mark.parametrize("scale", ["none", "std"])
def test_partners_can_be_among_the_nearest_as_the_service_finds_them(store: Path, scale: str) -> None:
    check_repeats(store, replace(SMALL, nearest=3, scale=scale), "nearest", shown=3)
    pairs = pd.read_parquet(store / "pairs")
    for name in ("pose", "expression"):
        nearest = Partners(open_store(store), name).nearest(range(600), 3)
        own = pairs[pairs.partition == name]
        assert all(target in nearest[sample] for sample, target in zip(own.input_id, own.target_id, strict=True))


def test_clusters_can_be_cut_to_a_size(store: Path) -> None:
    options = ClusterOptions(pose=8, expression="auto", draws=2, balanced=20)
    reports = cluster_store(store, options)
    assert [*verify_partitions(open_store(store))] == []
    samples, groups = faces(), pd.read_parquet(store / "groups")
    for report in reports:
        record, centroids = recorded(store)[report.name], pd.read_parquet(centroids_path(store, report.name))
        own = groups[groups.partition == report.name]
        assert centroids["size"].max() <= 20
        assert record["k"] == report.k == len(centroids) == sum(report.sizes.values())
        assert (record["clusters"], record["balanced"]) == (options.clusters(report.name), 20)
        columns = list(report.columns)
        apart = np.linalg.norm(samples[columns].to_numpy() - centroids[columns].to_numpy()[own.group], axis=1)
        assert np.allclose(apart, own.distance, atol=1e-5)
    assert reports[0].k > 8
    assert cluster_store(store, options) == tuple(replace(report, already_done=True) for report in reports)
    for other in (replace(options, balanced=21), replace(options, balanced=None), replace(options, pose=9)):
        with pytest.raises(GatedVAEError, match="exists and differs"):
            cluster_store(store, other)


def test_partners_can_be_drawn_by_confidence(tmp_path: Path) -> None:
    low = np.arange(600) % 2 == 0
    samples = faces().assign(confidence=np.where(low, 0.817, 0.983))
    store = store_of(tmp_path / "store", samples)
    check_repeats(store, replace(SMALL, draws=8, confidence_weighted=True), "confidence_weighted", shown=True)
    pairs, groups = pd.read_parquet(store / "pairs"), pd.read_parquet(store / "groups")
    for name in ("pose", "expression"):
        group = groups[groups.partition == name].group.to_numpy()
        own = pairs[pairs.partition == name]
        others = pd.DataFrame({"low": low, "group": group}).groupby("group").low.agg(["sum", "count"]).loc[group]
        lows, highs = others["sum"].to_numpy() - low, (others["count"] - others["sum"]).to_numpy() - ~low
        expected = (17 * lows / (17 * lows + 183 * highs)).mean()
        assert low[own.target_id].mean() == pytest.approx(expected, abs=0.02)
