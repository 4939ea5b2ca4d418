"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import processes, run_tasks
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import file_digest, locked, sync, write_json, write_parquet
from gated_vae.preprocessing.image_file import finish_images
from gated_vae.preprocessing.sources.celeba.faces import INTENSITIES, POSE
from gated_vae.preprocessing.sources.celeba.rounds import Job, Progress, decode_all, drop_failed, read_all
from gated_vae.preprocessing.sources.celeba.samples import join_rejected, sample_table, to_rejected, undetected
from gated_vae.preprocessing.sources.celeba.select import Limits, choose_faces
from gated_vae.preprocessing.sources.celeba.survey import CelebaOptions, has_csvs, survey
from gated_vae.preprocessing.sources.celeba.tasks import read_shard
from gated_vae.preprocessing.staging import discard_work, is_finished, open_work, publish
from gated_vae.preprocessing.store import (
    SCHEMA_VERSION,
    images_path,
    manifest_path,
    open_store,
    rejected_path,
    samples_path,
)

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba"]

PROCESSES_FROM = 10_000  # CSVs: what processes take to start, threads lose on about so many by sharing the interpreter


def ignore(done: int, total: int, note: str) -> None:
    """Progress hook that does nothing."""


class NothingToTakeError(GatedVAEError):
    """The input could be read, but no sample comes of it."""


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
        Threads, or from `PROCESSES_FROM` CSVs on processes here (every core when None; a script that calls this then needs
        ``if __name__ == "__main__":``), or the address of a Dask scheduler. See `run_tasks`.
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
    there = manifest_path(out).exists() and not overwrite  # so that nothing is left to do but to look
    many = scheduler is None and workers != 1 and not there and has_csvs(options, PROCESSES_FROM)
    # They import while the source is listed.
    with processes(workers, module=read_shard.__module__) if many else nullcontext() as pool:
        source = survey(options)
        with locked(out):
            done = not overwrite and is_finished(out, source.plan)
            if not done:
                run = partial(run_tasks, workers=workers, pool=pool, scheduler=scheduler)
                job = Job(source, options.size, open_work(out.absolute(), source.plan), run, progress)
                try:
                    _build(job, options, out)
                except NothingToTakeError:
                    discard_work(out)  # a better input must not find it in its way
                    raise
            discard_work(out)
    return _report(out, time.perf_counter() - started, done)


def _build(job: Job, options: CelebaOptions, out: Path) -> None:
    faces, unread = read_all(job)  # rebound as it shrinks: at most one large table is kept
    if not {*POSE, *INTENSITIES} & set(faces):
        raise _no_labels(options, unread)
    lonely = undetected(job.source)
    seen = len(faces) + len(unread) + len(lonely)
    faces, dropped = choose_faces(faces, Limits(options.min_confidence, options.max_angle))
    staged = job.work / "store"
    images = images_path(staged)
    filled = decode_all(job, faces["picture"].tolist(), images)
    faces, failed = drop_failed(faces, filled)
    rejected = join_rejected([unread, lonely, to_rejected(dropped), failed])
    taken = len(faces)
    if taken + len(rejected) != seen:
        raise AssertionError(f"{taken} taken and {len(rejected)} rejected are not the {seen} seen")
    if not taken:
        raise _nothing_left(options, rejected)
    job.progress(1, 1, "writing")
    digests = {images.name: finish_images(images, filled, options.size)}
    with ThreadPoolExecutor(1) as beside:
        synced = beside.submit(sync, images)
        for path, table in (
            (samples_path(staged), sample_table(faces, job.source)),
            (rejected_path(staged), rejected),
        ):
            write_parquet(path, table, schema_version=SCHEMA_VERSION)
            digests[path.name] = file_digest(path)
        synced.result()
    write_json(manifest_path(staged), {**_manifest(job, seen, taken), "digests": digests})
    publish(out, staged)


def _manifest(job: Job, seen: int, taken: int) -> dict[str, Any]:
    plan = job.source.plan
    return {
        "schema_version": plan["schema_version"],
        "kind": plan["kind"],
        "source_digest": plan["source_digest"],
        "image_shape": [job.size, job.size],
        "seen": seen,
        "taken": taken,
        "rejected": seen - taken,
        "parameters": plan["parameters"],
        "partitions": {},
    }


def _count_reasons(rejected: pa.Table) -> dict[str, int]:
    return dict(Counter(rejected["reason"].to_pylist()).most_common())


def _no_labels(options: CelebaOptions, unread: pa.Table) -> NothingToTakeError:
    first = next(iter(unread.to_pylist()), None)
    why = f"{len(unread)} could not be read, first {first['source']}: {first['reason']}." if first else ""
    remedy = "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir."
    return NothingToTakeError(f"No CSV in {options.openface} has pose or action unit columns.", why, remedy)


def _nothing_left(options: CelebaOptions, rejected: pa.Table) -> NothingToTakeError:
    counts = _count_reasons(rejected)
    remedy = "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
    if next(iter(counts)) == "no_picture":
        remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
        if options.images:
            remedy = "Give with --images the folder that OpenFace was run on."
    why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return NothingToTakeError(f"Nothing in {options.openface} can be taken.", f"Rejected: {why}.", remedy)


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
