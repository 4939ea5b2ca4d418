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
    """What to read and what to take; `GatedVAEError` for a size that no store has.

    Without `labels` the table is ``metadata.csv``, ``.jsonl`` or ``.parquet`` in the folder or in its folders of splits; without
    any, all pictures are taken.
    """

    folder: Path  # of the pictures, in which they may lie in folders
    labels: Path | None = None  # a table with a row for each picture
    file_column: str | None = None  # the table's column of file names; when None, `file_name` or another usual name
    labeller: Labeller | None = (
        None  # the face tracker whose names and units the table has, see `trackers.parse_tracker`
    )
    split: Split | None = None  # shares that train, validate and test, where neither the table nor folders say it
    size: Size | int = 64  # height and width of the stored images in pixels, or the side of square ones
    colour: bool = False  # whether red, green and blue are stored

    def __post_init__(self) -> None:
        size_of(self.size)
        if self.file_column == "":
            raise GatedVAEError("--file-column is empty.", "", "Name a column of the table.")
