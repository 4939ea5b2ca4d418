"""CelebA's lists of one number per image: ``identity_CelebA.txt`` and ``list_eval_partition.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.errors import GatedVAEError

SPLITS = {0: "train", 1: "valid", 2: "test"}  # as CelebA's README numbers them

_FORM = "Every line must be like `000001.jpg 2880`: the official file, with LF or CRLF."


def read_identities(path: Path) -> pd.Series:
    """Read ``identity_CelebA.txt``: person (Int64) by image name.

    `GatedVAEError` when it cannot be read, or naming the first line that is not ``<image> <number>`` or contradicts another.
    """
    return pd.Series(_read_numbers(path), dtype="Int64", name="identity")


def read_splits(path: Path) -> pd.Series:
    """Read ``list_eval_partition.txt``: ``train``, ``valid`` or ``test`` by image name; raises as `read_identities`."""
    numbers = _read_numbers(path, SPLITS)
    return pd.Series({name: SPLITS[number] for name, number in numbers.items()}, dtype="str", name="split")


def look_up(labels: pd.Series, images: pd.Series) -> pd.Series:
    """Label of each image by its file name; by its stem where that is the only one of its kind on both sides.

    The second serves pictures converted from jpg to png, and CSVs whose ``_of_details.txt`` was lost. Images without a
    label get a missing value.
    """
    found = images.map(labels)
    stems, label_stems = _stems(images), _stems(labels.index.to_series())
    by_stem = labels.set_axis(label_stems)[~label_stems.duplicated(keep=False).to_numpy()]
    by_stem = stems.mask(stems.duplicated(keep=False)).map(by_stem)
    return found.fillna(by_stem).astype(labels.dtype).rename(labels.name)


def _stems(names: pd.Series) -> pd.Series:
    return names.str.replace(r"(?i)\.(?:bmp|jpe?g|png)$", "", regex=True)


def _read_numbers(path: Path, allowed: Mapping[int, str] | None = None) -> dict[str, int]:
    numbers: dict[str, int] = {}
    try:
        lines = path.read_bytes().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GatedVAEError(f"{path} cannot be read.", str(error), _FORM) from None
    for place, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2 or not (cells[1].isascii() and cells[1].isdigit()) or len(cells[1]) > 18:
            raise GatedVAEError(f"Line {place} of {path} cannot be read.", f"It is {line[:60]!r}.", _FORM)
        name, number = cells[0], int(cells[1])
        if allowed is not None and number not in allowed:
            why = f"{number} is none of {', '.join(map(str, allowed))}."
            raise GatedVAEError(f"Line {place} of {path} cannot be read.", why, _FORM)
        if numbers.setdefault(name, number) != number:
            why = f"It gives {name} the number {number}, an earlier line {numbers[name]}."
            raise GatedVAEError(f"Line {place} of {path} contradicts another.", why, _FORM)
    if not numbers:
        raise GatedVAEError(f"{path} has no line.", "", _FORM)
    return numbers
