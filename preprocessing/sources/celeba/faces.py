"""One shard of OpenFace's CSVs into a table of faces, each with the name of its image and of its aligned picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import raise_trouble
from gated_vae.preprocessing.labels.table import FILE_COLUMNS
from gated_vae.preprocessing.openface.align import alignments
from gated_vae.preprocessing.openface.cells import INTENSITIES, POSE, PRESENCES
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, printable
from gated_vae.preprocessing.openface.pictures import (
    WHOLE_IMAGE,
    aligned_faces,
    base_name,
    is_picture,
    read_details,
    stem,
)
from gated_vae.preprocessing.openface.reader import OpenFaceTable, read_csvs
from gated_vae.preprocessing.openface.text import Reason
from gated_vae.preprocessing.store import rejected_schema

LABELS = ("confidence", *POSE, *INTENSITIES, *PRESENCES)
PLACES = ("frame", "face", "face_id", "success")
SIZES = ("p_scale", "pose_Tz")
LANDMARKS = tuple(f"{axis}_{number}" for axis in "xy" for number in range(68))
CUT = tuple(f"cut_{place}" for place in range(6))  # the transform that cuts a face out of its whole picture, row by row

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """What is read of faces beside their labels."""

    aligned: bool  # where their aligned pictures lie
    sizes: bool = False
    landmarks: bool = False  # as the transform by which they are cut out of whole pictures


def read_faces(root: str, names: Sequence[str], wanted: Wanted) -> pa.Table:
    """Read CSVs with these paths in `root`, which is absolute.

    Returns
    -------
    pyarrow.Table
        A face to a row: source, row, frame (`WHOLE_IMAGE` for a CSV of one image), face (0 where unnumbered), success and
        `LABELS` as far as the files have them; `has`, the bits of the labels that its file has; `input`, the path of OpenFace's
        input as the details name it, or the row itself in a table of many images; if wanted, `size`, which is larger for larger
        faces of one picture, `CUT`, and `picture`, the path of the aligned face in `root`, as bytes, since file names need not be
        text. Null where unknown. After them what could not be read: source, row, reason and detail, which
        are null for faces.
    """
    columns = [
        *PLACES,
        *LABELS,
        *FILE_COLUMNS,
        *(SIZES if wanted.sizes else ()),
        *(LANDMARKS if wanted.landmarks else ()),
    ]
    table = read_csvs([f"{root}/{name}" for name in names], names, columns)
    csv_of = {printable(name): name for name in names}
    rows, told = _look_up_inputs(root, csv_of, table)
    sources = rows["source"].tolist()
    csvs = [csv_of[source] for source in sources]
    frame = _whole(_column(rows, "frame"), WHOLE_IMAGE)
    face = _whole(np.where(np.isnan(face := _column(rows, "face")), _column(rows, "face_id"), face), 0)
    inputs = [told[source] for source in sources]
    homes = csvs  # CSVs beside whose folder the aligned faces lie
    for name in [name for name in FILE_COLUMNS if name in rows]:
        given = [value if isinstance(value, str) and is_picture(value) else None for value in rows[name]]
        frame = np.where([value is not None for value in given], WHOLE_IMAGE, frame)
        inputs = [value or other for value, other in zip(given, inputs, strict=True)]
        homes = [_own(csv, value) if value else csv for csv, value in zip(homes, given, strict=True)]
    columns = [name for name in ("success", *LABELS) if name in rows]
    labels = np.ascontiguousarray(rows[columns].to_numpy(np.float64).T)  # at once: pandas takes long over each column
    places = {"source": pa.array(sources, pa.string()), "row": rows["row"].to_numpy(), "frame": frame, "face": face}
    has = {
        file: sum(1 << bit for bit, name in enumerate(LABELS) if name in there) for file, there in table.columns.items()
    }
    places["has"] = np.array([has[source] for source in sources], np.int64)
    if wanted.sizes:
        scale = _column(rows, "p_scale")
        with np.errstate(divide="ignore"):
            places["size"] = np.where(np.isnan(scale), 1 / _column(rows, "pose_Tz"), scale)
    if wanted.landmarks:
        landmarks = np.stack([_column(rows, name) for name in LANDMARKS], axis=1).reshape(-1, 2, 68).transpose(0, 2, 1)
        places |= dict(zip(CUT, alignments(landmarks).reshape(-1, 6).T, strict=True))
    faces = pa.table({**places, **dict(zip(columns, labels, strict=True)), "input": pa.array(inputs, pa.string())})
    if wanted.aligned:
        found = {csv: aligned_faces(root, csv) for csv in dict.fromkeys(homes)}
        keys = zip(homes, zip(frame.tolist(), face.tolist(), strict=True), strict=True)
        pictures = [path and os.fsencode(path) for path in (found[csv].get(place) for csv, place in keys)]
        faces = faces.append_column("picture", pa.array(pictures, pa.binary()))
    rejected = pa.Table.from_pylist(table.rejected, schema=rejected_schema())
    return pa.concat_tables([faces, rejected], promote_options="permissive")


def _look_up_inputs(
    root: str, csv_of: Mapping[str, str], table: OpenFaceTable
) -> tuple[pd.DataFrame, dict[str, str | None]]:
    """Rows whose details are there and can be read, or are not there, and what they name as input; others are rejected."""
    told: dict[str, str | None] = {}
    lost: dict[str, str] = {}
    for source in table.rows["source"].unique():
        try:
            told[source] = read_details(f"{root}/{csv_of[source].removesuffix(CSV)}{DETAILS}").input
        except FileNotFoundError:
            told[source] = None
        except OSError as error:
            raise_trouble(error)
            lost[source] = f"{error.strerror}: its details"
    if not lost:
        return table.rows, told
    bad = table.rows["source"].isin(lost)
    for source, row in table.rows.loc[bad, ["source", "row"]].itertuples(index=False):
        table.rejected.append({"source": source, "row": row, "reason": Reason.UNREADABLE, "detail": lost[source]})
    return table.rows[~bad], told


def inputs_of(faces: pd.DataFrame) -> list[str | None]:
    """OpenFace's input of each face, None where it is unknown."""
    return [given if isinstance(given, str) else None for given in faces["input"]]


def _own(csv: str, given: str) -> str:
    """The CSV that a picture in a table of many would have had to itself."""
    return f"{csv.rpartition('/')[0]}/{stem(base_name(given))}{CSV}".lstrip("/")


def _column(rows: pd.DataFrame, name: str) -> Floats:
    """A column as numbers, NaN where the CSVs have none."""
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)


def _whole(values: Floats, missing: int) -> npt.NDArray[np.int64]:
    """Numbers of a frame or face; -2, which no picture has, for what cannot be one."""
    numbers = np.where(np.isnan(values), missing, values)
    possible = (numbers == missing) | (numbers >= 0) & (numbers <= 1e9) & (np.floor(numbers) == numbers)
    return np.where(possible, numbers, -2).astype(np.int64)
