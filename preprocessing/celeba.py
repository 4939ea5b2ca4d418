"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.compute import run_tasks
from preprocessing.errors import GatedVAEError
from preprocessing.faces import INTENSITIES, POSE
from preprocessing.files import atomic_path, locked, write_parquet
from preprocessing.images import Pixels
from preprocessing.join import Limits, choose_faces, find_whole_pictures
from preprocessing.samples import join_rejected, sample_table, to_rejected, undetected
from preprocessing.shards import (
    SHARD_PICTURES,
    cut_shards,
    decode_shard,
    load_faces,
    load_failed,
    load_pixels,
    read_shard,
)
from preprocessing.source import CelebaOptions, Source, survey
from preprocessing.staging import discard_work, is_finished, open_work, publish
from preprocessing.store import SCHEMA_VERSION, images_path, open_store, rejected_path, samples_path

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba", "write_images"]

Progress = Callable[[int, int, str], None]  # (steps done, steps in all, what is under way)


def ignore(done: int, total: int, note: str) -> None:
    """Progress hook that does nothing."""


@dataclass(frozen=True)
class CelebaReport:
    """What `preprocess_celeba` did.

    Attributes
    ----------
    store:
        The store's folder.
    seen, taken:
        Faces, frames, unreadable rows and files, and images without a face; and how many of them became samples.
    rejected:
        Count by reason, most frequent first; `taken` and these add up to `seen`.
    without_identity, without_split:
        Samples that the lists do not name; None without a list.
    seconds:
        Time it took.
    already_done:
        True when the store was there already and nothing was written.
    """

    store: Path
    seen: int
    taken: int
    rejected: dict[str, int]
    without_identity: int | None
    without_split: int | None
    seconds: float
    already_done: bool


@dataclass(frozen=True)
class _Job:
    """One run: what to read, where to work, what to compute with."""

    options: CelebaOptions
    source: Source
    work: Path
    run: Callable[..., Any]  # run_tasks on the workers or the cluster asked for
    progress: Progress

    def finish(
        self, function: Callable[..., None], tasks: Sequence[tuple[Any, ...]], step: Callable[[int], None]
    ) -> None:
        """Run the tasks whose file, their last argument, is not there yet; `step` gets the number of finished ones."""
        left = [task for task in tasks if not Path(task[-1]).exists()]
        finished = len(tasks) - len(left)
        self.run(function, left, progress=lambda done: step(finished + done))


def preprocess_celeba(
    options: CelebaOptions,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> CelebaReport:
    """Make a store of the faces in `options.openface` in the folder `out`.

    A run that was interrupted goes on where it stopped when run again, and ends with the same bytes, whatever the
    number of workers.

    Parameters
    ----------
    workers, scheduler:
        Threads here (every core when None), or the address of a Dask scheduler (see `run_tasks`).
    overwrite:
        Replace what lies in `out` (once the new store is complete), its groups and pairs included.
    progress:
        Called with steps done, steps in all and what is under way, whenever a task has finished.

    Raises
    ------
    GatedVAEError
        When the source is missing or holds nothing to take, when `out` holds something else or is in use.
    OSError
        When writing fails; what was in `out` before is still there.
    """
    started = time.perf_counter()
    source = survey(options)
    run = partial(run_tasks, workers=workers, scheduler=scheduler)
    with locked(out):
        done = not overwrite and is_finished(out, source.plan)
        if not done:
            _build(_Job(options, source, open_work(out, source.plan), run, progress), out)
        discard_work(out)
    return _report(out, time.perf_counter() - started, done)


def write_images(path: Path, blocks: Iterable[Pixels], count: int, size: int) -> None:
    """Write blocks of pixels, uint8 (n, size, size), as one npy file of (count, size, size).

    By plain writes: pages of a mapped file would count as resident memory.
    """
    with atomic_path(path) as partial_path, partial_path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.data)


def _build(job: _Job, out: Path) -> None:
    faces, unread = _read_all(job)
    lonely = undetected(job.options.openface, job.source.lonely_details)
    seen = len(faces) + len(unread) + len(lonely)
    taken, dropped = choose_faces(faces, Limits(job.options.min_confidence, job.options.max_angle))
    shards = _decode_all(job, taken["picture"].tolist())
    taken, failed = _drop_failed(taken, shards)
    rejected = join_rejected([unread, lonely, to_rejected(dropped), failed])
    if len(taken) + len(rejected) != seen:
        raise AssertionError(f"{len(taken)} taken and {len(rejected)} rejected are not the {seen} seen")
    if taken.empty:
        discard_work(out)
        raise _nothing_left(job.options, rejected)
    job.progress(1, 1, "writing")
    staged = job.work / "store"
    write_images(images_path(staged), map(load_pixels, shards), len(taken), job.options.size)
    write_parquet(samples_path(staged), sample_table(taken, job.source), schema_version=SCHEMA_VERSION)
    write_parquet(rejected_path(staged), rejected, schema_version=SCHEMA_VERSION)
    publish(out, staged, _manifest(job, seen, len(taken)))


