"""Run independent tasks on the cores of this machine or on a Dask cluster, results in the order of the tasks.

Tasks share nothing but files, so a worker that dies only has its task done again. On this machine they are threads, which
start at once, or processes, which import for half a second and then share nothing, not even the interpreter's lock.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gated_vae.preprocessing.errors import GatedVAEError

Result = TypeVar("Result")
Progress = Callable[[int], None]

CONNECT_SECONDS = 5


def ignore(done: int) -> None:
    """Progress hook that does nothing."""


def cores() -> int:
    """Cores this process may use: the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_workers(workers: int | None) -> int:
    """How many workers `workers` stands for: every core when None; `GatedVAEError` when below one."""
    if workers is not None and workers < 1:
        raise GatedVAEError(f"{workers} workers cannot do anything.", "", "Give --workers 1 or more.")
    return workers or cores()


def end_with(parent: int) -> None:
    """Make this process end within a second when the one that started it does, even by kill -9."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _begin(parent: int, module: str) -> None:
    end_with(parent)
    import_module(module)
    atexit.register(os._exit, 0)  # nothing is left to be tidied up, and taking the imported apart takes 0.1 s


@contextmanager
def processes(
    workers: int | None, *, interruptible: bool = False, module: str = __name__
) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that end with this one, even by kill -9; on an error what has not begun is dropped.

    A script that comes here must start its work under ``if __name__ == "__main__":``, since each process imports it.

    Parameters
    ----------
    workers:
        How many: one for every core when None.
    interruptible:
        Whether an interrupt from the keyboard ends what they are doing, too; otherwise this process waits for that.
    module:
        What they import at once, so that the first tasks need not wait for it.

    Raises
    ------
    GatedVAEError
        When `workers` is below one, or one of them dies.
    """
    fresh, count = multiprocessing.get_context("spawn"), count_workers(workers)
    with ProcessPoolExecutor(count, fresh, _begin, (os.getpid(), module)) as pool:
        try:
            # Interrupts go to every process of a terminal. Held back here while they start, they never reach them at all.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, set() if interruptible else {signal.SIGINT})
            try:
                for _ in range(count):
                    pool.submit(int)  # starts one, as none can be idle yet
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield pool
        except BrokenProcessPool as error:
            remedy = "Run the same command again, with fewer --workers if memory is short: it goes on where it stopped."
            raise GatedVAEError("A worker process died.", "It may have run out of memory.", remedy) from error
        finally:
            pool.shutdown(cancel_futures=True)


def run_tasks(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int | None = None,
    pool: ProcessPoolExecutor | None = None,
    scheduler: str | None = None,
    progress: Progress = ignore,
) -> list[Result]:
    """Call `function` with each tuple of arguments and return the results in the order of `tasks`.

    Parameters
    ----------
    function:
        A function of a module; for processes and a cluster it and its arguments must pickle, and its files lie where every
        worker sees them under the same path.
    workers:
        Threads on this machine (every core when None); a cluster uses the workers it has.
    pool:
        Processes to use instead of threads, as `processes` gives them.
    scheduler:
        Address of a Dask scheduler, such as ``tcp://host:8786``; None for this machine.
    progress:
        Called in this thread, with the number of tasks finished so far, each time one finishes.

    Raises
    ------
    GatedVAEError
        When `workers` is below one, or the scheduler does not answer within 5 seconds.
    Exception
        Whatever a task raised; tasks not begun by then are dropped.
    """
    at_once = count_workers(workers)
    calls = [partial(function, *task) for task in tasks]
    if not calls:
        return []
    if scheduler is not None:
        return _run_cluster(calls, scheduler, progress)
    if pool is not None:
        return _run_processes(calls, pool, progress)
    return _run_threads(calls, at_once, progress)


def _run_threads(calls: Sequence[Callable[[], Result]], workers: int, progress: Progress) -> list[Result]:
    from dask.callbacks import Callback
    from dask.threaded import get

    done = count(1)
    keys = [f"task-{index}" for index in range(len(calls))]
    graph = {key: (call,) for key, call in zip(keys, calls, strict=True)}
    counting = Callback(posttask=lambda *_: progress(next(done)))  # type: ignore[no-untyped-call]
    with ThreadPoolExecutor(workers) as pool, counting:  # leaving waits for tasks that run: none outlives this call
        return list(get(graph, keys, pool=pool, num_workers=workers))


def _run_processes(
    calls: Sequence[Callable[[], Result]], pool: ProcessPoolExecutor, progress: Progress
) -> list[Result]:
    futures = [pool.submit(call) for call in calls]
    try:
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()  # raises what the task raised
            progress(done)
    except BaseException:
        wait([future for future in futures if not future.cancel()])  # no task outlives this call
        raise
    return [future.result() for future in futures]


def _run_cluster(calls: Sequence[Callable[[], Result]], address: str, progress: Progress) -> list[Result]:
    import distributed

    with _connect(address) as client:
        places = {client.submit(call, pure=False): place for place, call in enumerate(calls)}
        results: dict[int, Result] = {}
        for done, future in enumerate(distributed.as_completed(places, loop=client.loop), start=1):  # type: ignore[no-untyped-call]
            results[places[future]] = future.result()  # raises what the task raised
            future.release()  # a worker keeps no result that has been fetched
            progress(done)
        return [results[place] for place in range(len(calls))]


def stream_tasks(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], *, scheduler: str | None = None
) -> Iterator[Result]:
    """Call `function` with each tuple of arguments and yield the results in the order of `tasks`, few at a time.

    For results that do not fit into memory together: without a scheduler one is made when it is asked for, in this
    thread; a cluster works on up to two tasks a thread ahead of what was asked for.

    Raises
    ------
    GatedVAEError
        When the scheduler does not answer within 5 seconds.
    Exception
        Whatever a task raised.
    """
    if scheduler is None:
        yield from (function(*task) for task in tasks)
        return
    with _connect(scheduler) as client:
        ahead = 2 * max(1, sum(client.nthreads().values()))
        waiting: deque[Any] = deque()
        for task in tasks:
            waiting.append(client.submit(function, *task, pure=False))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_ahead(items: Iterable[Result], depth: int = 1) -> Generator[Result, None, None]:
    """Yield what `items` gives, made in another thread up to `depth` ahead of what is asked for."""
    iterator, end = iter(items), object()
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            while True:
                while len(waiting) <= depth:
                    waiting.append(pool.submit(next, iterator, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


def dashboard(scheduler: str) -> str:
    """Where the dashboard of a Dask scheduler is to be looked at, in words.

    Raises
    ------
    GatedVAEError
        When the scheduler does not answer within 5 seconds.
    """
    with _connect(scheduler) as client:
        shown = "dashboard" in client.scheduler_info(n_workers=0)["services"]
        link = client.dashboard_link if shown else "it has no dashboard"
        return f"Dask scheduler {scheduler}, {len(client.nthreads())} workers: {link}"


def _connect(address: str) -> Any:
    """Connect to a scheduler; knock first, since a Dask client takes its whole timeout to notice a closed port."""
    from distributed import Client

    try:
        url = urlsplit(address if "://" in address else f"tcp://{address}")
        socket.create_connection((url.hostname or "", url.port or 8786), CONNECT_SECONDS).close()
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # refused, silent, no such host, or something else listens there
        remedy = "Start one with `dask scheduler` and `dask worker`, or leave --scheduler out to compute here."
        raise GatedVAEError(
            f"No Dask scheduler answers at {address}.", f"{type(error).__name__}: {error}", remedy
        ) from None
