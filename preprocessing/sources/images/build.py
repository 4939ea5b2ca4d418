"""A folder of pictures, with labels from tables or folders, as a store."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.errors import BadSourceError
from gated_vae.preprocessing.files import readable
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.images.options import ImagesOptions
from gated_vae.preprocessing.sources.images.survey import survey
from gated_vae.preprocessing.sources.pictures import Pictures, decode_all, refuse_bad_disk, why_nothing, workers_for
from gated_vae.preprocessing.store import REBUILD, rejected_path
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

__all__ = ["ImagesOptions", "ImagesReport", "preprocess_images"]


@dataclass(frozen=True)
class ImagesReport:
    """What `preprocess_images` did."""

    store: Path
    seen: int  # pictures, and rows of the table that have none
    taken: int  # how many pictures became samples
    rejected: dict[str, int]  # count by reason, most frequent first; `taken` and these add up to `seen`
    splits: dict[str, int]  # how many samples train, validate and test; empty where all train
    tracker: dict[str, Any] | None  # who made the labels, as far as known
    columns: list[str]  # the labels
    notes: Mapping[str, str]  # by column of the table, what may not be expected
    seconds: float
    already_done: bool  # True when the store was there already and nothing was written


def preprocess_images(
    options: ImagesOptions,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> ImagesReport:
    """Make a store of the pictures in `options.folder` in the folder `out`; see `make_store`.

    Parameters
    ----------
    workers, scheduler:
        As of `preprocess_celeba`.
    """
    started = time.perf_counter()
    source = ImagesSource(options)
    where = workers_for(len(source.found.pictures), workers, scheduler)
    made = make_store(source, out, overwrite=overwrite, workers=where, progress=progress)
    store = made.store
    with readable(rejected_path(store.path), REBUILD):
        reasons = Counter(pq.read_table(rejected_path(store.path), columns=["reason"])["reason"].to_pylist())
    return ImagesReport(
        store=store.path,
        seen=store.manifest["seen"],
        taken=len(store),
        rejected=dict(reasons.most_common()),
        splits=store.splits,
        tracker=store.parameters["tracker"],
        columns=[name for name in store.schema.names if name not in ("sample_id", "image", "split")],
        notes=source.found.notes,
        seconds=time.perf_counter() - started,
        already_done=made.already_done,
    )


class ImagesSource:
    """A folder of pictures, as a `DataSource`."""

    def __init__(self, options: ImagesOptions) -> None:
        self.options, self.found = options, survey(options)

    def plan(self) -> Plan:
        """What decides the store."""
        return self.found.plan

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        """Decode the pictures; labels are joined already."""
        found, names = self.found, self.found.samples["image"]
        writer.seen = len(found.pictures) + len(found.rejected)
        root = os.fspath(self.options.folder.absolute())
        failed = decode_all(Pictures(root, found.pictures), writer, run, progress)
        broken = [
            {"source": names[place].as_py(), "row": None, "reason": reason, "detail": detail}
            for place, (reason, detail) in failed.items()
        ]
        rejected = [*found.rejected, *broken]
        for item in rejected:
            writer.reject(**item)
        refuse_bad_disk(self.options.folder, rejected, len(found.pictures))
        if len(failed) == len(found.pictures):
            why, _ = why_nothing(rejected, writer.beside)
            raise BadSourceError(f"Nothing in {self.options.folder} can be taken.", why, "Look at what it says.")
        writer.samples(found.samples.take(np.delete(np.arange(len(names)), list(failed))))
