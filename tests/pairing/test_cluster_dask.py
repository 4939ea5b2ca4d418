"""Clustering and pairing in shards, of samples and on a Dask cluster: the bytes of one process, whatever happens to workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gated_vae.pairing import tables
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.groups import columns, kmeans
from gated_vae.pairing.groups.columns import LabelColumns, training_rows
from gated_vae.pairing.groups.kmeans import cut_blocks, fit_kmeans
from gated_vae.pairing.rules import Rule
from gated_vae.pipelines import cli
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.scheduler.dask import stream_tasks
from gated_vae.preprocessing.store import open_store, samples_path
from tests.pairing.test_cluster import POSE, UNITS, contents, faces, store_of

MANY = 9000  # two shards of 4,096 samples, the second with the rest
INDEPENDENT = ClusterOptions({"pose": 20, "expression": 30}, rule=Rule("independent", 4), draws=3)
NEAREST = ClusterOptions({"pose": 20, "expression": 30}, rule=Rule("nearest", 5), draws=3)
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
def test_the_rows_asked_for_come_from_every_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_group_size: int
) -> None:
    monkeypatch.setattr(columns, "SHARD_ROWS", 1000)
    samples = faces(MANY)
    store = store_of(tmp_path / "store", samples)
    samples.to_parquet(samples_path(store), row_group_size=row_group_size)
    labels = LabelColumns(open_store(store), POSE)
    rows = np.sort(np.random.default_rng(0).integers(0, MANY, 500))
    assert np.array_equal(labels.take(rows), samples[POSE].to_numpy()[rows])
    assert np.array_equal(labels.training(), samples[POSE].to_numpy())


def test_a_table_with_other_rows_than_the_store_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", faces(100))
    faces(99).to_parquet(samples_path(store))
    with pytest.raises(GatedVAEError, match="99 rows"):
        LabelColumns(open_store(store), POSE).training()


def test_shards_change_no_byte(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    options = ClusterOptions({"pose": 20, "expression": 30}, draws=3)
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
    store = open_store(store_of(tmp_path / "store", samples))
    for k, training, names in ((20, 2000, POSE), (30, 2000, [*UNITS, "AU45_r"]), (1500, 2000, POSE)):
        found = LabelColumns(store, names).group(k, seed=0, device="auto", training=training)
        points = samples[names].to_numpy()
        expected = fit_kmeans(points[training_rows(MANY, max(2000, 2 * k), 0)], k)
        assert np.array_equal(found.centroids, expected.positions)
        apart = np.linalg.norm(points[:, None] - found.centroids[None], axis=2)
        assert (apart[np.arange(MANY), found.group] <= apart.min(axis=1) + 1e-5).all()


@pytest.mark.usefixtures("small_shards")
def test_numbers_that_are_not_finite_are_found_outside_the_sample(tmp_path: Path) -> None:
    samples = faces(MANY)
    chosen = set(training_rows(MANY, 2000, 0).tolist())
    samples.loc[next(row for row in range(5000, MANY) if row not in chosen), "pose_Ry"] = np.nan
    store = store_of(tmp_path / "store", samples)
    with pytest.raises(GatedVAEError, match="not finite"):
        LabelColumns(open_store(store), POSE).group(20, seed=0, device="auto", training=2000)
    with pytest.raises(GatedVAEError, match=r"1 of \d+ samples have no pose_Ry"):
        cluster_store(store, ClusterOptions({"pose": 20, "expression": 30}))
    assert not (store / "groups").exists()


def test_a_scheduler_that_is_missing_is_told_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "store", faces())
    before = contents(store)
    with pytest.raises(GatedVAEError, match="No Dask scheduler answers"):
        cluster_store(store, ClusterOptions({"pose": 20, "expression": 30}), scheduler=NOBODY)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["cluster", str(store), "--scheduler", NOBODY])
    assert stopped.value.code == 1
    assert "No Dask scheduler answers" in capsys.readouterr().err
    assert contents(store) == before


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("options", [INDEPENDENT, NEAREST])
def test_a_cluster_makes_the_same_bytes(cluster: Any, tmp_path: Path, options: ClusterOptions) -> None:
    here, there = (store_of(tmp_path / name, faces(MANY)) for name in ("here", "there"))
    cluster_store(here, options)
    cluster_store(there, options, scheduler=cluster.scheduler_address)
    assert contents(here) == contents(there)


@pytest.mark.slow
def test_the_command_says_where_its_workers_can_be_watched(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "store", faces())
    with pytest.raises(SystemExit) as stopped:
        cli.main(["cluster", str(store), "--pose", "20", "--scheduler", cluster.scheduler_address])
    assert stopped.value.code == 0
    assert re.search(r"2 workers:\s+http://.*/status", capsys.readouterr().err)


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

    first = iter([killing] * 3)  # then as ever
    monkeypatch.setattr(columns, "stream_tasks", lambda *a, **o: next(first, stream_tasks)(*a, **o))
    cluster_store(there, INDEPENDENT, scheduler=cluster.scheduler_address)
    assert len(killed) == 3  # reading, assigning, and reading the other labels
    assert contents(here) == contents(there)
