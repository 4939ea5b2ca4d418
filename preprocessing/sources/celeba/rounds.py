"""The two rounds of tasks: CSVs into a table of faces, then the pictures of those chosen into pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.image_file import Filled, cut_regions, make_images
from gated_vae.preprocessing.sources.celeba.samples import to_rejected
from gated_vae.preprocessing.sources.celeba.select import find_whole_pictures
from gated_vae.preprocessing.sources.celeba.survey import Source
from gated_vae.preprocessing.sources.celeba.tasks import (
    SHARD_PICTURES,
    cut_shards,
    decode_shard,
    load_faces,
    read_shard,
)

Progress = Callable[[int, int, str], None]  # (steps done, steps in all, what is under way)


@dataclass(frozen=True)
class Job:
    """What to read, where to leave what the tasks make, what to compute with.

    Attributes
    ----------
    work:
        Absolute path of the work folder. A task whose file lies there has nothing to do.
    run:
        `run_tasks`, on the workers or the cluster asked for.
    """

    source: Source
    size: int
    work: Path
    run: Callable[..., Any]
    progress: Progress

    def path(self, what: str, start: int, end: int) -> Path:
        """File of the shard of items start to end (exclusive): its name fits no shard cut in another way."""
        return self.work / f"{what}-{start:08d}-{end:08d}"


def read_all(job: Job) -> tuple[pd.DataFrame, pa.Table]:
    """First round: every face with its picture or why there is none, and what could not be read."""
    source, root = job.source, os.fspath(job.source.root)
    shards = cut_shards(source.csvs, source.sizes)
    ends = list(accumulate(map(len, shards)))
    paths = [job.path("faces", end - len(shard), end) for shard, end in zip(shards, ends, strict=True)]
    aligned = source.pictures is None
    tasks = [(root, shard, aligned, os.fspath(path)) for shard, path in zip(shards, paths, strict=True)]
    total = 2 * len(source.csvs)  # every CSV is read, and about as many pictures
    job.run(read_shard, tasks, progress=lambda done: job.progress(ends[done - 1], total, "reading CSVs"))
    table, rejected = load_faces(paths)
    faces = table.to_pandas()
    if source.pictures is not None:
        return find_whole_pictures(faces, source.pictures), rejected
    return faces.assign(missing="its _aligned folder has no picture of this face"), rejected


def decode_all(job: Job, pictures: list[bytes], images: Path) -> list[Filled]:
    """Second round: the pictures into pixels in the file `images`, in regions of `SHARD_PICTURES`."""
    source = job.source
    root = os.fspath(source.pictures.root if source.pictures else source.root)
    make_images(images, len(pictures), job.size)
    regions = cut_regions(os.fspath(images), job.size, len(pictures), SHARD_PICTURES)
    tasks = [
        (root, pictures[region.start : region.stop], region, os.fspath(job.path("pixels", region.start, region.stop)))
        for region in regions
    ]
    before, total = len(source.csvs), len(source.csvs) + len(pictures)

    def tell(done: int) -> None:
        job.progress(before + regions[done - 1].stop, total, "decoding pictures")

    return job.run(decode_shard, tasks, progress=tell)  # type: ignore[no-any-return]


def drop_failed(faces: pd.DataFrame, filled: Sequence[Filled]) -> tuple[pd.DataFrame, pa.Table]:
    """Split off the faces whose pictures could not be decoded, as rejected items."""
    failed = {region.start + place: fault for region, _, faults in filled for place, fault in faults}
    bad = faces.iloc[list(failed)]
    rejected = bad[["source", "row"]].assign(reason="unreadable_picture", detail=list(failed.values()))
    return faces.drop(bad.index), to_rejected(rejected)
