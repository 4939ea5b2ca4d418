"""The tables of a CelebA store: one row per sample, one row per rejected item."""

from __future__ import annotations

import os

import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.openface.api import read_details
from gated_vae.preprocessing.openface.pictures import SUFFIXES, WHOLE_IMAGE, base_name
from gated_vae.preprocessing.sources.celeba.faces import LABELS, REJECTED, printable
from gated_vae.preprocessing.sources.celeba.lists import look_up
from gated_vae.preprocessing.sources.celeba.survey import Source

_NULLABLE = {pa.int64(): pd.Int64Dtype()}  # noted in the file, so that pandas reads row numbers as integers


def sample_table(faces: pd.DataFrame, source: Source) -> pa.Table:
    """Make samples.parquet of the faces taken: sample_id, image, source, row, frame, face, labels, identity, split.

    Labels stay float64, so that they compare equal to what any reader finds in the CSVs; Parquet stores the few different
    values of each once, so that the width costs nothing on disk.
    """
    columns = {"sample_id": range(len(faces)), "image": _image_names(faces, whole=source.pictures is not None)}
    samples = pd.DataFrame(columns, index=faces.index).join(faces[["source", "row"]])
    if (faces["frame"] != WHOLE_IMAGE).any():
        samples["frame"] = faces["frame"].astype("Int64").mask(faces["frame"] == WHOLE_IMAGE)
    samples["face"] = faces["face"]
    samples = samples.join(faces[[name for name in LABELS if name in faces]])
    for labels in (source.identities, source.splits):
        if labels is not None:
            samples[str(labels.name)] = look_up(labels, samples["image"])
    return pa.Table.from_pandas(samples, preserve_index=False)


def join_rejected(tables: list[pa.Table]) -> pa.Table:
    """Make rejected.parquet: all tables, ordered by source and row, whole files (without a row) last."""
    rejected = pa.concat_tables(tables).sort_by([("source", "ascending"), ("row", "ascending")])
    return pa.Table.from_pandas(rejected.to_pandas(types_mapper=_NULLABLE.get), preserve_index=False)


def to_rejected(dropped: pd.DataFrame) -> pa.Table:
    """Rejected items of a data frame with source, row, reason and detail."""
    return pa.Table.from_pandas(dropped[REJECTED.names], REJECTED, preserve_index=False).replace_schema_metadata()


def undetected(source: Source) -> pa.Table:
    """Details without a CSV as rejected items: no face was found, or the CSV that they name has gone."""
    items = []
    for name in source.lonely_details:
        details = read_details(source.root / name)
        reason = "missing_csv" if details.csv else "no_face"
        detail = f"{details.csv} is not there" if details.csv else f"OpenFace found no face in {details.input}"
        items.append({"source": printable(name), "row": None, "reason": reason, "detail": printable(detail)})
    return pa.Table.from_pylist(items, schema=REJECTED)


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
