"""Clustering and pairing in shards, of samples and on a Dask cluster: the bytes of one process, whatever happens to workers."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gated_vae.pairing import drawing, tables
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.drawing import Drawing, draw_blocks
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.groups import columns, kmeans
from gated_vae.pairing.groups.columns import LabelColumns, training_rows
from gated_vae.pairing.groups.kmeans import cut_blocks, fit_kmeans
from gated_vae.pairing.rules.uniform import Members
from gated_vae.pipelines import cli
from gated_vae.preprocessing.compute import stream_tasks
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import centroids_path, open_store, samples_path
from tests.pairing.test_cluster import POSE, UNITS, contents, faces, store_of
from tests.pairing.test_exact import make_store

MANY = 9000  # two shards of 4,096 samples, the second with the rest
INDEPENDENT = ClusterOptions(pose=20, expression=30, draws=3, strata=4, other_person=True)
SAMPLED = ClusterOptions(pose=20, expression=30, draws=3, train_sample=2000)
NEAREST = ClusterOptions(pose=20, expression=30, draws=3, nearest=5)
WEIGHTED = ClusterOptions(pose="auto", expression=30, draws=3, balanced=40, confidence_weighted=True)
NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SHARD_ROWS", 4096)
    monkeypatch.setattr(kmeans, "BLOCK", 4096)
    monkeypatch.setattr(tables, "BLOCK_ROWS", 3000)  # with 3 draws: blocks of 1,000 inputs


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as local:
        yield local


def test_blocks_cover_everything_and_none_is_smaller_than_asked_for() -> None:
    assert cut_blocks(10, 4) == [(0, 4), (4, 10)]
    assert cut_blocks(8, 4) == [(0, 4), (4, 8)]
    assert cut_blocks(3, 4) == [(0, 3)]


@pytest.mark.parametrize(("samples", "size"), [(1000, 1000), (1000, 7), (10**9, 1000)])
def test_a_training_sample_is_spread_evenly_and_without_repetition(samples: int, size: int) -> None:
    rows = training_rows(samples, size, seed=3)
    assert (np.diff(rows) > 0).all()
    assert (rows * size // samples == np.arange(size)).all() or size == 7  # one of every stretch
    assert rows[0] >= 0
    assert rows[-1] < samples
    assert np.array_equal(rows, training_rows(samples, size, seed=3))
    assert size == samples or not np.array_equal(rows, training_rows(samples, size, seed=4))


@pytest.mark.parametrize("d", [2, 17])
def test_points_cut_into_shards_are_assigned_as_all_at_once(d: int) -> None:
    points = np.random.default_rng(0).gamma(0.5, 1.0, (3 * kmeans.BLOCK + 5, d))
    centroids = fit_kmeans(points[:5000], 50, device="cpu")
    whole = centroids.assign(points, "cpu")
    cuts = np.split(points, [kmeans.BLOCK, 2 * kmeans.BLOCK])
    parts = [np.concatenate(part) for part in zip(*(centroids.assign(cut, "cpu") for cut in cuts), strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("row_group_size", [100, 5000, 100_000])
def test_rows_come_in_the_order_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_group_size: int) -> None:
    monkeypatch.setattr(columns, "SHARD_ROWS", 1000)
    samples = faces(MANY)
    store = store_of(tmp_path / "store", samples)
    samples.to_parquet(samples_path(store), row_group_size=row_group_size)
    labels = LabelColumns(open_store(store), POSE)
    rows = np.random.default_rng(0).integers(0, MANY, 500)
    assert np.array_equal(labels.take(rows), samples[POSE].to_numpy()[rows])
    assert np.array_equal(labels.all(), samples[POSE].to_numpy())


def test_a_table_with_other_rows_than_the_store_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", faces(100))
    faces(99).to_parquet(samples_path(store))
    with pytest.raises(GatedVAEError, match="99 rows"):
        LabelColumns(open_store(store), POSE).all()


def test_shards_change_no_byte(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    options = ClusterOptions(pose=20, expression=30, draws=3)
    whole, sharded = (store_of(tmp_path / name, faces(MANY)) for name in ("whole", "sharded"))
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(tables, "BLOCK_ROWS", 3000)
    cluster_store(whole, options)
    request.getfixturevalue("small_shards")
    cluster_store(sharded, options)
    assert contents(whole) == contents(sharded)


@pytest.mark.usefixtures("small_shards")
def test_a_sample_decides_the_centroids_and_all_are_assigned_to_them(tmp_path: Path) -> None:
    samples = faces(MANY)
    store = store_of(tmp_path / "store", samples)
    cluster_store(store, ClusterOptions(pose=20, expression=30, draws=1, train_sample=2000))
    for name, k, names in (("pose", 20, POSE), ("expression", 30, [*UNITS, "AU45_r"])):
        points = samples[names].to_numpy()
        expected = fit_kmeans(points[training_rows(MANY, 2000, 0)], k).positions
        centroids = pd.read_parquet(centroids_path(store, name))[names].to_numpy()
        assert np.array_equal(centroids, expected)
        groups = pd.read_parquet(store / "groups").query("partition == @name").group.to_numpy()
        apart = np.linalg.norm(points[:, None] - centroids[None], axis=2)
        assert (apart[np.arange(MANY), groups] <= apart.min(axis=1) + 1e-5).all()


def test_a_sample_is_recorded_only_where_it_takes_effect(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", faces())

    def clustered(size: int, *, overwrite: bool = False) -> list[bool]:
        options = ClusterOptions(pose=20, expression=30, draws=1, train_sample=size)
        return [report.already_done for report in cluster_store(store, options, overwrite=overwrite)]

    def recorded() -> set[int | None]:
        partitions = json.loads((store / "store.json").read_text())["partitions"]
        return {record.get("train_sample") for record in partitions.values()}

    assert clustered(600) == [False, False]
    assert recorded() == {None}
    assert clustered(10_000) == [True, True]
    with pytest.raises(GatedVAEError, match="Its train_sample is None, this command's is 500"):
        clustered(500)
    assert clustered(500, overwrite=True) == [False, False]
    assert recorded() == {500}
    with pytest.raises(GatedVAEError, match="Its train_sample is 500, this command's is None"):
        clustered(600)


def test_a_sample_too_small_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", faces())
    before = contents(store)
    with pytest.raises(GatedVAEError, match=r"30 clusters need 60 or more.*\nRaise --train-sample"):
        cluster_store(store, ClusterOptions(pose=20, expression=30, train_sample=59))
    assert contents(store) == before


@pytest.mark.usefixtures("small_shards")
def test_numbers_that_are_not_finite_are_found_outside_the_sample(tmp_path: Path) -> None:
    samples = faces(MANY)
    chosen = set(training_rows(MANY, 2000, 0).tolist())
    samples.loc[next(row for row in range(5000, MANY) if row not in chosen), "pose_Ry"] = np.nan
    store = store_of(tmp_path / "store", samples)
    with pytest.raises(GatedVAEError, match="not finite"):
        cluster_store(store, ClusterOptions(pose=20, expression=30, train_sample=2000))
    assert not (store / "groups").exists()


def test_a_scheduler_that_is_missing_is_told_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "store", faces())
    before = contents(store)
    with pytest.raises(GatedVAEError, match="No Dask scheduler answers"):
        cluster_store(store, ClusterOptions(pose=20, expression=30), scheduler=NOBODY)
    with pytest.raises(GatedVAEError, match="No Dask scheduler answers"):
        pair_exactly(open_store(store), {"person": ["identity"]}, scheduler=NOBODY)
    for words in (["cluster", str(store)], ["pair", str(store), "--share", "person=identity"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*words, "--scheduler", NOBODY])
        assert stopped.value.code == 1
        assert "No Dask scheduler answers" in capsys.readouterr().err
    assert contents(store) == before


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("options", [SAMPLED, INDEPENDENT, NEAREST, WEIGHTED])
def test_a_cluster_makes_the_same_bytes(cluster: Any, tmp_path: Path, options: ClusterOptions) -> None:
    here, there = (store_of(tmp_path / name, faces(MANY)) for name in ("here", "there"))
    cluster_store(here, options)
    said: list[str] = []
    cluster_store(there, options, scheduler=cluster.scheduler_address, progress=said.append)
    assert contents(here) == contents(there)
    assert re.search(r"2 workers: http://.*/status", said[0])


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_exact_pairs_drawn_on_a_cluster_are_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    person = np.random.default_rng(0).integers(0, 300, MANY)
    for name in ("here", "there"):
        scheduler = None if name == "here" else cluster.scheduler_address
        labels = {"sample_id": np.arange(MANY), "image": np.arange(MANY).astype(str), "person": person}
        store = make_store(tmp_path / name / "faces", labels)
        pair_exactly(store, {"person": ["person"]}, draws=3, scheduler=scheduler)
        grid = {"sample_id": np.arange(6000), "image": np.arange(6000).astype(str)}
        grid |= {"a": np.arange(6000) // 2000, "b": np.arange(6000) // 100 % 20, "c": np.arange(6000) % 100}
        store = make_store(tmp_path / name / "grid", grid, {"a": 3, "b": 20, "c": 100})
        pair_exactly(store, {"p": ["b", "a"], "q": ["c"]}, draws=3, scheduler=scheduler)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_a_worker_that_is_killed_changes_nothing(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = (store_of(tmp_path / name, faces(MANY)) for name in ("here", "there"))
    cluster_store(here, INDEPENDENT)
    killed: list[int] = []

    def killing(*arguments: Any, **options: Any) -> Iterator[Any]:
        """Kill a worker as soon as the first of several results is there."""
        for place, result in enumerate(stream_tasks(*arguments, **options)):
            if place == 0:
                killed.append(cluster.workers[len(killed) % 2].process.pid)
                os.kill(killed[-1], signal.SIGKILL)
            yield result

    monkeypatch.setattr(drawing, "stream_tasks", killing)
    assigning = iter([killing])  # then as ever
    monkeypatch.setattr(columns, "stream_tasks", lambda *a, **o: next(assigning, stream_tasks)(*a, **o))
    cluster_store(there, INDEPENDENT, scheduler=cluster.scheduler_address)
    assert len(killed) == 3  # reading, then drawing for either partition
    assert contents(here) == contents(there)


@pytest.mark.slow
def test_files_for_workers_go_when_drawing_ends_or_fails(cluster: Any, tmp_path: Path) -> None:
    group = np.arange(100, dtype=np.int32) % 10
    scheduler = cluster.scheduler_address
    blocks = [(0, 50), (50, 100)]
    made = Drawing(Members.of(group), 0)
    (tmp_path / ".drawing").mkdir()
    (tmp_path / ".drawing" / "left").touch()
    drawn = np.concatenate([*draw_blocks(tmp_path, group, made, 2, blocks, scheduler=scheduler)], axis=1)
    assert np.array_equal(drawn[1], made(np.arange(100), 1))
    assert list(tmp_path.iterdir()) == []
    wrong = np.arange(100, dtype=np.int32) % 7  # partners by other groups than those of the table
    with pytest.raises(GatedVAEError, match="of another group"):
        list(draw_blocks(tmp_path, wrong, made, 2, blocks, scheduler=scheduler))
    assert list(tmp_path.iterdir()) == []


def test_only_what_workers_can_be_told_is_drawn_there(tmp_path: Path) -> None:
    group = np.zeros(10, np.int32)
    plain = Members.of(group)
    with pytest.raises(TypeError, match="Drawing"):
        next(
            draw_blocks(
                tmp_path,
                group,
                lambda ids, draw: plain.partners(ids, seed=0, draw=draw),
                1,
                [(0, 10)],
                scheduler=NOBODY,
            )
        )