def _read_all(job: _Job) -> tuple[pd.DataFrame, pa.Table]:
    """First round: every face with its picture, as far as there is one, and what could not be read."""
    source, root = job.source, os.fspath(job.options.openface)
    shards = cut_shards(source.csvs, source.sizes)
    paths = [job.work / f"faces-{index:05d}.parquet" for index in range(len(shards))]
    aligned = source.pictures is None
    tasks = [(root, shard, aligned, os.fspath(path)) for shard, path in zip(shards, paths, strict=True)]
    ends = list(accumulate(map(len, shards)))
    total = 2 * len(source.csvs)  # every CSV is read, and about as many pictures
    job.finish(read_shard, tasks, lambda done: job.progress(ends[done - 1], total, "reading CSVs"))
    faces, rejected = load_faces(paths)
    if not {*POSE, *INTENSITIES} & set(faces.column_names):
        why = (
            f"The first of {len(rejected)} faults: {rejected['source'][0]}: {rejected['reason'][0]}."
            if len(rejected)
            else ""
        )
        remedy = "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir."
        raise GatedVAEError(f"No CSV in {root} has pose or action unit columns.", why, remedy)
    table = faces.to_pandas()
    if source.pictures is not None:
        return find_whole_pictures(table, source.pictures), rejected
    return table.assign(missing="its _aligned folder has no picture of this face"), rejected


def _decode_all(job: _Job, pictures: list[bytes]) -> list[Path]:
    """Second round: pixels of the pictures, in shards."""
    starts = range(0, len(pictures), SHARD_PICTURES)
    paths = [job.work / f"pixels-{index:05d}.npz" for index in range(len(starts))]
    tasks = [
        (pictures[start : start + SHARD_PICTURES], job.options.size, os.fspath(path))
        for start, path in zip(starts, paths, strict=True)
    ]
    before = len(job.source.csvs)

    def step(done: int) -> None:
        job.progress(before + min(done * SHARD_PICTURES, len(pictures)), before + len(pictures), "decoding pictures")

    job.finish(decode_shard, tasks, step)
    return paths


def _drop_failed(faces: pd.DataFrame, shards: Sequence[Path]) -> tuple[pd.DataFrame, pa.Table]:
    """Split off the faces whose pictures could not be decoded."""
    failed = {
        start * SHARD_PICTURES + place: fault
        for start, shard in enumerate(shards)
        for place, fault in load_failed(shard).items()
    }
    bad = faces.iloc[list(failed)]
    reasons = pd.DataFrame(list(failed.values()), bad.index, ["reason", "detail"], "str")
    return faces.drop(bad.index), to_rejected(bad[["source", "row"]].join(reasons))


def _manifest(job: _Job, seen: int, taken: int) -> dict[str, Any]:
    plan, size = job.source.plan, job.options.size
    return {
        "schema_version": plan["schema_version"],
        "kind": plan["kind"],
        "source_digest": plan["source_digest"],
        "image_shape": [size, size],
        "seen": seen,
        "taken": taken,
        "rejected": seen - taken,
        "parameters": plan["parameters"],
        "partitions": {},
    }


def _count_reasons(rejected: pa.Table) -> dict[str, int]:
    return dict(Counter(rejected["reason"].to_pylist()).most_common())


def _nothing_left(options: CelebaOptions, rejected: pa.Table) -> GatedVAEError:
    counts = _count_reasons(rejected)
    remedy = "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
    if next(iter(counts)) == "no_picture":
        remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
        if options.images:
            remedy = "Give with --images the folder that OpenFace was run on."
    why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return GatedVAEError(f"Nothing in {options.openface} can be taken.", f"Rejected: {why}.", remedy)


def _report(out: Path, seconds: float, already_done: bool) -> CelebaReport:
    store = open_store(out)
    columns = [name for name in ("identity", "split") if name in pq.read_schema(samples_path(out)).names]
    absent = store.sample_columns(columns).isna().sum() if columns else {}
    return CelebaReport(
        store=out,
        seen=store.manifest["seen"],
        taken=len(store),
        rejected=_count_reasons(pq.read_table(rejected_path(out), columns=["reason"])),
        without_identity=int(absent["identity"]) if "identity" in columns else None,
        without_split=int(absent["split"]) if "split" in columns else None,
        seconds=seconds,
        already_done=already_done,
    )
