"""What `preprocess_celeba` is asked to read: checked, listed and identified before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, list_sizes
from gated_vae.preprocessing.openface.pictures import WholePictures, index_pictures
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
    """Everything that was found.

    Attributes
    ----------
    root:
        Absolute path of the folder that OpenFace wrote.
    csvs:
        Absolute paths of the CSVs, sorted by relative path, and `sizes` in bytes.
    lonely_details:
        Relative paths of details without a CSV: images in which OpenFace found no face.
    pictures, identities, splits:
        What the options name, listed or read; None where not asked for.
    plan:
        What decides the store.
    """

    root: Path
    csvs: list[str]
    sizes: list[int]
    lonely_details: list[str]
    pictures: WholePictures | None
    identities: pd.Series | None
    splits: pd.Series | None
    plan: Plan


def survey(options: CelebaOptions) -> Source:
    """List and check what the options name.

    The digest covers names and sizes of CSVs, details and whole pictures and the content of the two lists. It does not
    cover the aligned faces, whose folders would take as long to list as the CSVs take to read.

    Raises
    ------
    GatedVAEError
        When a folder or file is missing, has nothing to read in it, or a list has a bad line.
    """
    root = options.openface.absolute()
    sizes = list_sizes(root, (CSV, DETAILS), _REMEDY)
    names = [name for name in sizes if not name.lower().endswith(DETAILS)]
    if not names:
        raise GatedVAEError(
            f"There is no OpenFace output in {options.openface}.", "No file in it is named *.csv.", _REMEDY
        )
    stems = {name[:-4] for name in names}
    pictures = index_pictures(options.images.absolute()) if options.images else None
    return Source(
        root=root,
        csvs=[f"{root}/{name}" for name in names],
        sizes=[sizes[name] for name in names],
        lonely_details=[name for name in sizes if name.endswith(DETAILS) and name.removesuffix(DETAILS) not in stems],
        pictures=pictures,
        identities=read_identities(options.identities) if options.identities else None,
        splits=read_splits(options.partitions) if options.partitions else None,
        plan=Plan(
            kind="celeba",
            source_digest=digest(*_identity(options, sizes, pictures)),
            parameters=_parameters(options),
            image_shape=(options.size, options.size),
        ),
    )


def _identity(options: CelebaOptions, sizes: dict[str, int], pictures: WholePictures | None) -> Iterator[bytes]:
    yield _listing(sizes)
    yield _listing(pictures.sizes) if pictures else b""
    for path in (options.identities, options.partitions):
        yield path.read_bytes() if path else b""


def _listing(sizes: dict[str, int]) -> bytes:
    return os.fsencode("".join(f"{name}\0{size}\n" for name, size in sizes.items()))


def _parameters(options: CelebaOptions) -> dict[str, Any]:
    """What the store depends on besides the source, without paths: the same on every machine."""
    return {
        "size": options.size,
        "min_confidence": float(options.min_confidence),
        "max_angle": float(options.max_angle),
        "pictures": "whole" if options.images else "aligned",
        "identities": options.identities is not None,
        "partitions": options.partitions is not None,
    }
