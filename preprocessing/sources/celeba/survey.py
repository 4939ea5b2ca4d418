"""What `preprocess_celeba` is asked to read: checked, listed and identified before anything is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, OUTPUT, Stamp, list_files, pick_csvs
from gated_vae.preprocessing.openface.pictures import WholePictures, list_aligned
from gated_vae.preprocessing.sources.celeba.lists import read_attributes, read_identities, read_splits
from gated_vae.preprocessing.sources.celeba.samples import People
from gated_vae.preprocessing.store_writer import Plan

FACES = ("confident", "largest")
FOLDER = Path("folder")  # in place of a list of identities
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
    identities:
        ``identity_CelebA.txt`` or a list in its form; `FOLDER` where people lie in folders; or None.
    partitions, attributes:
        ``list_eval_partition.txt`` and ``list_attr_celeba.txt``, also as Kaggle has them, or None.
    face:
        Which face of an image with several is taken: ``confident`` or ``largest``.
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
    attributes: Path | None = None
    face: str = "confident"
    size: int = 64
    min_confidence: float = 0.8
    max_angle: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that no face or machine could meet, `GatedVAEError`."""
        limits = {
            "size": (1 <= self.size <= 4096, "1 to 4096 pixels"),
            "min_confidence": (0 <= self.min_confidence <= 1, "0 to 1"),
            "face": (self.face in FACES, " or ".join(FACES)),
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
    people: People
    plan: Plan


def survey(options: CelebaOptions) -> Source:
    """List and check what the options name.

    The digest covers names and sizes of CSVs, details and pictures and the content of the lists; `Plan.times` covers when each
    was last changed. `GatedVAEError` when a folder or file is missing, has nothing to read in it, or a list has a bad line.
    """
    root = options.openface.absolute()
    files = list_files(root, OUTPUT, _REMEDY)
    csvs = pick_csvs(files, options.openface, _REMEDY)
    stems = {name[: -len(CSV)] for name in csvs}
    pictures = WholePictures(options.images.absolute(), root) if options.images else None
    by_folder = options.identities == FOLDER
    lists = (
        (read_identities, None if by_folder else options.identities),
        (read_splits, options.partitions),
        (read_attributes, options.attributes),
    )
    listing = _Listing()
    listing.add(files.items())
    if pictures:
        listing.add(pictures.files.items())
    else:
        for csv in csvs:
            listing.add(list_aligned(os.fspath(root), csv))
    return Source(
        sizes={name: files[name].size for name in csvs},
        lonely_details=[name for name in files if name.endswith(DETAILS) and name.removesuffix(DETAILS) not in stems],
        pictures=pictures,
        people=People([read(path) for read, path in lists if path], by_folder),
        plan=Plan(
            kind="celeba",
            source_digest=digest(listing.sizes.digest(), *(path.read_bytes() if path else b"" for _, path in lists)),
            times=digest(listing.times.digest()),
            parameters={
                "size": options.size,
                "min_confidence": float(options.min_confidence),
                "max_angle": float(options.max_angle),
                "pictures": "whole" if pictures else "aligned",
                "face": options.face,
                "identities": "folder" if by_folder else options.identities is not None,
                "partitions": options.partitions is not None,
                "attributes": options.attributes is not None,
            },
            image_shape=(options.size, options.size),
        ),
    )


class _Listing:
    """Digests of the names and sizes, and of the times, of files listed one after the other."""

    def __init__(self) -> None:
        self.sizes, self.times = hashlib.sha256(), hashlib.sha256()

    def add(self, files: Iterable[tuple[str, Stamp]]) -> None:
        for name, stamp in files:
            self.sizes.update(os.fsencode(f"{name}\0{stamp.size}\n"))
            self.times.update(b"%d\n" % stamp.time)
