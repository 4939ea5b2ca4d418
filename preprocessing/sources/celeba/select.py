"""From all faces to at most one per image: which are taken, and why the others are not. Pure table work.

A face is dropped for the first of these reasons that holds: missing_columns, not_finite, impossible_value, no_success,
low_confidence, impossible_pose, no_picture, no_landmarks. Of the faces of one image that remain, the most confident is taken,
or the largest (the lowest face number on a tie); the others are other_face, or duplicate where they carry the same number.
Whatever two CSVs claim goes to the first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import repeat

import numpy as np
import pandas as pd

from gated_vae.preprocessing.openface.cells import INTENSITIES, POSE, PRESENCES
from gated_vae.preprocessing.openface.pictures import (
    WHOLE_IMAGE,
    Parts,
    WholePictures,
    is_picture,
    names_of_several,
    path_parts,
)
from gated_vae.preprocessing.sources.celeba.faces import CUT, LABELS, inputs_of
from gated_vae.preprocessing.sources.celeba.options import CelebaOptions
from gated_vae.preprocessing.store import Rejected

Texts = Callable[[pd.DataFrame], pd.Series]

_NEEDED = {1 << bit: name for bit, name in enumerate(LABELS) if name not in PRESENCES}  # by bit in `has`


class Sieve:
    """Faces that are left, and those dropped so far with reason and detail."""

    def __init__(self, faces: pd.DataFrame) -> None:
        self.faces = faces
        self.dropped: list[Rejected] = []

    def drop(self, bad: pd.Series, reason: str | Texts, detail: str | Texts) -> None:
        """Drop the rows where `bad`; reason and detail are texts, or functions of those rows that make them."""
        if not bad.any():
            return
        faces = self.faces[bad]
        reasons, details = (text(faces) if callable(text) else repeat(text, len(faces)) for text in (reason, detail))
        items = zip(faces["source"], faces["row"], reasons, details, strict=True)
        self.dropped += [Rejected(*item) for item in items]
        self.faces = self.faces[~bad]

    def drop_values(self, bad: pd.DataFrame, reason: str) -> None:
        """Drop the rows with a `bad` value; the first of them is told."""
        self.drop(bad.any(axis=1), reason, lambda faces: _shown(faces, bad.loc[faces.index]))


def leave_out_columns(faces: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Leave out labels that few rows have, as `missing_columns` rejects the rows that lack one of those that stay.

    What most rows have decides; if two sets of columns have as many rows, the larger does. Presences may be missing. Returns
    the table without those columns, and which files have each of them, in words.
    """
    if faces.empty:
        return faces, {}
    sets = (faces["has"] & sum(_NEEDED)).value_counts()
    most = max(sets.index, key=lambda has: (sets[has], int(has).bit_count()))
    files, left_out = faces.drop_duplicates("source"), {}
    for bit, name in _NEEDED.items():
        if not most & bit and name in faces:
            having = files["source"][(files["has"] & bit) != 0]
            left_out[name] = f"in {len(having)} of {len(files)} files only, first {having.iloc[0]}"
    return faces.drop(columns=list(left_out)), left_out


def choose_faces(faces: pd.DataFrame, options: CelebaOptions, crop: str) -> tuple[pd.DataFrame, list[Rejected]]:
    """Take at most one face per image: the faces taken, in their order, and the rejected ones.

    Faces are as `read_faces` returns them, with `picture` (path or null) and, where that is null, `missing` (why).
    """
    sieve = Sieve(faces)
    drop_incomplete(sieve)
    drop_poor(sieve, options.min_confidence, options.max_angle)
    sieve.drop(sieve.faces["picture"].isna(), "no_picture", lambda faces: faces["missing"])
    if crop == "landmarks":
        lost = sieve.faces[list(CUT)].isna().any(axis=1)
        sieve.drop(lost, "no_landmarks", "it has no x_0 .. y_67 to be cut out of its picture by")
    drop_others(sieve, "size" if options.face == "largest" else "confidence")
    twice = sieve.faces.duplicated("picture")
    sieve.drop(twice, "duplicate", lambda faces: "its picture went to " + _first_with_picture(sieve.faces, faces))
    return sieve.faces, sieve.dropped


def drop_incomplete(sieve: Sieve) -> None:
    """Drop the rows of files that lack a column which the others have."""
    needed = {bit: name for bit, name in _NEEDED.items() if name in sieve.faces}
    sets = sieve.faces["has"].unique().tolist()
    lacking = sieve.faces["has"].map({has: next((needed[bit] for bit in needed if not has & bit), "") for has in sets})
    sieve.drop(
        lacking != "", "missing_columns", lambda faces: "no column " + lacking[faces.index] + ", which most files have"
    )


