"""One shard of OpenFace's CSVs into a table of faces, each with the name of its image and of its aligned picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from preprocessing.listing import DETAILS
from preprocessing.openface import read_csvs
from preprocessing.pictures import WHOLE_IMAGE, aligned_faces, given_input

POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
INTENSITIES = tuple(f"AU{unit:02d}_r" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCES = tuple(f"AU{unit:02d}_c" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
LABELS = ("confidence", *POSE, *INTENSITIES, *PRESENCES)
PLACES = ("frame", "face", "face_id", "success")

REJECTED = pa.schema([("source", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])


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
    table = read_csvs(Path(root), files, [*PLACES, *LABELS])  # type: ignore[arg-type]  # text serves, a Path costs as much as a file
    paths = {printable(file[len(root) + 1 :]): file for file in files}
    codes, sources = pd.factorize(table.rows["source"])
    origins = [_origin(paths[source], aligned) for source in sources]
    places = _places(table.rows)
    labels = table.rows[[name for name in ("success", *LABELS) if name in table.rows]].astype(np.float64)
    faces = pa.Table.from_pandas(pd.concat([places, labels], axis=1), preserve_index=False)
    faces = faces.append_column("input", pa.array([origins[code].given for code in codes], pa.binary()))
    if aligned:
        keys = zip(codes, places["frame"], places["face"], strict=True)
        found = [origins[code].aligned.get((frame, face)) for code, frame, face in keys]
        faces = faces.append_column(
            "picture", pa.array([path and os.fsencode(path[len(root) + 1 :]) for path in found], pa.binary())
        )
    return pa.concat_tables([faces, rejected_table(table.rejected)], promote_options="permissive")


def rejected_table(rejected: Sequence[dict[str, object]]) -> pa.Table:
    """Rejected items as a table; reasons are single words, as all reasons in a store."""
    rows = [{**item, "reason": str(item["reason"]).replace(" ", "_")} for item in rejected]
    return pa.Table.from_pylist(rows, schema=REJECTED)


def _places(rows: pd.DataFrame) -> pd.DataFrame:
    """Source, row, frame and face of each row."""
    face = rows.get("face", pd.Series(np.nan, rows.index)).fillna(rows.get("face_id", np.nan))
    frame = rows.get("frame", pd.Series(np.nan, rows.index))
    return rows[["source", "row"]].assign(frame=_whole(frame, WHOLE_IMAGE), face=_whole(face, 0))


def _whole(values: pd.Series, missing: int) -> pd.Series:
    """Numbers of a frame or face; -2, which no picture has, for what cannot be one."""
    numbers = values.astype(float).fillna(missing)
    possible = (numbers == missing) | numbers.between(0, 1e9) & (numbers % 1 == 0)
    return numbers.where(possible, -2).astype(np.int64)


def _origin(csv: str, aligned: bool) -> Origin:
    return Origin(given_input(csv[:-4] + DETAILS), aligned_faces(csv) if aligned else {})


def printable(name: str) -> str:
    """A file name as text that can be stored, as `read_csvs` spells `source`: bytes that are not UTF-8 are spelled out."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
