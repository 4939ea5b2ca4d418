"""A folder of simulated faces: who is on which picture, what is true of it, and what OpenFace would have written.

Image i is a pure function of the options and i. Images are written in batches, each with a file of its truth written
after its last picture, so that a command that was killed goes on with the first batch that lacks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.preprocessing.compute import count_workers, processes
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import (
    is_there,
    locked,
    read_json,
    readable,
    refuse_filled,
    refuse_links,
    refuse_ours,
    remove,
    write_bytes,
    write_json,
    write_parquet,
)
from gated_vae.preprocessing.images import use_one_thread
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.scheduler.dask import cluster
from gated_vae.preprocessing.simulate.images import (
    IMPOSSIBLE,
    LOW_CONFIDENCE,
    NOT_FOUND,
    person_of,
    read_portrait,
    write_image,
)
from gated_vae.preprocessing.simulate.options import FaceReport, FaceSimulation

VERSION = 2  # of what is drawn and written: another version in the same folder is refused
BATCH = 100  # images
OPTIONS, TRUTH, IDENTITY, PARTITION = "simulation.json", "truth.parquet", "identity.txt", "partition.txt"
PROCESSED, PARTS = "processed", ".parts"
REPLACED = ".replaced"  # the faces that were there before, until these are drawn


def simulate_faces(
    options: FaceSimulation,
    out: Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> FaceReport:
    """Draw faces and write what OpenFace's FaceLandmarkImg would write for them.

    Parameters
    ----------
    out:
        Gets ``processed/`` (the CSVs, details and 112x112 aligned faces), ``identity.txt``, ``partition.txt`` and, last,
        ``truth.parquet``: one row per image with the values without noise (pose_Rx .. AU45_r, light, person, outcome).
        An interrupted call goes on where it stopped; a finished one does nothing.
    workers:
        Processes (every core when None). They do not change what is written. They start afresh: a script that calls
        this with more than one keeps the call below ``if __name__ == "__main__":``.
    overwrite:
        Replace what an earlier call wrote here; it lies in ``.replaced`` until the new faces are drawn.
    progress:
        Told how many images are there so far, whenever a batch is.

    Raises
    ------
    GatedVAEError
        When `out` holds faces of other options or of another origin, or is in use.
    OSError
        When writing fails: the same call goes on where it stopped.
    """
    at_once = count_workers(workers)
    refuse_ours(out, itself=False)
    with locked(out):
        _claim(options, out, overwrite)
        done = (out / TRUTH).exists()
        if not done:
            _draw_missing(options, out, at_once, progress)
            _finish(options, out)
        for name in (PARTS, REPLACED):  # also where a call that was killed right here left them behind
            remove(out / name)
        with readable(out / TRUTH, "Draw the faces again: the same command with --overwrite."):
            return _report(pq.read_table(out / TRUTH, columns=["outcome", "faces", "person"]), done)


def simulate_labels(options: FaceSimulation, numbers: Iterable[int]) -> pd.DataFrame:
    """What the CSVs of images say of their portraits, without drawing them: the same pictures with other labels are cheap.

    A row for each of the `numbers` of images (from 1): confidence, pose_Rx .. AU45_c, rounded as OpenFace rounds. Where `options`
    loses faces, a row may be of one that is lost or not found.
    """
    return pd.DataFrame([read_portrait(options, number) for number in numbers])


def _claim(options: FaceSimulation, out: Path, overwrite: bool) -> None:
    """Make `out` the folder of these options, or refuse it."""
    wanted = {"version": VERSION, **asdict(options)}
    if not (out / OPTIONS).exists():
        refuse_filled(out, OPTIONS)
    else:
        there = read_json(out / OPTIONS, "Choose another folder.")
        if not there.keys() >= {"version", "pose_noise", "label_noise"}:
            why = f"Its {OPTIONS} is none of `pipe simulate`."
            raise GatedVAEError(f"{out} cannot be used.", why, "Choose another folder.")
        if there == wanted and not overwrite:
            return
        if not overwrite:
            remedy = "Choose another folder, or give --overwrite."
            raise GatedVAEError(f"{out} holds faces simulated with other options.", f"See {out / OPTIONS}.", remedy)
        _set_aside(out, there)
    write_json(out / OPTIONS, wanted)


def _set_aside(out: Path, options: dict[str, Any]) -> None:
    """Move what was drawn to a folder of its own: first what says that all of it is, its options last.

    Where there are such faces already, these are removed, unless all are drawn: then those go.
    """
    before = out / REPLACED
    refuse_links(out, (before,))
    if (out / TRUTH).exists():
        remove(before)  # what a death has left of them
    kept = (before / OPTIONS).exists()
    for name in filter(lambda name: is_there(out / name), (TRUTH, PARTS, PROCESSED, IDENTITY, PARTITION)):
        if kept:
            remove(out / name)
        else:
            before.mkdir(exist_ok=True)
            (out / name).rename(before / name)
    if not kept:
        before.mkdir(exist_ok=True)
        write_json(before / OPTIONS, options)


def _batches(options: FaceSimulation) -> list[range]:
    """Numbers of the images of every batch."""
    return [range(start, min(start + BATCH, options.n + 1)) for start in range(1, options.n + 1, BATCH)]


def _part(out: Path, numbers: range) -> Path:
    return out / PARTS / f"{numbers.start:08d}.parquet"


def _draw_missing(options: FaceSimulation, out: Path, workers: int, progress: Progress) -> None:
    """Draw every batch that lacks its truth: in processes, as half of the work is Python's own, which threads would not share."""
    (out / PROCESSED).mkdir(exist_ok=True)
    missing = [numbers for numbers in _batches(options) if not _part(out, numbers).exists()]
    there = options.n - sum(map(len, missing))
    progress(there, options.n, "pictures")
    at_once = min(workers, len(missing))
    with processes(at_once) if at_once > 1 else cluster(None) as run:
        for drawn in run(draw_batch, ((options, out, numbers) for numbers in missing)):
            there += drawn
            progress(there, options.n, "pictures")


