"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import RunTasks, processes, threads
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.scheduler.dask import cluster
from gated_vae.preprocessing.sources.base import BadSourceError, Made, make_store
from gated_vae.preprocessing.sources.celeba.faces import INTENSITIES, POSE
from gated_vae.preprocessing.sources.celeba.samples import sample_table, undetected
from gated_vae.preprocessing.sources.celeba.select import choose_faces, find_whole_pictures
from gated_vae.preprocessing.sources.celeba.survey import CelebaOptions, survey
from gated_vae.preprocessing.sources.celeba.tasks import cut_shards, decode_shard, load_faces, read_shard
from gated_vae.preprocessing.store import rejected_path
from gated_vae.preprocessing.store_writer import REGION_IMAGES, Plan, StoreWriter

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba"]

PROCESSES_FROM = 10_000  # CSVs: what processes take to start, threads lose on about so many by sharing the interpreter


@dataclass(frozen=True)
class CelebaReport:
    """What `preprocess_celeba` did."""

    store: Path
    seen: int  # faces, frames, unreadable rows and files, and images without a face
    taken: int  # how many of them became samples
    rejected: dict[str, int]  # count by reason, most frequent first; `taken` and these add up to `seen`
    without_identity: int | None  # samples that the lists do not name; None without a list
    without_split: int | None
    seconds: float
    already_done: bool  # True when the store was there already and nothing was written


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
    elif workers != 1 and len(source.found.sizes) >= PROCESSES_FROM:
        where = processes(workers)
    made = make_store(source, out, overwrite=overwrite, workers=where, progress=progress)
    return _report(made, out, time.perf_counter() - started)


class CelebaSource:
    """Faces that OpenFace found, as a `DataSource`."""

    def __init__(self, options: CelebaOptions) -> None:
        self.options, self.found, self.root = options, survey(options), os.fspath(options.openface.absolute())

    def plan(self) -> Plan:
        """What decides the store."""
        return self.found.plan

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Read every CSV, choose the faces, decode their pictures."""
        faces, unread = self._read(writer.work, run, progress)  # rebound as it shrinks: at most one large table is kept
        if not {*POSE, *INTENSITIES} & set(faces):
            raise self._no_labels(unread)
        lonely = undetected(self.root, self.found.lonely_details)
        writer.seen = len(faces) + len(unread) + len(lonely)
        faces, dropped = choose_faces(faces, self.options.min_confidence, self.options.max_angle)
        self._decode(faces["picture"].tolist(), writer, run, progress)
        failed = writer.failed()
        bad = faces.iloc[list(failed)]
        broken = bad[["source", "row"]].assign(reason="unreadable_picture", detail=list(failed.values()))
        faces = faces.drop(bad.index)
        rejected = [*unread, *lonely, *dropped.to_dict("records"), *broken.to_dict("records")]
        if faces.empty:
            raise self._nothing_left(rejected)
        progress(1, 1, "writing")
        for item in rejected:
            writer.reject(**item)
        writer.samples(sample_table(faces, self.found.lists, whole=self.found.pictures is not None))

    def _read(self, work: Path, run: RunTasks, progress: Progress) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """First round: every face with its picture or why there is none, and what could not be read."""
        found = self.found
        shards = cut_shards(found.sizes)
        ends = list(accumulate(map(len, shards)))
        # Names that fit no shard cut in another way.
        paths = [work / f"faces-{end - len(shard):08d}-{end:08d}" for shard, end in zip(shards, ends, strict=True)]
        tasks = [
            (self.root, shard, found.pictures is None, os.fspath(path))
            for shard, path in zip(shards, paths, strict=True)
        ]
        total = 2 * len(found.sizes)  # every CSV is read, and about as many pictures
        for end, _ in zip(ends, run(read_shard, tasks), strict=True):
            progress(end, total, "reading CSVs")
        table, rejected = load_faces(paths)
        faces = table.to_pandas()
        if found.pictures is not None:
            return find_whole_pictures(faces, found.pictures), rejected.to_pylist()
        return faces.assign(missing="its _aligned folder has no picture of this face"), rejected.to_pylist()

    def _decode(self, pictures: list[bytes], writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Second round: the pictures into the store's images."""
        root = os.fspath(self.found.pictures.root) if self.found.pictures else self.root
        regions = writer.images(len(pictures), REGION_IMAGES)
        tasks = [(root, pictures[region.start : region.stop], region) for region in regions]
        before = len(self.found.sizes)
        for region, _ in zip(regions, run(decode_shard, tasks), strict=True):
            progress(before + region.stop, before + len(pictures), "decoding pictures")

    def _no_labels(self, unread: list[dict[str, Any]]) -> BadSourceError:
        first = next(iter(unread), None)
        why = f"{len(unread)} could not be read, first {first['source']}: {first['reason']}." if first else ""
        remedy = "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir."
        return BadSourceError(f"No CSV in {self.options.openface} has pose or action unit columns.", why, remedy)

    def _nothing_left(self, rejected: list[dict[str, Any]]) -> BadSourceError:
        counts = dict(Counter(item["reason"] for item in rejected).most_common())
        remedy = "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
        if next(iter(counts)) == "no_picture":
            remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
            if self.options.images:
                remedy = "Give with --images the folder that OpenFace was run on."
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        return BadSourceError(f"Nothing in {self.options.openface} can be taken.", f"Rejected: {why}.", remedy)


def _report(made: Made, out: Path, seconds: float) -> CelebaReport:
    store = made.store
    reasons = pq.read_table(rejected_path(out), columns=["reason"])["reason"]
    columns = {"identity": store.parameters["identities"], "split": store.parameters["partitions"]}
    absent = {name: int(store.sample_columns([name])[name].isna().sum()) for name, given in columns.items() if given}
    return CelebaReport(
        store=out,
        seen=store.manifest["seen"],
        taken=len(store),
        rejected=dict(Counter(reasons.to_pylist()).most_common()),
        without_identity=absent.get("identity"),
        without_split=absent.get("split"),
        seconds=seconds,
        already_done=made.already_done,
    )
