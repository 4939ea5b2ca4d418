"""Tasks on a Dask cluster, and clusters on which no task would ever be done."""

from __future__ import annotations

import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.scheduler import dask
from gated_vae.preprocessing.scheduler.dask import cluster, dashboard, stream_tasks
from tests.machine import HANG, own_host
from tests.preprocessing.test_compute import die_once, fail_first, run_all, wait_and_square


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        yield local.scheduler_address


def test_a_scheduler_that_is_not_there_is_told_before_dask_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[object] = []
    monkeypatch.setattr("distributed.Client", lambda *_, **__: clients.append(1))
    with socket.socket() as deaf:  # it does not listen
        deaf.bind((own_host(), 0))
        closed = "{}:{}".format(*deaf.getsockname())
        for address in (f"tcp://{closed}", closed, "nonsense"):
            with pytest.raises(GatedVAEError, match="No Dask scheduler answers"):
                run_all(cluster(address), wait_and_square, [(1, 0.0)])
    assert not clients


@pytest.fixture
def lonely() -> Iterator[str]:
    """A scheduler that nobody works for, in this process."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0") as local:
        yield local.scheduler_address


@contextmanager
def worker(scheduler: str, before: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that works for a scheduler; `before` is what it does first."""
    options = '[sys.argv[1], "--no-nanny", "--no-dashboard", "--nthreads", "1"]'
    script = f"import sys\n{before}\nfrom distributed.cli.dask_worker import main\nmain({options})"
    with subprocess.Popen([sys.executable, "-c", script, scheduler], stderr=subprocess.DEVNULL) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_scheduler_without_workers_is_told(lonely: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client

    assert dask.SECONDS <= 5
    real = Client.wait_for_workers
    monkeypatch.setattr(Client, "wait_for_workers", lambda client, count, timeout: real(client, count, timeout / 50))
    monkeypatch.setattr(dask, "SECONDS", 25.0)  # for all else
    with pytest.raises(GatedVAEError, match="has no workers") as refused:
        run_all(cluster(lonely), wait_and_square, [(1, 0.0)])
    assert f"dask worker {lonely}" in refused.value.remedy


def test_a_worker_that_lacks_the_package_is_told_with_its_versions(
    lonely: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "SECONDS", HANG)  # it may start slowly
    with worker(lonely, 'sys.modules["gated_vae"] = None'), pytest.raises(GatedVAEError) as refused:
        dashboard(lonely)
    assert re.match(r"Workers of tcp://127.0.0.1:\d+ lack gated_vae.", refused.value.what)
    python = platform.python_version()
    why = rf"tcp://127.0.0.1:\d+: .*gated_vae.* \(Python {python}, gated-vae .*\). Here: Python {python}, "
    assert re.match(why, refused.value.why)


def test_workers_that_all_go_while_tasks_run_are_told(lonely: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "SECONDS", HANG)
    with worker(lonely) as only, cluster(lonely) as run:
        results = run(wait_and_square, [(1, 0.0), (2, HANG)])
        assert next(results) == 1
        only.kill()
        monkeypatch.setattr(dask, "SECONDS", 0.5)
        with pytest.raises(GatedVAEError, match="has no workers"):
            next(results)


@pytest.mark.slow
def test_a_cluster_gives_the_same(scheduler: str) -> None:
    tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
    for where in (scheduler, None):
        assert run_all(cluster(where), wait_and_square, tasks) == [n * n for n in range(9)]
        assert list(stream_tasks(wait_and_square, tasks, scheduler=where)) == [n * n for n in range(9)]


@pytest.mark.slow
def test_a_cluster_drops_what_has_not_begun_after_a_failure(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run_all(cluster(scheduler), fail_first, [(str(tmp_path), number) for number in range(50)])
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) < 10


@pytest.mark.slow
def test_the_task_of_a_worker_that_dies_is_done_again(scheduler: str, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    assert run_all(cluster(scheduler), die_once, tasks) == list(range(6))
    assert (tmp_path / "died").exists()
