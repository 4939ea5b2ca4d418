"""Lists with a line per image: CelebA's identities, partitions and attributes, as published and as Kaggle has them.

A line is an image's name, then one value or several. Commas, semicolons, tabs or blanks part them; names may be quoted, hold
blanks, and carry folders in the way of any system.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gated_vae.preprocessing.errors import BadSourceError, GatedVAEError, raise_trouble
from gated_vae.preprocessing.files import read_bytes
from gated_vae.preprocessing.openface.pictures import Parts, is_picture, path_parts, stem
from gated_vae.preprocessing.sources.matching import match_paths
from gated_vae.preprocessing.sources.splits import SPLIT_OF, SPLITS, Split

_SPLITS = SPLIT_OF | {str(number): name for number, name in enumerate(SPLITS)}  # as CelebA's README numbers them
_LIST_BYTES = 1 << 28  # at most; CelebA's attributes, the largest of its lists, have 25 MB
_FORM = "Every line must be like `000001.jpg 2880`: the official file or Kaggle's CSV, as UTF-8 text."
_PICTURE = re.compile(r'\s*"?(.+?\.(?:bmp|jpe?g|png))"?\s*[,;\t ]\s*(.*)', re.IGNORECASE)  # then what follows the name
_HEADER = re.compile(r"(image|file|picture|img|path|name)[ _-]?(id|name|path)?s?", re.IGNORECASE)  # above the names


@dataclass(frozen=True)
class NamedValues:
    """What a list says: the values of each image by the parts of its path, a column to a name."""

    path: Path
    columns: tuple[str, ...]
    values: Mapping[Parts, tuple[Any, ...]]


@dataclass(frozen=True)
class People:
    """How identities and other labels come to faces."""

    lists: Sequence[NamedValues]
    by_folder: bool  # whether the folder that a picture lies in says who it is
    split: Split | None = None  # by shares, where no list says it


def read_list(path: Path) -> bytes:
    """Bytes of a list; `OSError` when it cannot be read or is no list, by its size."""
    return read_bytes(path, _LIST_BYTES)


def read_identities(path: Path) -> NamedValues:
    """Read ``identity_CelebA.txt`` or a list in its form: persons, as integers if the first is one, else as text.

    `GatedVAEError` when it cannot be read, or naming the first line that has no value or contradicts another.
    """
    return _read(path, ("identity",), _person)


def read_splits(path: Path) -> NamedValues:
    """Read ``list_eval_partition.txt``: ``train``, ``valid`` or ``test``, or their numbers; raises as `read_identities`."""
    return _read(path, ("split",), _SPLITS.__getitem__)


def read_attributes(path: Path) -> NamedValues:
    """Read ``list_attr_celeba``: columns of whole numbers, named by its header; raises as `read_identities`."""
    return _read(path, (), _whole)


def look_up(labels: NamedValues, images: Sequence[Parts]) -> pd.DataFrame:
    """Values of each image: of the line whose path is the same as far as both go, by the name's stem if the suffix differs.

    What could be one image's or another's is neither's: no two people get one identity. Missing values where there is no line;
    `BadSourceError` when no image has one, which names one of each side.
    """
    found = match_paths(labels.values, images, stem)
    if images and not found:
        shown = ["/".join(next(iter(side))[-3:]) for side in (labels.values, images)]
        why = f"It has {shown[0]!r}, the images are like {shown[1]!r}; a name that several have counts for none."
        remedy = "Write names as OpenFace knew them; where several pictures have one name, their folders before it."
        raise BadSourceError(f"{labels.path} names none of the images.", why, remedy)
    nothing = (None,) * len(labels.columns)
    rows = [labels.values[found[parts]] if parts in found else nothing for parts in images]
    columns = zip(*rows, strict=True) if rows else [()] * len(labels.columns)
    return pd.DataFrame({name: _column(column) for name, column in zip(labels.columns, columns, strict=True)})


def _column(values: Sequence[Any]) -> pd.Series:
    whole = all(isinstance(value, int) for value in values if value is not None)
    return pd.Series(values, dtype="Int64" if whole else None)


def _person(text: str) -> int | str:
    if text.isascii() and text.lstrip("+-").isdigit():
        if len(text) > 18:
            raise ValueError
        return int(text)
    return text


def _whole(text: str) -> int:
    if not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError
    return value


def _read(path: Path, columns: tuple[str, ...], convert: Callable[[str], Any]) -> NamedValues:
    """Read a list of these columns, or of those that its header names if none are given."""
    lines = [(place, line) for place, line in enumerate(_text_lines(path), start=1) if line.strip()]
    if long := [place for place, line in lines if len(line) > csv.field_size_limit()]:
        raise GatedVAEError(f"Line {long[0]} of {path} cannot be read.", "It is far too long.", _FORM)
    if lines and lines[0][1].strip().isdigit():  # how many lines follow, as in the official file of attributes
        lines = lines[1:]
    names = _split(lines[0][1]) if lines else []
    if not columns and names:
        columns, lines = tuple(names[1:] if _HEADER.fullmatch(names[0]) else names), lines[1:]
    elif _is_header([_cells(line, len(columns))[0] for _, line in lines[:2]]):
        lines = lines[1:]
    if len({*columns} - {""}) < len(columns):
        raise GatedVAEError(
            f"{path} cannot be read.", "Its header names a column twice, or has one without a name.", _FORM
        )
    if not (lines and columns):
        raise GatedVAEError(f"{path} has no line.", "", _FORM)
    values: dict[Parts, tuple[Any, ...]] = {}
    kind = None  # of the first line's value, which is that of all
    for place, line in lines:
        cells = _cells(line, len(columns))
        parts = path_parts(cells[0])
        try:
            if not parts or len(cells) != len(columns) + 1 or "" in cells:
                raise ValueError
            row = tuple(map(convert, cells[1:]))
            kind = kind or type(row[0])
            if type(row[0]) is not kind:
                raise ValueError
        except (ValueError, KeyError):
            raise GatedVAEError(f"Line {place} of {path} cannot be read.", f"It is {line[:60]!r}.", _FORM) from None
        if values.setdefault(parts, row) != row:
            why = f"It gives {'/'.join(parts)} another value than an earlier line."
            remedy = (
                "Where pictures of several people have one name, write their folders before it, as in `ann/1.jpg 7`."
            )
            raise GatedVAEError(f"Line {place} of {path} contradicts another.", why, remedy)
    return NamedValues(path, columns, values)


def _is_header(first: Sequence[str]) -> bool:
    """Whether the first line of a list names columns, given where its first two lines begin."""
    return any(map(_HEADER.fullmatch, first[:1])) or (any(map(is_picture, first[1:])) and not is_picture(first[0]))


def _text_lines(path: Path) -> list[str]:
    try:
        return re.split(r"\r\n|\r|\n", read_list(path).decode("utf-8-sig"))
    except OSError as error:
        raise_trouble(error)
        raise GatedVAEError(f"{path} cannot be read.", f"{error.strerror}.", _FORM) from None
    except UnicodeDecodeError:
        remedy = "Save it as UTF-8 text."
        raise GatedVAEError(f"{path} cannot be read.", "It is no UTF-8 text.", remedy) from None


def _cells(line: str, values: int) -> list[str]:
    """An image's name and what follows it; if no suffix tells where the name ends, the `values` last cells are no part of it."""
    if picture := _PICTURE.fullmatch(line):
        return [picture[1], *_split(picture[2])]
    if any(mark in line for mark in ',;\t"'):
        return _split(line)
    return line.rsplit(None, values)


def _split(text: str) -> list[str]:
    mark = next((mark for mark in "\t;," if mark in text), None)
    if mark is None and '"' not in text:
        return text.split()
    return [cell.strip() for cell in next(csv.reader([text.strip()], delimiter=mark or " ", skipinitialspace=True), [])]
