"""What `preprocess_celeba` is asked to read: checked, listed and identified before anything is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, OUTPUT, list_sizes, pick_csvs
from gated_vae.preprocessing.openface.pictures import WholePictures
from gated_vae.preprocessing.sources.celeba.lists import read_identities, read_splits
from gated_vae.preprocessing.store_writer import Plan

_REMEDY = "Give the folder that was OpenFace's -out_dir."


@dataclass(frozen=True)
class CelebaOptions:
    """What to read and what to take.

    Attributes
    ----------
    openface:
        Folder that OpenFace wrote, any flavour.
    images:
        Folder of the whole pictures; the aligned faces beside the CSVs when None.
    identities, partitions:
        ``identity_CelebA.txt`` and ``list_eval_partition.txt``, or None.
    size:
        Side of the stored images in pixels.
    min_confidence:
        Least confidence of a face that is taken.
    max_angle:
        Largest absolute pitch, yaw and roll, in radians. Among 7,387 confident faces of CelebA, whose pictures are turned
        until the eyes are level, a roll above 0.3 occurs in 0.1% of those with pitch and yaw below 1 and in 83% of those
        beyond: there OpenFace has lost the head. Hardly any face lies near the limit (2 between 0.9 and 1).
    """

    openface: Path
    images: Path | None = None
    identities: Path | None = None
    partitions: Path | None = None
    size: int = 64
    min_confidence: float = 0.8
    max_angle: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that no face or machine could meet, `GatedVAEError`."""
        limits = {
            "size": (1 <= self.size <= 4096, "1 to 4096 pixels"),
            "min_confidence": (0 <= self.min_confidence <= 1, "0 to 1"),
            "max_angle": (0 < self.max_angle < float("inf"), "above 0 (radians)"),
        }
        for name, (possible, allowed) in limits.items():
            if not possible:
                raise GatedVAEError(f"{name} is {getattr(self, name)}.", "", f"It must be {allowed}.")


@dataclass(frozen=True)
class Source:
    """Everything that was found; paths are those in the folder that OpenFace wrote."""

    sizes: dict[str, int]  # bytes of each CSV by path, sorted
    lonely_details: list[str]  # details without a CSV: images in which OpenFace found no face
    pictures: WholePictures | None  # whole pictures, where asked for
    lists: list[pd.Series]  # identities and splits, as far as asked for
    plan: Plan


def survey(options: CelebaOptions) -> Source:
    """List and check what the options name.

    The digest covers names and sizes of CSVs, details and whole pictures and the content of the two lists. It does not
    cover the aligned faces, whose folders would take as long to list as the CSVs take to read. `GatedVAEError` when a folder
    or file is missing, has nothing to read in it, or a list has a bad line.
    """
    sizes = list_sizes(options.openface.absolute(), OUTPUT, _REMEDY)
    csvs = pick_csvs(sizes, options.openface, _REMEDY)
    stems = {name[: -len(CSV)] for name in csvs}
    pictures = WholePictures(options.images.absolute()) if options.images else None
    lists = ((read_identities, options.identities), (read_splits, options.partitions))
    return Source(
        sizes={name: sizes[name] for name in csvs},
        lonely_details=[name for name in sizes if name.endswith(DETAILS) and name.removesuffix(DETAILS) not in stems],
        pictures=pictures,
        lists=[read(path) for read, path in lists if path],
        plan=Plan(
            kind="celeba",
            source_digest=digest(
                _listing(sizes),
                _listing(pictures.sizes) if pictures else b"",
                *(path.read_bytes() if path else b"" for path in (options.identities, options.partitions)),
            ),
            parameters={
                "size": options.size,
                "min_confidence": float(options.min_confidence),
                "max_angle": float(options.max_angle),
                "pictures": "whole" if pictures else "aligned",
                "identities": options.identities is not None,
                "partitions": options.partitions is not None,
            },
            image_shape=(options.size, options.size),
        ),
    )


def _listing(sizes: dict[str, int]) -> bytes:
    return os.fsencode("".join(f"{name}\0{size}\n" for name, size in sizes.items()))
