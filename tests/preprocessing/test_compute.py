from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gated_vae.preprocessing.compute import processes, run_tasks
from gated_vae.preprocessing.errors import GatedVAEError


def wait_and_square(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * number


def fail_first(folder: str, number: int) -> None:
    """The first to start fails, whichever it is; the others leave a mark."""
    try:
        Path(folder, "first").touch(exist_ok=False)
    except FileExistsError:
        time.sleep(0.05)
        Path(folder, str(number)).touch()
    else:
        raise OSError(28, "No space left on device")


def die_once(folder: str, number: int) -> int:
    if number == 3:
        try:
            Path(folder, "died").touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def is_imported(module: str) -> bool:
    return module in sys.modules


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        yield local.scheduler_address


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
    seen: list[int] = []
    assert run_tasks(wait_and_square, tasks, workers=workers, progress=seen.append) == [n * n for n in range(9)]
    assert seen == list(range(1, 10))


def test_workers_work_at_the_same_time() -> None:
    start = time.perf_counter()
    run_tasks(wait_and_square, [(number, 0.2) for number in range(4)], workers=4)
    assert time.perf_counter() - start < 0.6


def test_no_task_runs_on_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run_tasks(fail_first, [(str(tmp_path), number) for number in range(50)], workers=2)
    left = sorted(tmp_path.iterdir())
    assert len(left) < 5
    time.sleep(0.15)
    assert sorted(tmp_path.iterdir()) == left


def test_processes_give_the_same_and_drop_what_has_not_begun_after_a_failure(tmp_path: Path) -> None:
    seen: list[int] = []
    with processes(2) as pool:
        tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
        assert run_tasks(wait_and_square, tasks, pool=pool, progress=seen.append) == [n * n for n in range(9)]
        assert seen == list(range(1, 10))
        masks = run_tasks(signal.pthread_sigmask, [(signal.SIG_BLOCK, ())] * 4, pool=pool)
        assert all(signal.SIGINT in mask for mask in masks)  # left to this process
        assert {os.getpid()}.isdisjoint(run_tasks(os.getpid, [()] * 4, pool=pool))
    with processes(2) as pool:
        with pytest.raises(OSError, match="No space left"):
            run_tasks(fail_first, [(str(tmp_path), number) for number in range(50)], pool=pool)
        left = sorted(tmp_path.iterdir())
    assert len(left) < 10
    assert sorted(tmp_path.iterdir()) == left  # none ran on, though the processes did


def test_processes_import_what_they_are_told_to_at_once() -> None:
    with processes(1, module="gated_vae.preprocessing.sources.celeba.faces") as pool:
        assert run_tasks(
            is_imported,
            [("gated_vae.preprocessing.sources.celeba.faces",), ("gated_vae.preprocessing.sources.dsprites.build",)],
            pool=pool,
        ) == [
            True,
            False,
        ]


def test_the_death_of_a_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match=r"worker process died.*\n.*memory.*\n.*--workers"), processes(2) as pool:
        run_tasks(die_once, [(str(tmp_path), number) for number in range(6)], pool=pool)


def test_no_tasks_and_no_workers() -> None:
    assert run_tasks(wait_and_square, [], workers=1) == []
    with pytest.raises(GatedVAEError, match="workers"):
        run_tasks(wait_and_square, [(1, 0.0)], workers=0)
    with pytest.raises(GatedVAEError, match="workers"), processes(-1):
        pass


def test_a_scheduler_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    start = time.perf_counter()
    for address in (f"tcp://127.0.0.1:{port}", f"127.0.0.1:{port}", "nonsense"):
        with pytest.raises(GatedVAEError, match="No Dask scheduler answers"):
            run_tasks(wait_and_square, [(1, 0.0)], scheduler=address)
    assert time.perf_counter() - start < 3


@pytest.mark.slow
def test_a_cluster_gives_the_same(cluster: str) -> None:
    tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
    seen: list[int] = []
    assert run_tasks(wait_and_square, tasks, scheduler=cluster, progress=seen.append) == [n * n for n in range(9)]
    assert seen == list(range(1, 10))


@pytest.mark.slow
def test_the_task_of_a_worker_that_dies_is_done_again(cluster: str, tmp_path: Path) -> None:
    assert run_tasks(die_once, [(str(tmp_path), number) for number in range(6)], scheduler=cluster) == list(range(6))
    assert (tmp_path / "died").exists()


def test_a_process_ends_when_the_one_that_started_it_is_killed() -> None:
    child = "import os, sys, time; from gated_vae.preprocessing.compute import end_with; end_with(int(sys.argv[1])); time.sleep(60)"
    parent = (
        "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]);"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        grandchild = int(started.stdout.readline())
        time.sleep(1)
        started.kill()
    deadline = time.monotonic() + 30
    while _is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
