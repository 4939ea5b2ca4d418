"""One shard of OpenFace's CSVs into a table of faces, each with the name of its image and of its aligned picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, printable
from gated_vae.preprocessing.openface.pictures import WHOLE_IMAGE, aligned_faces, read_details
from gated_vae.preprocessing.openface.reader import read_csvs
from gated_vae.preprocessing.store import rejected_schema

POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
INTENSITIES = tuple(f"AU{unit:02d}_r" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCES = tuple(f"AU{unit:02d}_c" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
LABELS = ("confidence", *POSE, *INTENSITIES, *PRESENCES)
PLACES = ("frame", "face", "face_id", "success")

Floats = npt.NDArray[np.float64]


def read_faces(root: str, names: Sequence[str], aligned: bool) -> pa.Table:
    """Read CSVs with these paths in `root`, which is absolute.

    Returns
    -------
    pyarrow.Table
        A face to a row: source, row, frame (`WHOLE_IMAGE` for a CSV of one image), face (0 where unnumbered), success and
        `LABELS` as far as the files have them, `input` as the details name it and, if `aligned`, `picture`, the path of the
        aligned face in `root`. The last two are bytes, since file names need not be text; null where unknown. After them
        what could not be read: source, row, reason and detail, which are null for faces.
    """
    table = read_csvs([f"{root}/{name}" for name in names], names, [*PLACES, *LABELS])
    rows, spelled = table.rows, {printable(name): name for name in names}
    sources = rows["source"].tolist()
    csvs = [spelled[source] for source in sources]
    frame = _whole(_column(rows, "frame"), WHOLE_IMAGE)
    face = _whole(np.where(np.isnan(face := _column(rows, "face")), _column(rows, "face_id"), face), 0)
    columns = [name for name in ("success", *LABELS) if name in rows]
    labels = np.ascontiguousarray(rows[columns].to_numpy(np.float64).T)  # at once: pandas takes long over each column
    places = {"source": pa.array(sources, pa.string()), "row": rows["row"].to_numpy(), "frame": frame, "face": face}
    inputs = {csv: _input(f"{root}/{csv}") for csv in dict.fromkeys(csvs)}
    given = pa.array([inputs[csv] for csv in csvs], pa.binary())
    faces = pa.table({**places, **dict(zip(columns, labels, strict=True)), "input": given})
    if aligned:
        found = {csv: aligned_faces(root, csv) for csv in inputs}
        keys = zip(csvs, zip(frame.tolist(), face.tolist(), strict=True), strict=True)
        pictures = [path and os.fsencode(path) for path in (found[csv].get(place) for csv, place in keys)]
        faces = faces.append_column("picture", pa.array(pictures, pa.binary()))
    rejected = pa.Table.from_pylist(table.rejected, schema=rejected_schema())
    return pa.concat_tables([faces, rejected], promote_options="permissive")


def _column(rows: pd.DataFrame, name: str) -> Floats:
    """A column as numbers, NaN where the CSVs have none."""
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)


def _whole(values: Floats, missing: int) -> npt.NDArray[np.int64]:
    """Numbers of a frame or face; -2, which no picture has, for what cannot be one."""
    numbers = np.where(np.isnan(values), missing, values)
    possible = (numbers == missing) | (numbers >= 0) & (numbers <= 1e9) & (np.floor(numbers) == numbers)
    return np.where(possible, numbers, -2).astype(np.int64)


def _input(csv: str) -> bytes | None:
    """What the details beside a CSV name as its input."""
    try:
        given = read_details(csv[: -len(CSV)] + DETAILS).input
    except GatedVAEError:
        given = None
    return os.fsencode(given) if given else None
