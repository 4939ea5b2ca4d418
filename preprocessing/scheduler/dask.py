"""Tasks on the workers of a Dask scheduler, `--scheduler ADDRESS`: connecting, and saying why nothing would ever be done."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from gated_vae.preprocessing.compute import Result, RunTasks, Tasks, stream
from gated_vae.preprocessing.errors import GatedVAEError

SECONDS = 5.0  # that a scheduler, a first worker and their answers may take
TOLD_WORKERS = 4  # of those that lack the package, in a message
_PACKAGE = "gated-vae"


def stream_tasks(function: Callable[..., Result], tasks: Tasks, *, scheduler: str | None = None) -> Iterator[Result]:
    """As `stream` on a cluster; without a scheduler each task runs in this thread when its result is asked for."""
    with cluster(scheduler) as run:
        yield from run(function, tasks)


@contextmanager
def cluster(scheduler: str | None) -> Iterator[RunTasks]:
    """The workers of a Dask scheduler, such as ``tcp://host:8786``, or this thread.

    Raises
    ------
    GatedVAEError
        When no scheduler answers, it has no workers (while tasks run, too), or they or it lack this package.
    """
    if scheduler is None:
        yield lambda function, tasks: (function(*task) for task in tasks)
        return
    with _connect(scheduler) as client:
        ahead = 2 * max(1, sum(client.nthreads().values()))
        yield partial(stream, client.get_executor(pure=False), ahead, result=partial(_result, client, scheduler))


def dashboard(scheduler: str) -> str:
    """Where the dashboard of a Dask scheduler is to be looked at, in words; errors as of `cluster`."""
    with _connect(scheduler) as client:
        shown = "dashboard" in client.scheduler_info(n_workers=0)["services"]
        link = client.dashboard_link if shown else "it has no dashboard"
        return f"Dask scheduler {scheduler}, {len(client.nthreads())} workers: {link}"


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """A client of a scheduler that has workers; knock first, since Dask takes its whole timeout to notice a closed port."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it would bury the lines that say what is wrong
    try:
        url = urlsplit(address if "://" in address else f"tcp://{address}")
        socket.create_connection((url.hostname or "", url.port or 8786), SECONDS).close()
        client = Client(address, timeout=SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # refused, silent, no such host, or something else listens there
        remedy = "Start one with `dask scheduler` and `dask worker`, or leave --scheduler out to compute here."
        why = f"{type(error).__name__}: {error}"
        raise GatedVAEError(f"No Dask scheduler answers at {address}.", why, remedy) from None
    with client:
        _wait_for_a_worker(client, address)
        _check_imports(client, address)
        yield client


def _wait_for_a_worker(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError:
        remedy = f"Start some with `dask worker {address}`, or leave --scheduler out to compute here."
        what = f"The Dask scheduler at {address} has no workers."
        raise GatedVAEError(what, f"None has come in {SECONDS:g} s.", remedy) from None


def _check_imports(client: Any, address: str) -> None:
    """Let scheduler and workers import what tasks are made of: without it Dask drops the tasks and says nothing."""
    try:
        failed = client.run(import_module, __name__, on_error="return", callback_timeout=SECONDS)
    except TimeoutError:  # some are busy, or hang: Dask gives their tasks to others
        return
    failed = {name: error for name, error in failed.items() if isinstance(error, ImportError)}  # others may have died
    try:
        client.run_on_scheduler(import_module, __name__)
    except ImportError as error:
        failed["the scheduler"] = error
    if not failed:
        return
    versions = client.get_versions(packages=[_PACKAGE])
    told = {**versions["workers"], "the scheduler": versions["scheduler"]}
    lines = [f"{name}: {error} ({_versions(told[name])})" for name, error in failed.items() if name in told]
    more = f" and {len(lines) - TOLD_WORKERS} more" if len(lines) > TOLD_WORKERS else ""
    why = f"{'; '.join(lines[:TOLD_WORKERS])}{more}. Here: {_versions(versions['client'])}."
    remedy = "Install the same version of it for scheduler and workers, or leave --scheduler out to compute here."
    raise GatedVAEError(f"Workers of {address} lack gated_vae.", why, remedy)


def _versions(told: Any) -> str:
    python = ".".join(told["host"]["python"].split(".")[:3])
    return f"Python {python}, {_PACKAGE} {told['packages'].get(_PACKAGE) or 'not installed'}"


def _result(client: Any, address: str, future: Future[Result]) -> Result:
    """Wait for a task's result as long as there are workers."""
    while True:
        try:
            return future.result(SECONDS)
        except TimeoutError:
            if future.done():  # the task's own
                raise
            _wait_for_a_worker(client, address)
        except CancelledError:
            remedy = "Start it again, then run the same command again."
            raise GatedVAEError(f"The Dask scheduler at {address} went away.", "", remedy) from None
