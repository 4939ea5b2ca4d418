"""What a store of faces says of each sample, and of the images in which there was none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import BadSourceError, raise_trouble
from gated_vae.preprocessing.openface.listing import CSV, printable
from gated_vae.preprocessing.openface.pictures import (
    WHOLE_IMAGE,
    Parts,
    is_picture,
    own_parts,
    path_parts,
    read_details,
)
from gated_vae.preprocessing.sources.celeba.faces import LABELS, inputs_of
from gated_vae.preprocessing.sources.celeba.lists import People, look_up
from gated_vae.preprocessing.store import Rejected


def sample_table(faces: pd.DataFrame, people: People, *, whole: bool) -> pa.Table:
    """Make samples.parquet of the faces taken: image, source, row, frame, face, labels, and the columns of each list.

    Pictures are `whole`, and give the image's name, or aligned faces of the image that the details name. Where two images have
    one name, as many folders come before all names as it takes to tell them apart.

    Labels stay float64, so that they compare equal to what any reader finds in the CSVs; Parquet stores the few different
    values of each once, so that the width costs nothing on disk. `BadSourceError` when a list, or the folders, say nothing of
    any image.
    """
    images = [_image(*face) for face in _places(faces, whole)]
    samples = pd.DataFrame({"image": _short([image for image, _ in images])}, index=faces.index)
    samples = samples.join(faces[["source", "row"]])
    if (faces["frame"] != WHOLE_IMAGE).any():
        samples["frame"] = faces["frame"].astype("Int64").mask(faces["frame"] == WHOLE_IMAGE)
    samples["face"] = faces["face"]
    samples = samples.join(faces[[name for name in LABELS if name in faces]])
    named = [image if path is None else path for image, path in images]  # a list names a video, not its frames
    for labels in people.lists:
        table = look_up(labels, named).set_axis(faces.index)
        if taken := [name for name in table if name in {*samples, "sample_id"}]:
            why = f"{taken[0]} is a column already."
            raise BadSourceError(f"{labels.path} cannot be taken.", why, "Rename it in the list's header.")
        samples = samples.join(table)
    if people.by_folder:
        samples["identity"] = _folders(faces, whole)
    frames = faces["frame"] != WHOLE_IMAGE
    if "identity" in samples:
        samples["identity"] = _tell_faces(samples, frames)
    if people.split:
        samples["split"] = people.split.assign(_kept_together(samples, frames))
    if "split" in samples and not (samples["split"] == "train").any():
        why = "The list of partitions has none of them in train."
        raise BadSourceError("No sample is left to train on.", why, "Give CelebA's list, or --split.")
    return pa.Table.from_pandas(samples, preserve_index=False)


def _places(faces: pd.DataFrame, whole: bool) -> Iterator[tuple[str, int, str | None, str | None]]:
    """Of each face the CSV, the frame, OpenFace's input where it is known, and the whole picture."""
    pictures = [printable(os.fsdecode(path)) if whole else None for path in faces["picture"]]
    return zip(faces["source"], faces["frame"], inputs_of(faces), pictures, strict=True)


def _image(csv: str, frame: int, given: str | None, picture: str | None) -> tuple[Parts, Parts | None]:
    """Parts of an image's path, its name last (``<stem>/<frame>`` for a video's frame); of the video, if it is a frame."""
    base = own_parts(csv[: -len(CSV)])
    if picture:
        return own_parts(picture), None
    if given and (frame == WHOLE_IMAGE or is_picture(given)):
        return path_parts(given), None
    if frame == WHOLE_IMAGE:
        return base, None
    return (*base[:-1], f"{base[-1]}/{frame:06d}"), path_parts(given or "") or base


def _short(images: list[Parts]) -> list[str]:
    """Names, with as many folders before all of them as it takes until no more differ."""
    apart = len(set(images))
    longest = max(map(len, images), default=1)
    names: list[str] = []
    for length in range(1, longest + 1):
        names = ["/".join(parts[-length:]) for parts in images]
        if len(set(names)) == apart:
            break
    return names


def _folders(faces: pd.DataFrame, whole: bool) -> list[str]:
    """The folder of each picture, of each CSV if they lie in folders, or of the input as OpenFace knew it."""
    if whole:
        folders = [os.fsdecode(path).rpartition("/")[0] for path in faces["picture"]]
    else:
        folders = [csv.rpartition("/")[0] for csv in faces["source"]]
    if not any(folders):
        folders = ["".join(path_parts(given or "")[-2:-1]) for given in inputs_of(faces)]
    if not all(folders):
        csv = faces["source"].iloc[folders.index("")]
        remedy = "Put each person's pictures or CSVs into a folder, or give a list with --identities."
        raise BadSourceError("Folders do not tell who is who.", f"The picture of {csv} lies in none.", remedy)
    return [printable(folder) for folder in folders]


def _kept_together(samples: pd.DataFrame, frames: pd.Series) -> list[str]:
    """What must lie in one split with what: images of a person, else of a sequence, else each by itself."""
    known = samples.get("identity", pd.Series(index=samples.index, dtype=object))
    rows = zip(known, known.isna(), frames, samples["source"], samples["image"], strict=True)
    several = samples["source"].duplicated(keep=False)  # a sequence, or a table of many images
    return [
        f"person {person}" if not unknown else f"{source}" if frame or not many else f"{source}:{image}"
        for (person, unknown, frame, source, image), many in zip(rows, several, strict=True)
    ]


def _tell_faces(samples: pd.DataFrame, frames: pd.Series) -> pd.Series:
    """Identities, with the number of the face behind them in videos that show several: each is a person of its own."""
    several = frames & (samples.groupby("source")["face"].transform("nunique") > 1)
    if not several.any():
        return samples["identity"]
    text = samples["identity"].astype(object).where(samples["identity"].notna(), None)
    return pd.Series(
        [
            name if name is None else f"{name}/{face}" if apart else str(name)
            for name, face, apart in zip(text, samples["face"], several, strict=True)
        ],
        samples.index,
    )


def undetected(root: str, lonely_details: Sequence[str]) -> list[Rejected]:
    """Details without a CSV as rejected items: no face was found, or the CSV that they name has gone."""
    items = []
    for name in lonely_details:
        try:
            details = read_details(f"{root}/{name}")
            reason = "missing_csv" if details.csv else "no_face"
            detail = f"{details.csv} is not there" if details.csv else f"OpenFace found no face in {details.input}"
        except OSError as error:
            raise_trouble(error)
            reason, detail = "unreadable", f"{error.strerror}."
        items.append(Rejected(printable(name), None, reason, detail))
    return items
