"""One shard of OpenFace's CSVs into a table of faces, each with the name of its image and of its aligned picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.listing import DETAILS, printable
from gated_vae.preprocessing.openface.pictures import WHOLE_IMAGE, aligned_faces, read_details
from gated_vae.preprocessing.openface.reader import read_csvs
from gated_vae.preprocessing.store import rejected_schema

POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
INTENSITIES = tuple(f"AU{unit:02d}_r" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCES = tuple(f"AU{unit:02d}_c" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
LABELS = ("confidence", *POSE, *INTENSITIES, *PRESENCES)
PLACES = ("frame", "face", "face_id", "success")

Floats = npt.NDArray[np.float64]


class Origin(NamedTuple):
    """What lies beside one CSV."""

    given: bytes | None  # the input its details name
    aligned: dict[tuple[int, int], str]  # path by (frame, face)


def read_faces(root: str, files: Sequence[str], aligned: bool) -> pa.Table:
    """Read CSVs that lie in `root`, all paths absolute.

    Returns
    -------
    pyarrow.Table
        A face to a row: source, row, frame (`WHOLE_IMAGE` for a CSV of one image), face (0 where unnumbered), success and
        `LABELS` as far as the files have them, `input` as the details name it and, if `aligned`, `picture`, the path of the
        aligned face in `root`. The last two are bytes, since file names need not be text; null where unknown. After them
        what could not be read: source, row, reason and detail, which are null for faces.
    """
    table = read_csvs(Path(root), files, [*PLACES, *LABELS])
    rows, paths = table.rows, {printable(file[len(root) + 1 :]): file for file in files}
    sources = rows["source"].tolist()
    origins = {source: _origin(paths[source], aligned) for source in dict.fromkeys(sources)}
    frame = _whole(_column(rows, "frame"), WHOLE_IMAGE)
    face = _whole(np.where(np.isnan(face := _column(rows, "face")), _column(rows, "face_id"), face), 0)
    names = [name for name in ("success", *LABELS) if name in rows]
    labels = np.ascontiguousarray(rows[names].to_numpy(np.float64).T)  # at once: pandas takes long over each column
    places = {"source": pa.array(sources, pa.string()), "row": rows["row"].to_numpy(), "frame": frame, "face": face}
    given = pa.array([origins[source].given for source in sources], pa.binary())
    faces = pa.table({**places, **dict(zip(names, labels, strict=True)), "input": given})
    if aligned:
        keys = zip(sources, zip(frame.tolist(), face.tolist(), strict=True), strict=True)
        found = [origins[source].aligned.get(place) for source, place in keys]
        pictures = [path and os.fsencode(path[len(root) + 1 :]) for path in found]
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


def _origin(csv: str, aligned: bool) -> Origin:
    try:
        given = read_details(csv[:-4] + DETAILS).input
    except GatedVAEError:
        given = None
    return Origin(os.fsencode(given) if given else None, aligned_faces(csv) if aligned else {})
