"""Run independent tasks in threads, in processes or on a Dask cluster: all are executors, results come in the order of the tasks.

Tasks share nothing but files: one whose worker dies is done again. Threads start at once; processes import for half a second.
"""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import repeat, takewhile
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gated_vae.preprocessing.errors import GatedVAEError

Result = TypeVar("Result")
Tasks = Iterable[tuple[Any, ...]]  # arguments of each
RunTasks = Callable[[Callable[..., Any], Tasks], Iterator[Any]]  # `stream` on some executor


def stream(executor: Executor, ahead: int, function: Callable[..., Result], tasks: Tasks) -> Iterator[Result]:
    """Call `function` with each tuple of arguments on an executor; yield the results in the order of the tasks.

    At most `ahead` tasks are under way beyond the one asked for. Whatever ends it early, an error of a task included: those that
    have not begun are dropped, those that run are waited for. On a cluster files lie under the same path for every worker.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(function, *task))
            if len(waiting) > ahead:
                yield waiting[0].result()
                waiting.popleft()
        while waiting:
            yield waiting[0].result()
            waiting.popleft()
    finally:
        wait([future for future in waiting if not future.cancel()])


def stream_tasks(function: Callable[..., Result], tasks: Tasks, *, scheduler: str | None = None) -> Iterator[Result]:
    """As `stream` on a cluster; without a scheduler each task runs in this thread when its result is asked for."""
    with cluster(scheduler) as run:
        yield from run(function, tasks)


def read_ahead(items: Iterable[Result], depth: int = 1) -> Generator[Result, None, None]:
    """Yield what `items` gives, made in another thread up to `depth` ahead of what is asked for."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        yield from takewhile(lambda item: item is not end, stream(pool, depth, next, repeat((iterator, end))))


@contextmanager
def threads(workers: int | None = None) -> Iterator[RunTasks]:
    """Threads to run tasks in, one for every core when None; `GatedVAEError` when below one."""
    count = count_workers(workers)
    with ThreadPoolExecutor(count) as pool:
        yield partial(stream, pool, 2 * count)


@contextmanager
def processes(workers: int | None = None, *, interruptible: bool = False) -> Iterator[RunTasks]:
    """Fresh processes to run tasks in that end with this one, even by kill -9; see `threads`.

    An interrupt from the keyboard ends what they are doing if `interruptible`; otherwise this process waits for that. One that
    dies is told as a `GatedVAEError`. A script starts its work under ``if __name__ == "__main__":``, as each process imports it.
    """
    fresh, count = multiprocessing.get_context("spawn"), count_workers(workers)
    with ProcessPoolExecutor(count, fresh, _end_with_parent) as pool:
        try:
            # Interrupts go to every process of a terminal. Held back here while they start, they never reach them at all.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, set() if interruptible else {signal.SIGINT})
            try:
                pool.map(int, range(count))  # starts them all, as none can be idle yet
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield partial(stream, pool, 2 * count)
        except BrokenProcessPool as error:
            remedy = "Run the same command again, with fewer --workers if memory is short: it goes on where it stopped."
            raise GatedVAEError("A worker process died.", "It may have run out of memory.", remedy) from error
        pool.shutdown(wait=False)  # nothing runs any more


def _end_with_parent() -> None:
    def watch() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]  # this is a child
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    multiprocessing.util.Finalize(None, os._exit, (0,), exitpriority=-100)  # taking imports apart would take 0.1 s


def count_workers(workers: int | None = None) -> int:
    """How many workers `workers` stands for: every core this process may use when None."""
    if workers is not None and workers < 1:
        raise GatedVAEError(f"{workers} workers cannot do anything.", "", "Give --workers 1 or more.")
    return workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@contextmanager
def cluster(scheduler: str | None) -> Iterator[RunTasks]:
    """The workers of a Dask scheduler, such as ``tcp://host:8786``, or this thread; `GatedVAEError` when none answers."""
    if scheduler is None:
        yield lambda function, tasks: (function(*task) for task in tasks)
        return
    with _connect(scheduler) as client:
        yield partial(stream, client.get_executor(pure=False), 2 * max(1, sum(client.nthreads().values())))


def dashboard(scheduler: str) -> str:
    """Where the dashboard of a Dask scheduler is to be looked at, in words; `GatedVAEError` when none answers."""
    with _connect(scheduler) as client:
        shown = "dashboard" in client.scheduler_info(n_workers=0)["services"]
        link = client.dashboard_link if shown else "it has no dashboard"
        return f"Dask scheduler {scheduler}, {len(client.nthreads())} workers: {link}"


def _connect(address: str, seconds: float = 5) -> Any:
    """Connect to a scheduler; knock first, since a Dask client takes its whole timeout to notice a closed port."""
    from distributed import Client

    try:
        url = urlsplit(address if "://" in address else f"tcp://{address}")
        socket.create_connection((url.hostname or "", url.port or 8786), seconds).close()
        return Client(address, timeout=seconds, set_as_default=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # refused, silent, no such host, or something else listens there
        remedy = "Start one with `dask scheduler` and `dask worker`, or leave --scheduler out to compute here."
        why = f"{type(error).__name__}: {error}"
        raise GatedVAEError(f"No Dask scheduler answers at {address}.", why, remedy) from None
