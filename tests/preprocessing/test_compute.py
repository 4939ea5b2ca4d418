from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gated_vae.preprocessing.compute import RunTasks, processes, read_ahead, threads
from gated_vae.preprocessing.errors import GatedVAEError
from tests.machine import HANG, until


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


def run_all(
    where: AbstractContextManager[RunTasks], function: Callable[..., Any], tasks: list[tuple[Any, ...]]
) -> list[Any]:
    with where as run:
        return list(run(function, tasks))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
    assert run_all(threads(workers), wait_and_square, tasks) == [n * n for n in range(9)]


def test_workers_work_at_the_same_time() -> None:
    """Each waits for the three others."""
    together = threading.Barrier(4)
    assert sorted(run_all(threads(4), together.wait, [(HANG,)] * 4)) == [0, 1, 2, 3]


def test_only_a_few_tasks_are_under_way() -> None:
    begun: list[int] = []
    with threads(2) as run:
        for result in run(lambda number: begun.append(number) or number, ((number,) for number in range(50))):
            time.sleep(0.01)
            assert len(begun) <= result + 5  # this one, and two for each worker
    assert sorted(begun) == list(range(50))


def test_no_task_runs_on_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run_all(threads(2), fail_first, [(str(tmp_path), number) for number in range(50)])
    left = sorted(tmp_path.iterdir())
    assert len(left) <= 6  # what was under way, two for each worker, and one more
    time.sleep(0.15)
    assert sorted(tmp_path.iterdir()) == left


def test_no_task_outlives_whoever_stops_asking(tmp_path: Path) -> None:
    def touch(number: int) -> None:
        (tmp_path / f"{number}").touch()
        time.sleep(0.05)
        (tmp_path / f"{number}").unlink()

    def stop_at_the_first(run: RunTasks) -> None:
        for _ in run(touch, [(number,) for number in range(50)]):
            raise KeyboardInterrupt

    with threads(2) as run:
        with pytest.raises(KeyboardInterrupt):
            stop_at_the_first(run)
        assert list(tmp_path.iterdir()) == []


def test_processes_give_the_same_and_drop_what_has_not_begun_after_a_failure(tmp_path: Path) -> None:
    with processes(2) as run:
        tasks = [(number, 0.02 if number % 2 else 0.0) for number in range(9)]
        assert list(run(wait_and_square, tasks)) == [n * n for n in range(9)]
        masks = list(run(signal.pthread_sigmask, [(signal.SIG_BLOCK, ())] * 4))
        assert all(signal.SIGINT in mask for mask in masks)  # left to this process
        assert {os.getpid()}.isdisjoint(run(os.getpid, [()] * 4))
    with processes(2) as run:
        with pytest.raises(OSError, match="No space left"):
            list(run(fail_first, [(str(tmp_path), number) for number in range(50)]))
        left = sorted(tmp_path.iterdir())
    assert len(left) < 10
    assert sorted(tmp_path.iterdir()) == left  # none ran on, though the processes did


def test_the_death_of_a_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match=r"worker process died.*\n.*memory.*\n.*--workers"):
        run_all(processes(2), die_once, [(str(tmp_path), number) for number in range(6)])


def test_no_tasks_and_no_workers() -> None:
    assert run_all(threads(1), wait_and_square, []) == []
    for where in (threads, processes):
        with pytest.raises(GatedVAEError, match="workers"):
            run_all(where(0), wait_and_square, [(1, 0.0)])


@pytest.mark.parametrize("depth", [1, 3])
def test_items_are_read_ahead_in_another_thread(depth: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            assert threading.current_thread() is not threading.main_thread()
            made.append(number)
            yield number

    for number in read_ahead(items(), depth):
        time.sleep(0.005)
        assert number < len(made) <= number + 1 + depth
    assert made == list(range(20))
    made.clear()
    assert next(read_ahead(items(), depth)) == 0
    assert len(made) <= 1 + depth
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(1 // number for number in (1, 0)))


def test_a_process_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from gated_vae.preprocessing.compute import processes\n"
        "if __name__ == '__main__':\n"
        "    with processes(1) as run:\n"
        "        print(*run(os.getpid, [()]), flush=True)\n"
        "        list(run(time.sleep, [(60,)]))\n"
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        assert started.stdout is not None
        child = int(started.stdout.readline())
        time.sleep(0.5)
        assert _is_running(child)
        started.kill()
    until(lambda: not _is_running(child))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
