"""What can be asked of `preprocess_celeba`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.sizes import Size, size_of
from gated_vae.preprocessing.sources.splits import Split

# What is stored: OpenFace's aligned faces; or of whole pictures what it would align by their landmarks, or their centre.
CROPS = ("aligned", "landmarks", "centre")
FACES = ("confident", "largest")  # which of several faces in a picture is taken
FOLDER = Path("folder")  # in place of a list of identities


@dataclass(frozen=True)
class CelebaOptions:
    """What to read and what to take; `GatedVAEError` for values that no face or machine could meet.

    Among 7,387 confident faces of CelebA, whose pictures are turned until the eyes are level, a roll above 0.3 occurs in 0.1% of
    those with pitch and yaw below 1 and in 83% of those beyond: there OpenFace has lost the head. Hardly any face lies near
    that limit (2 between 0.9 and 1).
    """

    openface: Path  # folder that OpenFace wrote, any flavour
    images: Path | None = None  # folder of the whole pictures; the aligned faces beside the CSVs when None
    identities: Path | None = None  # `identity_CelebA.txt` or a list in its form; `FOLDER` where people lie in folders
    partitions: Path | None = None  # `list_eval_partition.txt`, also as Kaggle has it
    attributes: Path | None = None  # `list_attr_celeba.txt`, also as Kaggle has it
    split: Split | None = None  # shares that train, validate and test, where no list of partitions says it
    crop: str | None = None  # one of `CROPS`; when None: aligned without `images`, else landmarks if the CSVs have them
    face: str = "confident"  # one of `FACES`
    size: Size | int = 64  # height and width of the stored images in pixels, or the side of square ones
    colour: bool = False  # whether red, green and blue are stored
    min_confidence: float = 0.8  # of a face that is taken
    max_angle: float = 1.0  # largest absolute pitch, yaw and roll, in radians

    def __post_init__(self) -> None:
        crops, where = (CROPS[1:], "with") if self.images else (CROPS[:1], "without")
        limits = {
            "min_confidence": (0 <= self.min_confidence <= 1, "0 to 1"),
            "crop": (self.crop in (*crops, None), f"{' or '.join(crops)} {where} --images"),
            "face": (self.face in FACES, " or ".join(FACES)),
            "max_angle": (0 < self.max_angle < float("inf"), "above 0 (radians)"),
        }
        size_of(self.size)
        if self.split and self.partitions:
            raise GatedVAEError("Both --split and --partitions say who trains.", "", "Give one of them.")
        for name, (possible, allowed) in limits.items():
            if not possible:
                raise GatedVAEError(f"{name} is {getattr(self, name)}.", "", f"It must be {allowed}.")
