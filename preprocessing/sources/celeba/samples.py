"""What a store of faces says of each sample, and of the images in which there was none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.openface.listing import printable
from gated_vae.preprocessing.openface.pictures import SUFFIXES, WHOLE_IMAGE, base_name, read_details
from gated_vae.preprocessing.sources.celeba.faces import LABELS
from gated_vae.preprocessing.sources.celeba.lists import look_up


def sample_table(faces: pd.DataFrame, lists: Sequence[pd.Series], *, whole: bool) -> pa.Table:
    """Make samples.parquet of the faces taken: image, source, row, frame, face, labels, and a column of each list.

    Pictures are `whole`, and give the image's name, or aligned faces of the image that the details name.

    Labels stay float64, so that they compare equal to what any reader finds in the CSVs; Parquet stores the few different
    values of each once, so that the width costs nothing on disk.
    """
    names = _image_names(faces, whole)
    samples = pd.DataFrame({"image": names}, index=faces.index).join(faces[["source", "row"]])
    if (faces["frame"] != WHOLE_IMAGE).any():
        samples["frame"] = faces["frame"].astype("Int64").mask(faces["frame"] == WHOLE_IMAGE)
    samples["face"] = faces["face"]
    samples = samples.join(faces[[name for name in LABELS if name in faces]])
    for labels in lists:
        samples[str(labels.name)] = look_up(labels, samples["image"])
    return pa.Table.from_pandas(samples, preserve_index=False)


def undetected(root: Path, lonely_details: Sequence[str]) -> list[dict[str, Any]]:
    """Details without a CSV as rejected items: no face was found, or the CSV that they name has gone."""
    items = []
    for name in lonely_details:
        details = read_details(root / name)
        reason = "missing_csv" if details.csv else "no_face"
        detail = f"{details.csv} is not there" if details.csv else f"OpenFace found no face in {details.input}"
        items.append({"source": printable(name), "row": None, "reason": reason, "detail": printable(detail)})
    return items


def _image_names(faces: pd.DataFrame, whole: bool) -> list[str]:
    """File name of the picture or of OpenFace's input; ``<stem>/<frame>`` for frames, ``<stem>`` where nothing tells."""
    if whole:
        return [printable(os.path.basename(os.fsdecode(path))) for path in faces["picture"]]  # noqa: PTH119
    columns = faces["source"], faces["frame"], faces["input"]
    return [_image_name(*face) for face in zip(*columns, strict=True)]


def _image_name(source: str, frame: int, given: bytes | None) -> str:
    name = base_name(os.fsdecode(given)) if given else ""
    if name and (frame == WHOLE_IMAGE or name.lower().endswith(SUFFIXES)):
        return printable(name)
    stem = base_name(source)[:-4]
    return stem if frame == WHOLE_IMAGE else f"{stem}/{frame:06d}"