def draw_batch(options: FaceSimulation, out: Path, numbers: range) -> int:
    """Draw and write the images of one batch, then its truth; return their number."""
    use_one_thread()
    _keep_memory()
    rows = [write_image(options, out / PROCESSED, number) for number in numbers]
    write_parquet(_part(out, numbers), pa.Table.from_pylist(rows), schema_version=VERSION)
    return len(rows)


def _keep_memory() -> None:
    """Have glibc keep the memory of freed arrays: getting cleared pages anew takes as long as half of the drawing.

    It raises its thresholds for giving memory back to the largest block freed so far, up to 32 MiB.
    """
    np.empty(30 << 20, np.uint8)


def _finish(options: FaceSimulation, out: Path) -> None:
    """Join the batches' truth, write the lists and, last, truth.parquet."""
    table = pa.concat_tables([_read_part(_part(out, numbers)) for numbers in _batches(options)])
    names, persons = table["image"].to_pylist(), table["person"].to_pylist()
    partitions = [person_of(options.seed, person)[1] for person in persons]
    for path, values in ((out / IDENTITY, persons), (out / PARTITION, partitions)):
        write_bytes(path, "".join(f"{name} {value}\n" for name, value in zip(names, values, strict=True)).encode())
    write_parquet(out / TRUTH, table.add_column(2, "partition", pa.array(partitions)), schema_version=VERSION)


def _read_part(path: Path) -> pa.Table:
    with readable(path, "Remove it, then run the same command again."):
        table = pq.read_table(path)
        if not {"image", "person"} <= {*table.column_names}:
            raise ValueError("It is none of `pipe simulate`.")
        return table


def _report(table: pa.Table, already_done: bool) -> FaceReport:
    outcomes = Counter(table["outcome"].to_pylist())
    return FaceReport(
        images=len(table),
        found=len(table) - outcomes[NOT_FOUND],
        not_found=outcomes[NOT_FOUND],
        two_faces=table["faces"].to_pylist().count(2),
        low_confidence=outcomes[LOW_CONFIDENCE],
        impossible=outcomes[IMPOSSIBLE],
        people=len(set(table["person"].to_pylist())),
        already_done=already_done,
    )
