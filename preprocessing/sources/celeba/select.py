"""From all faces to at most one per image: which are taken, and why the others are not. Pure table work.

A face is dropped for the first of these reasons that holds: not_finite, no_success, low_confidence, impossible_pose,
no_picture. Of the faces of one image that remain, the most confident is taken (the lowest face number on a tie);
the others are other_face, or duplicate where they carry the same number. Whatever two CSVs claim goes to the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pandas as pd

from gated_vae.preprocessing.openface.pictures import WHOLE_IMAGE, WholePictures
from gated_vae.preprocessing.sources.celeba.faces import LABELS, POSE, PRESENCES

Texts = Callable[[pd.DataFrame], pd.Series]


class Sieve:
    """Faces that are left, and those dropped so far with reason and detail."""

    def __init__(self, faces: pd.DataFrame) -> None:
        self.faces = faces
        self.dropped = [faces.iloc[:0][["source", "row"]].assign(reason="", detail="")]

    def drop(self, bad: pd.Series, reason: str | Texts, detail: str | Texts) -> None:
        """Drop the rows where `bad`; reason and detail are texts, or functions of those rows that make them."""
        if not bad.any():
            return
        faces = self.faces[bad]
        texts = {"reason": reason, "detail": detail}
        texts = {name: text(faces) if callable(text) else text for name, text in texts.items()}
        self.dropped.append(faces[["source", "row"]].assign(**texts))
        self.faces = self.faces[~bad]


def choose_faces(faces: pd.DataFrame, min_confidence: float, max_angle: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take at most one face per image.

    Parameters
    ----------
    faces:
        As `read_faces` returns them, with `picture` (path or null) and, where that is null, `missing` (why).
    min_confidence, max_angle:
        Least confidence, and largest absolute pitch, yaw or roll in radians, of a face that is taken.

    Returns
    -------
    The faces taken, in their order, and the rejected ones: source, row, reason, detail.
    """
    sieve = Sieve(faces)
    drop_poor(sieve, min_confidence, max_angle)
    sieve.drop(sieve.faces["picture"].isna(), "no_picture", lambda faces: faces["missing"])
    drop_others(sieve)
    twice = sieve.faces.duplicated("picture")
    sieve.drop(twice, "duplicate", lambda faces: "its picture went to " + _first_with_picture(sieve.faces, faces))
    return sieve.faces, pd.concat(sieve.dropped)


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
    sieve.drop(~finite.all(axis=1), "not_finite", lambda faces: _shown(faces, ~finite.loc[faces.index]))
    if "success" in sieve.faces:
        sieve.drop(sieve.faces["success"] == 0, "no_success", "OpenFace says success 0")
    if "confidence" in sieve.faces:
        low = sieve.faces[["confidence"]] < min_confidence
        sieve.drop(low["confidence"], "low_confidence", lambda faces: _shown(faces, low.loc[faces.index]))
    wide = sieve.faces[pose].abs() > max_angle
    sieve.drop(wide.any(axis=1), "impossible_pose", lambda faces: _shown(faces, wide.loc[faces.index]))


def drop_others(sieve: Sieve) -> None:
    """Keep the most confident face of each image."""
    faces = sieve.faces[["source", "frame", "face"]]
    faces = faces.assign(
        confidence=sieve.faces.get("confidence", 0.0), image=faces.groupby(["source", "frame"]).ngroup()
    )
    ranked = faces.sort_values(["confidence", "face"], ascending=[False, True], kind="stable")
    best = ranked.drop_duplicates("image")
    taken = faces["image"].map(best.set_index("image")["face"])
    sieve.drop(
        ~faces.index.to_series().isin(best.index),
        lambda others: (taken[others.index] == others["face"]).map({True: "duplicate", False: "other_face"}),
        lambda others: "face " + taken[others.index].astype(str) + " was taken",
    )


def find_whole_pictures(faces: pd.DataFrame, pictures: WholePictures) -> pd.DataFrame:
    """Add `picture` and `missing`: the whole picture that each face was found in, or why there is none."""
    first = faces.groupby("source")["frame"].transform("min").clip(0, 1)  # OpenFace counts frames from 0 or from 1
    columns = (faces["source"], faces["input"], faces["frame"], faces["frame"] - first)
    found = [_find(pictures, *face) for face in zip(*columns, strict=True)]
    return faces.assign(**pd.DataFrame(found, faces.index, ["picture", "missing"], object))


def _find(
    pictures: WholePictures, source: str, given: bytes | None, frame: int, place: int
) -> tuple[bytes | None, str | None]:
    name = os.fsdecode(given) if given else None
    try:
        path = pictures.find(source, name) if frame == WHOLE_IMAGE else pictures.find_frame(source, name, place)
    except LookupError as error:
        return None, str(error)
    return os.fsencode(path), None


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
