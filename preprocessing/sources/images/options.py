"""What can be asked of `preprocess_images`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.sizes import Size, size_of
from gated_vae.preprocessing.sources.splits import Split

if TYPE_CHECKING:
    from gated_vae.preprocessing.labels.trackers import Labeller


@dataclass(frozen=True)
class ImagesOptions:
    """What to read and what to take.

    Attributes
    ----------
    folder:
        The folder of the pictures, in which they may lie in folders.
    labels:
        A table with a row for each picture; when None, ``metadata.csv``, ``.jsonl`` or ``.parquet`` in the folder or in its
        folders of splits, else there is none and all pictures are taken.
    file_column:
        The table's column of file names; when None, ``file_name`` or another usual name.
    labeller:
        The face tracker whose names and units the table has, see `trackers.parse_tracker`.
    split:
        Shares of samples that train, validate and test, where neither the table nor folders say it; see `splits.Split`.
    size:
        Height and width of the stored images in pixels, or the side of square ones.
    colour:
        Whether they are stored in colour: red, green, blue.
    """

    folder: Path
    labels: Path | None = None
    file_column: str | None = None
    labeller: Labeller | None = None
    split: Split | None = None
    size: Size | int = 64
    colour: bool = False

    def __post_init__(self) -> None:
        """Refuse a size that no store has, `GatedVAEError`."""
        size_of(self.size)
        if self.file_column == "":
            raise GatedVAEError("--file-column is empty.", "", "Name a column of the table.")
