"""What a new kind of data has to say for itself; staging, resuming, the account and publishing come from here."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import RunTasks, threads
from gated_vae.preprocessing.errors import BadSourceError
from gated_vae.preprocessing.files import locked, readable, refuse_overlap
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import REBUILD, Store, open_store, rejected_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter


class DataSource(Protocol):
    """Raw data that can become a store."""

    def plan(self) -> Plan:
        """What decides the store, told before anything is written; `GatedVAEError` when there is nothing to read."""

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress, /) -> None:
        """Fill the writer's images, give it the samples and what is rejected, and set what was seen.

        What an earlier, interrupted run has left in `writer.work` or in the regions is not done again. Tasks given to `run`
        run in threads, in processes or on a cluster: functions of a module, whose arguments pickle.

        Raises
        ------
        BadSourceError
            When nothing comes of the source.
        """


class Made(NamedTuple):
    """A store, and whether it was there already and nothing was written."""

    store: Store
    already_done: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a source, told in numbers."""

    store: Path
    seen: int  # items of the source: those taken and those rejected
    taken: int  # how many of them became samples
    rejected: dict[str, int]  # count by reason, most frequent first
    splits: dict[str, int]  # how many samples train, validate and test; empty where all train
    seconds: float
    already_done: bool  # True when the store was there already and nothing was written

    @classmethod
    def of(cls, made: Made, started: float, **more: Any) -> Self:
        """The report on a store; `started` is the `time.perf_counter` at the beginning, `more` the fields of a kind of report."""
        store = made.store
        with readable(rejected_path(store.path), REBUILD):
            reasons = Counter(pq.read_table(rejected_path(store.path), columns=["reason"])["reason"].to_pylist())
        return cls(
            store=store.path,
            seen=store.manifest["seen"],
            taken=len(store),
            rejected=dict(reasons.most_common()),
            splits=store.splits,
            seconds=time.perf_counter() - started,
            already_done=made.already_done,
            **more,
        )


def make_store(
    source: DataSource,
    out: Path,
    *,
    overwrite: bool = False,
    workers: AbstractContextManager[RunTasks] | None = None,
    progress: Progress = ignore,
) -> Made:
    """Make a store of a source in the folder `out`.

    A run that was interrupted goes on where it stopped when run again, and ends with the same bytes, whatever the workers.

    Parameters
    ----------
    overwrite:
        Replace what lies in `out` (once the new store is complete), its groups and pairs included.
    workers:
        What runs the source's tasks, started if there are any: `threads` on every core when None, or as they, `processes` and
        `cluster` of `compute` give them.
    progress:
        Told what the source tells.

    Raises
    ------
    GatedVAEError
        When the source is missing or holds nothing to take, when `out` holds something else or is in use, or when it is, holds
        or lies in what is read, or lies in a store or a run.
    OSError
        When writing fails; what was in `out` before is still there.
    """
    plan = source.plan()
    refuse_overlap(out, plan.inputs)  # before it is made
    with locked(out):
        writer = StoreWriter(out, plan)
        already_done = writer.is_finished(overwrite=overwrite)
        if not already_done or not writer.is_current():
            writer.begin()
            try:
                with workers or threads() as run:
                    source.build(writer, run, progress)
            except BadSourceError:
                writer.give_up()
                raise
            if already_done:
                writer.confirm()
            else:
                writer.publish()
        writer.discard()
        return Made(open_store(out), already_done)
