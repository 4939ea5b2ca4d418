"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import RunTasks, processes, threads
from gated_vae.preprocessing.errors import BadSourceError
from gated_vae.preprocessing.files import readable
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.scheduler.dask import cluster
from gated_vae.preprocessing.sources.base import Made, make_store
from gated_vae.preprocessing.sources.celeba.faces import CUT, INTENSITIES, POSE, Wanted
from gated_vae.preprocessing.sources.celeba.options import CelebaOptions
from gated_vae.preprocessing.sources.celeba.samples import sample_table, undetected
from gated_vae.preprocessing.sources.celeba.select import choose_faces, find_whole_pictures, leave_out_columns
from gated_vae.preprocessing.sources.celeba.survey import survey
from gated_vae.preprocessing.sources.celeba.tasks import cut_shards, decode_shard, load_faces, read_shard
from gated_vae.preprocessing.sources.splits import in_order
from gated_vae.preprocessing.store import REBUILD, rejected_path
from gated_vae.preprocessing.store_writer import REGION_IMAGES, Plan, StoreWriter

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba"]

BAD_SECTOR = os.strerror(errno.EIO)
FEW_BAD = 10  # files that it may cost, or one in a hundred: more is no matter of a few sectors
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
    splits: dict[str, int]  # how many samples train, validate and test; empty where all train
    left_out: dict[str, str]  # labels that few files have, and which
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
    return _report(made, source.left_out, time.perf_counter() - started)


