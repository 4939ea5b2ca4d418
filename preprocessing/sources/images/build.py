"""A folder of pictures, with labels from tables or folders, as a store."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.errors import BadSourceError
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.sources.base import Report, make_store
from gated_vae.preprocessing.sources.images.options import ImagesOptions
from gated_vae.preprocessing.sources.images.survey import survey
from gated_vae.preprocessing.sources.pictures import Pictures, decode_all, refuse_bad_disk, why_nothing, workers_for
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

__all__ = ["ImagesOptions", "ImagesReport", "preprocess_images"]


@dataclass(frozen=True, kw_only=True)
class ImagesReport(Report):
    """What `preprocess_images` did; seen are pictures, and rows of the table that have none."""

    tracker: dict[str, Any] | None  # who made the labels, as far as known
    columns: list[str]  # the labels
    notes: Mapping[str, str]  # by column of the table, what may not be expected


def preprocess_images(
    options: ImagesOptions,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> ImagesReport:
    """Make a store of the pictures in `options.folder` in the folder `out`; see `make_store`, `workers_for`."""
    started = time.perf_counter()
    source = ImagesSource(options)
    where = workers_for(len(source.found.pictures), workers, scheduler)
    made = make_store(source, out, overwrite=overwrite, workers=where, progress=progress)
    return ImagesReport.of(
        made,
        started,
        tracker=made.store.parameters["tracker"],
        columns=[name for name in made.store.schema.names if name not in ("sample_id", "image", "split")],
        notes=source.found.notes,
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
        found = self.found
        writer.seen = len(found.pictures) + len(found.rejected)
        writer.rejected += found.rejected
        pictures = Pictures(os.fspath(self.options.folder.absolute()), found.pictures)
        origins = [(name, None) for name in found.samples["image"].to_pylist()]
        taken = decode_all(pictures, origins, writer, run, progress)
        refuse_bad_disk(self.options.folder, writer.rejected, len(found.pictures))
        if not taken:
            why, _ = why_nothing(writer)
            raise BadSourceError(f"Nothing in {self.options.folder} can be taken.", why, "Look at what it says.")
        writer.samples(found.samples)
