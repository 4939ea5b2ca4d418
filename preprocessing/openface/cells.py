"""Cells of OpenFace's CSVs into values: which columns hold numbers, and how numbers are spelled.

Arrow has read most cells before they come here; these are the columns in which it met something else.
"""

from __future__ import annotations

import csv
import io
import math
import re
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# What OpenFace 1.x and 2.x name their columns. These hold numbers and nothing else; other columns are the user's own.
MEASURED = re.compile(
    r"AU\d\d_[rc]|pose_[TR][xyz]|gaze_([01]_[xyz]|angle_[xy])|eye_lmk_[xyXYZ]_\d+|[xyXYZ]_\d+|p_(scale|[rt][xyz]|\d+)"
)
COUNTED = frozenset({"frame", "face", "face_id", "timestamp", "confidence", "success"})
POSE = ("pose_Rx", "pose_Ry", "pose_Rz")  # pitch, yaw, roll
UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)  # of FACS, that OpenFace 1 and 2 measure
PRESENCES = tuple(f"AU{unit:02d}_c" for unit in UNITS)
INTENSITIES = tuple(f"AU{unit:02d}_r" for unit in UNITS if unit != 28)  # of which it gives no intensity

# Spellings of numbers: decimal as pandas reads it, then what C libraries print for "not a number" and infinity.
INTEGER = re.compile(rb"[+-]?\d{1,19}")
FINITE = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
INFINITE = re.compile(rb"([+-]?)(inf|infinity|1\.#inf\d*)", re.IGNORECASE)
WORDS = {b"true": b"1", b"false": b"0"}  # as R and Excel write `success`
MISSING = re.compile(rb"|[+-]?nan(\(\w*\))?|[+-]?1\.#(ind|[qs]nan)\d*|#?n/?a|#n/a n/a|<na>|null|none", re.IGNORECASE)


def is_numeric_name(name: str) -> bool:
    """Whether this is a column of OpenFace's own, all of which hold numbers."""
    return name in COUNTED or MEASURED.fullmatch(name) is not None


def is_flag(name: str) -> bool:
    """Whether the column says yes or no."""
    return name == "success" or name.endswith("_c")


def foreign_unit(name: str) -> bool:
    """Whether this is named like a column of an action unit that no OpenFace 1 or 2 measures."""
    return re.fullmatch(r"AU\d\d_[rc]", name) is not None and int(name[2:4]) not in UNITS


def numbers(cells: list[bytes], *, flags: bool = False, decimal_comma: bool = False) -> tuple[NDArray[Any], list[int]]:
    """Int64 when every cell is a whole number, else float64; also return the rows that hold no number (0 there)."""
    cells = [cell.strip() for cell in cells]
    if flags:
        cells = [WORDS.get(cell.lower(), cell) for cell in cells]
    if decimal_comma:
        cells = [cell.replace(b",", b".") for cell in cells]
    values = [_number(cell) for cell in cells]
    bad = [row for row, value in enumerate(values) if value is None]
    if all(value is None or INTEGER.fullmatch(cell) for cell, value in zip(cells, values, strict=True)):
        with suppress(OverflowError):
            whole = [0 if value is None else int(cell) for cell, value in zip(cells, values, strict=True)]
            return np.array(whole, dtype=np.int64), bad
    return np.array([0.0 if value is None else value for value in values]), bad


def _number(cell: bytes) -> float | None:
    """The value of a cell, NaN where it says that there is none; None when it is no number."""
    if FINITE.fullmatch(cell):
        return float(cell)
    if infinite := INFINITE.fullmatch(cell):
        return -math.inf if infinite[1] == b"-" else math.inf
    return math.nan if MISSING.fullmatch(cell) else None


def user_column(cells: list[bytes]) -> NDArray[Any]:
    """Infer a user's own column: numbers, booleans or text, as plain pandas does."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([cell.decode("utf-8", "backslashreplace").lstrip(" ")] for cell in cells)
    text.seek(0)
    column = pd.read_csv(text, header=None, names=["cell"], low_memory=False)
    return column["cell"].array  # type: ignore[no-any-return]
