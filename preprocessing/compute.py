"""Run independent tasks on any executor, in threads or processes: results come in the order of the tasks.

Tasks share nothing but files. Threads start at once; processes import for half a second.
"""

from __future__ import annotations

import multiprocessing.util
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, TypeVar

from gated_vae.preprocessing.errors import GatedVAEError

Result = TypeVar("Result")
Tasks = Iterable[tuple[Any, ...]]  # arguments of each
RunTasks = Callable[[Callable[..., Any], Tasks], Iterator[Any]]  # `stream` on some executor
Stop = Callable[[], bool] | None
Wait = Callable[[Future[Any]], Any]
PATIENCE = 0.2  # seconds between looks at whether to go on waiting


def stream(
    executor: Executor, ahead: int, function: Callable[..., Result], tasks: Tasks, result: Wait = Future.result
) -> Iterator[Result]:
    """Call `function` with each tuple of arguments on an executor; yield the results in the order of the tasks.

    At most `ahead` tasks are under way beyond the one asked for; `result` waits for that. Whatever ends it early, an error of a
    task included: those that have not begun are dropped, those that run are waited for.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(function, *task))
            if len(waiting) > ahead:
                yield result(waiting[0])
                waiting.popleft()
        while waiting:
            yield result(waiting[0])
            waiting.popleft()
    finally:
        wait([future for future in waiting if not future.cancel()])


def read_ahead(items: Iterable[Result], depth: int = 1, stop: Stop = None) -> Generator[Result, None, None]:
    """Yield what `items` gives, made in another thread up to `depth` ahead of what is asked for.

    When whoever reads breaks off, that thread is waited for. With `stop` it may be one that hangs, and is left behind after a
    moment; `stop` is asked while nothing comes, and ends the reading by an `InterruptedError`.
    """
    made: SimpleQueue[tuple[Result] | BaseException | None] = SimpleQueue()
    room, left = Semaphore(depth), Event()

    def make() -> None:
        try:
            for item in items:
                made.put((item,))
                if room.acquire() and left.is_set():
                    return
            made.put(None)
        except BaseException as error:  # for whoever reads
            made.put(error)

    thread = Thread(target=make, daemon=True)  # a process does not wait for it
    thread.start()
    try:
        while (item := _next(made, stop)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
            room.release()
    finally:
        left.set()
        room.release()
        thread.join(PATIENCE if stop else None)


def _next(made: SimpleQueue[Result], stop: Stop) -> Result:
    while True:
        try:
            return made.get(timeout=PATIENCE)
        except Empty:
            if stop and stop():
                raise InterruptedError("Reading was stopped.") from None


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
            remedy = "Run the same command again, with fewer --workers or --seeds if memory is short: it goes on where it stopped."
            raise GatedVAEError("A worker process died.", "It may have run out of memory.", remedy) from error
        pool.shutdown(wait=False)  # nothing runs any more


def _end_with_parent() -> None:
    def watch() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]  # this is a child
        os._exit(1)

    Thread(target=watch, daemon=True).start()
    multiprocessing.util.Finalize(None, os._exit, (0,), exitpriority=-100)  # taking imports apart would take 0.1 s


def count_workers(workers: int | None = None) -> int:
    """How many workers `workers` stands for: every core this process may use when None."""
    if workers is not None and workers < 1:
        raise GatedVAEError(f"{workers} workers cannot do anything.", "", "Give --workers 1 or more.")
    return workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