class CelebaSource:
    """Faces that OpenFace found, as a `DataSource`."""

    def __init__(self, options: CelebaOptions) -> None:
        self.options, self.found, self.root = options, survey(options), os.fspath(options.openface.absolute())
        self.left_out: dict[str, str] = {}

    def plan(self) -> Plan:
        """What decides the store."""
        return self.found.plan

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Read every CSV, choose the faces, decode their pictures."""
        faces, unread = self._read(writer.work, run, progress)  # rebound as it shrinks: at most one large table is kept
        lonely = undetected(self.root, self.found.lonely_details)
        writer.seen = len(faces) + len(unread) + len(lonely)
        faces, self.left_out = leave_out_columns(faces)
        labels = {*POSE, *INTENSITIES} & set(faces)
        faces, dropped = choose_faces(faces, self.options, self.found.crop)
        failed: dict[int, tuple[str, str]] = {}
        if labels and len(faces):
            samples = sample_table(faces, self.found.people, whole=self.found.pictures is not None)
            if "split" in samples.column_names:
                order = in_order(samples["split"].to_pylist())
                faces, samples = faces.iloc[order], samples.take(order)
            self._decode(faces, writer, run, progress)
            failed = writer.failed()
        bad = faces.iloc[list(failed)][["source", "row"]].to_dict("records")
        told = [dict(zip(("reason", "detail"), why, strict=True)) for why in failed.values()]
        broken = [item | why for item, why in zip(bad, told, strict=True)]
        rejected = [*unread, *lonely, *dropped.to_dict("records"), *broken]
        for item in rejected:
            writer.reject(**item)
        self._refuse_bad_disk(rejected)
        if not labels or len(faces) == len(failed):
            raise self._nothing_left(rejected, writer.beside, len(faces), has_labels=bool(labels))
        progress(1, 1, "writing")
        writer.samples(samples.take(np.delete(np.arange(len(faces)), list(failed))))

    def _refuse_bad_disk(self, rejected: list[dict[str, Any]]) -> None:
        """Raise where more files than a few bad sectors may hold could not be read."""
        broken = [item for item in rejected if item["detail"].startswith(BAD_SECTOR)]
        if len(broken) > max(FEW_BAD, len(self.found.sizes) // 100):
            why = f"{len(broken)} files could not be read, the first is {broken[0]['source']}: {BAD_SECTOR}."
            remedy = "Look after the disk or network drive that they lie on, then run the same command again."
            raise BadSourceError(f"{self.options.openface} cannot be read.", why, remedy)

    def _read(self, work: Path, run: RunTasks, progress: Progress) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """First round: every face with its picture or why there is none, and what could not be read."""
        found, whole = self.found, self.found.pictures is not None
        wanted = Wanted(aligned=not whole, sizes=self.options.face == "largest", landmarks=whole)
        shards = cut_shards(found.sizes)
        ends = list(accumulate(map(len, shards)))
        # Names that fit no shard cut in another way.
        paths = [work / f"faces-{end - len(shard):08d}-{end:08d}" for shard, end in zip(shards, ends, strict=True)]
        tasks = [(self.root, shard, wanted, os.fspath(path)) for shard, path in zip(shards, paths, strict=True)]
        total = 2 * len(found.sizes)  # every CSV is read, and about as many pictures
        for end, _ in zip(ends, run(read_shard, tasks), strict=True):
            progress(end, total, "reading CSVs")
        table, rejected = load_faces(paths)
        faces = table.to_pandas()
        if found.pictures is not None:
            return find_whole_pictures(faces, found.pictures), rejected.to_pylist()
        return faces.assign(missing="its _aligned folder has no picture of this face"), rejected.to_pylist()

    def _decode(self, faces: pd.DataFrame, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Second round: the pictures into the store's images."""
        root = os.fspath(self.found.pictures.root) if self.found.pictures else self.root
        pictures = faces["picture"].tolist()
        cuts = faces[list(CUT)].to_numpy().reshape(-1, 2, 3) if self.found.pictures else None
        regions = writer.images(len(pictures), REGION_IMAGES)
        parts = [slice(region.start, region.stop) for region in regions]
        tasks = [
            (root, pictures[part], region, self.found.crop, None if cuts is None else cuts[part])
            for part, region in zip(parts, regions, strict=True)
        ]
        before = len(self.found.sizes)
        for region, _ in zip(regions, run(decode_shard, tasks), strict=True):
            progress(before + region.stop, before + len(pictures), "decoding pictures")

    def _nothing_left(
        self, rejected: list[dict[str, Any]], table: Path, rows: int, *, has_labels: bool
    ) -> BadSourceError:
        counts = Counter(item["reason"] for item in rejected).most_common()
        why = f"{rows} rows were read, none has them."
        if counts:
            first = next(item for item in rejected if item["reason"] == counts[0][0])
            where = first["source"] + ("" if first["row"] is None else f" row {first['row']}")
            why = ", ".join(f"{count} {reason}" for reason, count in counts)
            why = f"Rejected: {why}. The first, {where}: {first['detail'].rstrip('.')}. All are in {table}."
        what, remedy = "can be taken", "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
        if not has_labels:
            what = "has columns of OpenFace's pose or action units"
            remedy = "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir."
        elif counts[0][0] == "no_picture":
            remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
            if self.options.images:
                remedy = (
                    "Give with --images the folder that OpenFace was run on, and CSVs and pictures as they were then."
                )
        return BadSourceError(f"Nothing in {self.options.openface} {what}.", why, remedy)


def _report(made: Made, left_out: dict[str, str], seconds: float) -> CelebaReport:
    store = made.store
    with readable(rejected_path(store.path), REBUILD):
        reasons = Counter(pq.read_table(rejected_path(store.path), columns=["reason"])["reason"].to_pylist())
    columns = {"identity": store.parameters["identities"], "split": store.parameters["partitions"]}
    absent = {name: int(store.sample_columns([name])[name].isna().sum()) for name, given in columns.items() if given}
    return CelebaReport(
        store=store.path,
        seen=store.manifest["seen"],
        taken=len(store),
        rejected=dict(reasons.most_common()),
        without_identity=absent.get("identity"),
        without_split=absent.get("split"),
        splits=store.splits,
        left_out=left_out,
        seconds=seconds,
        already_done=made.already_done,
    )
