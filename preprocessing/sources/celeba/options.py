"""What can be asked of `preprocess_celeba`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.sizes import Size, size_of
from gated_vae.preprocessing.sources.splits import Split

CROPS = ("aligned", "landmarks", "centre")  # what of a picture is stored
FACES = ("confident", "largest")  # which of several faces in a picture is taken
FOLDER = Path("folder")  # in place of a list of identities


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
    split:
        Shares of samples that train, validate and test, where no list of partitions says it; see `splits.Split`.
    crop:
        One of `CROPS`: OpenFace's ``aligned`` faces; or whole pictures, cut by their ``landmarks`` as OpenFace would align them,
        or the ``centre`` of them. When None: aligned without `images`, else landmarks if the CSVs have them.
    face:
        Which face of an image with several is taken: ``confident`` or ``largest``.
    size:
        Height and width of the stored images in pixels, or the side of square ones.
    colour:
        Whether they are stored in colour: red, green, blue.
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
    split: Split | None = None
    crop: str | None = None
    face: str = "confident"
    size: Size | int = 64
    colour: bool = False
    min_confidence: float = 0.8
    max_angle: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that no face or machine could meet, `GatedVAEError`."""
        crops = CROPS[1:] if self.images else CROPS[:1]
        limits = {
            "min_confidence": (0 <= self.min_confidence <= 1, "0 to 1"),
            "crop": (
                self.crop in (*crops, None),
                " or ".join(crops) + (" with pictures" if self.images else " without pictures"),
            ),
            "face": (self.face in FACES, " or ".join(FACES)),
            "max_angle": (0 < self.max_angle < float("inf"), "above 0 (radians)"),
        }
        size_of(self.size)
        if self.split and self.partitions:
            raise GatedVAEError("Both --split and --partitions say who trains.", "", "Give one of them.")
        for name, (possible, allowed) in limits.items():
            if not possible:
                raise GatedVAEError(f"{name} is {getattr(self, name)}.", "", f"It must be {allowed}.")
