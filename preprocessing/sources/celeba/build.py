"""A folder of OpenFace's output for CelebA, or for any faces, as a store.

Two rounds of tasks: CSVs into a table of faces, from which it follows what is taken and in which order; then pictures into
pixels. What a task made stays in the work folder until the store is complete.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.errors import BadSourceError
from gated_vae.preprocessing.openface.cells import INTENSITIES, POSE
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.sources.base import Report, make_store
from gated_vae.preprocessing.sources.celeba.faces import CUT, Wanted
from gated_vae.preprocessing.sources.celeba.options import CelebaOptions
from gated_vae.preprocessing.sources.celeba.samples import sample_table, undetected
from gated_vae.preprocessing.sources.celeba.select import choose_faces, find_whole_pictures, leave_out_columns
from gated_vae.preprocessing.sources.celeba.survey import survey
from gated_vae.preprocessing.sources.celeba.tasks import cut_shards, load_faces, read_shard
from gated_vae.preprocessing.sources.pictures import Pictures, decode_all, refuse_bad_disk, why_nothing, workers_for
from gated_vae.preprocessing.sources.splits import in_order
from gated_vae.preprocessing.store import Rejected
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

__all__ = ["CelebaOptions", "CelebaReport", "preprocess_celeba"]


@dataclass(frozen=True, kw_only=True)
class CelebaReport(Report):
    """What `preprocess_celeba` did; seen are faces, frames, unreadable rows and files, and images without a face."""

    people: int | None  # who are on the pictures; None where no list says
    without_identity: int | None  # samples that the list does not name
    without_split: int | None
    left_out: dict[str, str]  # labels that few files have, and which


def preprocess_celeba(
    options: CelebaOptions,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> CelebaReport:
    """Make a store of the faces in `options.openface` in the folder `out`; see `make_store`, `workers_for`."""
    started = time.perf_counter()
    source = CelebaSource(options)
    where = workers_for(len(source.found.sizes), workers, scheduler)
    made = make_store(source, out, overwrite=overwrite, workers=where, progress=progress)
    store, told = made.store, dict.fromkeys(("people", "without_identity", "without_split"))
    if store.parameters["identities"]:
        identity = store.sample_columns(["identity"])["identity"]
        told |= {"people": identity.nunique(), "without_identity": int(identity.isna().sum())}
    if store.parameters["partitions"]:
        told["without_split"] = int(store.sample_columns(["split"])["split"].isna().sum())
    return CelebaReport.of(made, started, **told, left_out=source.left_out)


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
        if labels and len(faces):
            samples = sample_table(faces, self.found.people, whole=self.found.pictures is not None)
            if "split" in samples.column_names:
                order = in_order(samples["split"].to_pylist())
                faces, samples = faces.iloc[order], samples.take(order)
            writer.samples(samples)
        writer.rejected += [*unread, *lonely, *dropped]
        taken = self._decode(faces, writer, run, progress) if labels else 0
        refuse_bad_disk(self.options.openface, writer.rejected, len(self.found.sizes))
        if not taken:
            raise self._nothing_left(writer, len(faces), has_labels=bool(labels))
        progress(1, 1, "writing")

    def _read(self, work: Path, run: RunTasks, progress: Progress) -> tuple[pd.DataFrame, list[Rejected]]:
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
            return find_whole_pictures(faces, found.pictures), rejected
        return faces.assign(missing="its _aligned folder has no picture of this face"), rejected

    def _decode(self, faces: pd.DataFrame, writer: StoreWriter, run: RunTasks, progress: Progress) -> int:
        """Second round: the pictures into the store's images; how many there are."""
        whole = self.found.pictures
        cuts = faces[list(CUT)].to_numpy().reshape(-1, 2, 3) if whole else None
        root = os.fspath(whole.root) if whole else self.root
        pictures = Pictures(root, faces["picture"].tolist(), cuts, self.found.crop)
        origins = [*zip(faces["source"], faces["row"], strict=True)]
        return decode_all(pictures, origins, writer, run, progress, before=len(self.found.sizes))

    def _nothing_left(self, writer: StoreWriter, rows: int, *, has_labels: bool) -> BadSourceError:
        why, reason = f"{rows} rows were read, none has them.", ""
        if writer.rejected:
            why, reason = why_nothing(writer)
        what, remedy = "can be taken", "Look at --min-confidence and --max-angle, or at what OpenFace was run on."
        if not has_labels:
            what = "has columns of OpenFace's pose or action units"
            remedy = (
                "Run OpenFace with -pose and -aus, or give the folder that was its -out_dir. Tables of other trackers:"
            )
            remedy += " `pipe preprocess images --labels FILE --tracker NAME`."
        elif reason == "no_picture":
            remedy = "Run OpenFace with -simalign, or give the folder of its input with --images."
            if self.options.images:
                remedy = (
                    "Give with --images the folder that OpenFace was run on, and CSVs and pictures as they were then."
                )
        return BadSourceError(f"Nothing in {self.options.openface} {what}.", why, remedy)