def drop_poor(sieve: Sieve, min_confidence: float, max_angle: float) -> None:
    """Drop faces whose own values rule them out.

    Labels that the store will have must be finite in every row, so that whoever reads it need not look for gaps. Presences
    alone may be missing, all of them, where CSVs with and without them lie in one folder.
    """
    labels = [name for name in LABELS if name in sieve.faces]
    pose = [name for name in POSE if name in sieve.faces]
    finite = np.isfinite(sieve.faces[labels])
    presences = [name for name in PRESENCES if name in labels]
    finite.loc[sieve.faces[presences].isna().all(axis=1), presences] = True
    sieve.drop_values(~finite, "not_finite")
    ranges = {name: (0, 5) if name in INTENSITIES else (0, 1) for name in labels if name not in pose}
    strange = pd.DataFrame({name: ~sieve.faces[name].between(*span) for name, span in ranges.items()})
    strange &= sieve.faces[list(ranges)].notna()
    sieve.drop_values(strange, "impossible_value")
    if "success" in sieve.faces:
        sieve.drop(sieve.faces["success"] == 0, "no_success", "OpenFace says success 0")
    if "confidence" in sieve.faces:
        sieve.drop_values(sieve.faces[["confidence"]] < min_confidence, "low_confidence")
    wide = sieve.faces[pose].abs() > max_angle

    def why_wide(faces: pd.DataFrame) -> pd.Series:
        turns = faces[pose].abs().max(axis=1) > 2 * math.pi
        hint = turns.map({True: ", in degrees? OpenFace writes radians", False: ""})
        return _shown(faces, wide.loc[faces.index]) + hint

    sieve.drop(wide.any(axis=1), "impossible_pose", why_wide)


def drop_others(sieve: Sieve, by: str) -> None:
    """Keep the face of each image that has most of a column."""
    image = ["source", "frame", "input"]  # a table of many images has them in one source
    faces = sieve.faces[[*image, "face"]]
    faces = faces.assign(most=sieve.faces.get(by, 0.0), image=faces.groupby(image, dropna=False).ngroup())
    ranked = faces.sort_values(["most", "face"], ascending=[False, True], kind="stable")
    best = ranked.drop_duplicates("image")
    taken = faces["image"].map(best.set_index("image")["face"])
    sieve.drop(
        ~faces.index.to_series().isin(best.index),
        lambda others: (taken[others.index] == others["face"]).map({True: "duplicate", False: "other_face"}),
        lambda others: "face " + taken[others.index].astype(str) + " was taken",
    )


def find_whole_pictures(faces: pd.DataFrame, pictures: WholePictures) -> pd.DataFrame:
    """Add `picture` and `missing`: the whole picture that each face was found in, or why there is none."""
    inputs = list(zip(faces["source"], inputs_of(faces), strict=True))
    several = names_of_several(dict.fromkeys(inputs))
    frames = faces[faces["frame"] >= 0].groupby("source")["frame"].agg(["min", "max"])
    counted = {source: _Frames(pictures, *span) for source, *span in frames.itertuples()}
    found: list[Found] = [
        _find(pictures, csv, given, several)
        if frame == WHOLE_IMAGE
        else (counted[csv].find(csv, given, frame) if frame >= 0 else (None, "its frame is no number from 0 on"))
        for (csv, given), frame in zip(inputs, faces["frame"], strict=True)
    ]
    return faces.assign(**pd.DataFrame(found, faces.index, ["picture", "missing"], object))


Found = tuple[bytes | None, str | None]  # path of a picture, or why there is none


def _find(pictures: WholePictures, csv: str, given: str | None, several: set[Parts]) -> Found:
    sole = not given or path_parts(given)[-1:] not in several
    try:
        return os.fsencode(pictures.find(csv, given, sole=sole)), None
    except LookupError as error:
        return None, str(error)


class _Frames:
    """The pictures of one CSV's frames, which OpenFace counts from 0 or from 1."""

    def __init__(self, pictures: WholePictures, first: int, last: int) -> None:
        self._pictures, self._first, self._last = pictures, first, last
        self._list: list[str] | None = None

    def find(self, csv: str, given: str | None, frame: int) -> Found:
        try:
            if given and is_picture(given):
                return os.fsencode(self._pictures.find(csv, given)), None
            self._list = self._list or self._pictures.frames(csv, given)
            return os.fsencode(self._list[frame - self._start(len(self._list))]), None
        except LookupError as error:
            return None, str(error)

    def _start(self, count: int) -> int:
        """The number of the first picture; `LookupError` where that is a guess."""
        start = min(self._first, 1) if self._last == count else self._first
        if start not in (0, 1):
            raise LookupError(f"frames begin at {start}: it is not said whether the first picture is 0 or 1")
        if self._last - start >= count:
            raise LookupError(f"frames go up to {self._last}, but there are {count} pictures")
        return start


def _shown(faces: pd.DataFrame, bad: pd.DataFrame) -> pd.Series:
    """Name and value of the first column that is bad, for each row."""
    first = bad.to_numpy().argmax(axis=1)
    values = faces[bad.columns].to_numpy()[np.arange(len(bad)), first]
    texts = [f"{name} is {value}" for name, value in zip(bad.columns[first], values, strict=True)]
    return pd.Series(texts, faces.index, "str")


def _first_with_picture(all_faces: pd.DataFrame, faces: pd.DataFrame) -> pd.Series:
    first = all_faces.drop_duplicates("picture").set_index("picture")
    names = first["source"] + " row " + first["row"].astype(str)
    return faces["picture"].map(names)
