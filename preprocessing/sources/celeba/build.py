"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import RunTasks, cluster, processes, threads
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.sources.base import BadSourceError, Made, make_store
from gated_vae.preprocessing.sources.celeba.faces import INTENSITIES, POSE
from gated_vae.preprocessing.sources.celeba.samples import sample_table, undetected
from gated_vae.preprocessing.sources.celeba.select import Limits, choose_faces, find_whole_pictures
from gated_vae.preprocessing.sources.celeba.survey import CelebaOptions, survey
from gated_vae.preprocessing.sources.celeba.tasks import (
    SHARD_PICTURES,
    cut_shards,
    decode_shard,
    load_faces,
    read_shard,
)
from gated_vae.preprocessing.store import rejected_path, samples_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba"]

PROCESSES_FROM = 10_000  # CSVs: what processes take to start, threads lose on about so many by sharing the interpreter


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
    """Make a store of the faces in `options.openface` in the folder `out`; see `make_store`.

    Parameters
    ----------
    workers, scheduler:
        Threads, or from `PROCESSES_FROM` CSVs on processes here (every core when None; a script that calls this then needs
        ``if __name__ == "__main__":``), or the address of a Dask scheduler.
    """
    started = time.perf_counter()
    source = CelebaSource(options)
    where = threads(workers)
    if scheduler is not None:
        where = cluster(scheduler)
    elif workers != 1 and len(source.found.csvs) >= PROCESSES_FROM:
        where = processes(workers)
    made = make_store(source, out, overwrite=overwrite, workers=where, progress=progress)
    return _report(made, out, time.perf_counter() - started)


class CelebaSource:
    """Faces that OpenFace found, as a `DataSource`."""

    def __init__(self, options: CelebaOptions) -> None:
        self.options, self.found = options, survey(options)

    def plan(self) -> Plan:
        """What decides the store."""
        return self.found.plan

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Read every CSV, choose the faces, decode their pictures."""
        faces, unread = self._read(writer.work, run, progress)  # rebound as it shrinks: at most one large table is kept
        if not {*POSE, *INTENSITIES} & set(faces):
            raise self._no_labels(unread)
        lonely = undetected(self.found.root, self.found.lonely_details)
        writer.seen = len(faces) + len(unread) + len(lonely)
        faces, dropped = choose_faces(faces, Limits(self.options.min_confidence, self.options.max_angle))
        self._decode(faces["picture"].tolist(), writer, run, progress)
        faces, broken = _drop_failed(faces, writer.failed())
        rejected = [*unread, *lonely, *dropped.to_dict("records"), *broken.to_dict("records")]
        if faces.empty:
            raise self._nothing_left(rejected)
        progress(1, 1, "writing")
        for item in rejected:
            writer.reject(**item)
        lists = [labels for labels in (self.found.identities, self.found.splits) if labels is not None]
        writer.samples(sample_table(faces, lists, whole=self.found.pictures is not None))

    def _read(self, work: Path, run: RunTasks, progress: Progress) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """First round: every face with its picture or why there is none, and what could not be read."""
        found, root = self.found, os.fspath(self.found.root)
        shards = cut_shards(found.csvs, found.sizes)
        ends = list(accumulate(map(len, shards)))
        # Names that fit no shard cut in another way.
        paths = [work / f"faces-{end - len(shard):08d}-{end:08d}" for shard, end in zip(shards, ends, strict=True)]
        aligned = found.pictures is None
        tasks = [(root, shard, aligned, os.fspath(path)) for shard, path in zip(shards, paths, strict=True)]
        total = 2 * len(found.csvs)  # every CSV is read, and about as many pictures
        for end, _ in zip(ends, run(read_shard, tasks), strict=True):
            progress(end, total, "reading CSVs")
        table, rejected = load_faces(paths)
        faces = table.to_pandas()
        if found.pictures is not None:
            return find_whole_pictures(faces, found.pictures), rejected.to_pylist()
        return faces.assign(missing="its _aligned folder has no picture of this face"), rejected.to_pylist()

    def _decode(self, pictures: list[bytes], writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Second round: the pictures into the store's images."""
        root = os.fspath(self.found.pictures.root if self.found.pictures else self.found.root)
        regions = writer.images(len(pictures), SHARD_PICTURES)
        tasks = [(root, pictures[region.start : region.stop], region) for region in regions]
        before = len(self.found.csvs)
        for region, _ in zip(regions, run(decode_shard, tasks), strict=True):
            progress(before + region.stop, before + len(pictures), "decoding pictures")

    def _no_labels(self, unread: list[dict[str, Any]]) -> BadSourceError:
        first = next(iter(unread), None)
        why = f"{len(unread)} could not be read, first {first['source']}: {first['reason']}." if first else ""
        remedy = "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir."
        return BadSourceError(f"No CSV in {self.options.openface} has pose or action unit columns.", why, remedy)

    def _nothing_left(self, rejected: list[dict[str, Any]]) -> BadSourceError:
        counts = _count_reasons(item["reason"] for item in rejected)
        remedy = "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
        if next(iter(counts)) == "no_picture":
            remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
            if self.options.images:
                remedy = "Give with --images the folder that OpenFace was run on."
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        return BadSourceError(f"Nothing in {self.options.openface} can be taken.", f"Rejected: {why}.", remedy)


def _drop_failed(faces: pd.DataFrame, failed: dict[int, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split off the faces whose pictures could not be decoded, as rejected items."""
    bad = faces.iloc[list(failed)]
    broken = bad[["source", "row"]].assign(reason="unreadable_picture", detail=list(failed.values()))
    return faces.drop(bad.index), broken


def _count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())


def _report(made: Made, out: Path, seconds: float) -> CelebaReport:
    store = made.store
    columns = [name for name in ("identity", "split") if name in pq.read_schema(samples_path(out)).names]
    absent = store.sample_columns(columns).isna().sum() if columns else {}
    return CelebaReport(
        store=out,
        seen=store.manifest["seen"],
        taken=len(store),
        rejected=_count_reasons(pq.read_table(rejected_path(out), columns=["reason"])["reason"].to_pylist()),
        without_identity=int(absent["identity"]) if "identity" in columns else None,
        without_split=int(absent["split"]) if "split" in columns else None,
        seconds=seconds,
        already_done=made.already_done,
    )
