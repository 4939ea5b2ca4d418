"""What OpenFace wrote, read fast and accounted for line by line.

Files with the same header are joined and parsed together, a few megabytes at a time: for FaceLandmarkImg, which writes
711 columns for one row per image, this comes close to the cost of opening the files. Every line that is not empty ends
as a row or among the rejected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.reader import OpenFaceTable, Shard

REMEDY = "Give a CSV of OpenFace or the folder that was its -out_dir."


@dataclass(frozen=True)
class Details:
    """What ``<stem>_of_details.txt`` says; None where it does not. An image without a face has no `csv`."""

    input: str | None
    input_full_path: str | None
    aligned_directory: str | None
    csv: str | None


def read_openface(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a CSV of OpenFace 1.x or 2.x, or every one in a folder and the folders in it, whatever the flavour.

    Parameters
    ----------
    path:
        A file or a folder. Links inside a folder are not followed.
    columns:
        Parse only these, as far as they exist (far faster than reading all 711 columns), and return them in this order.

    Returns
    -------
    pandas.DataFrame
        One row per face or frame, ordered by source and row. Names are stripped and as OpenFace spells them (`x_0` and
        `X_0` differ). OpenFace's columns are int64 or float64 with NaN for empty cells and every spelling of it;
        columns of the user's own are as plain pandas reads them; unnamed ones (an index saved by pandas) are left out.
        Two more columns: `source`, the path relative to `path` (the name of a single file), and `row`, 0-based in its
        file. `.attrs["rejected"]` lists what could not be read as dicts of source, row, reason and detail.

    Raises
    ------
    GatedVAEError
        When `path` does not exist or is a folder without any CSV. Bad content never raises: it is rejected.
    """
    path = Path(path)
    if _is_folder(path):
        names = _scan(path)
        if not names:
            raise GatedVAEError(f"There is no OpenFace output in {path}.", "No file in it is named *.csv.", REMEDY)
        prefix = f"{path}/"
        table = _read(names, [prefix + name for name in names], columns)
    else:
        table = _read([path.name], [str(path.resolve())], columns)
    table.rows.attrs["rejected"] = table.rejected
    return table.rows


def find_csvs(root: Path) -> list[Path]:
    """List every CSV in `root` and the folders in it, sorted by relative path.

    Hidden names and the `<stem>_aligned` folders of face pictures are passed over, links to folders are not entered. A
    link to a file and a folder that cannot be listed are in the list all the same: `read_csvs` rejects them by name.

    Raises
    ------
    GatedVAEError
        When `root` is not a folder that can be listed.
    """
    return [root / name for name in _scan(root)]


def read_csvs(root: Path, files: Sequence[Path], columns: Sequence[str] | None = None) -> OpenFaceTable:
    """Read `files`, which lie in `root`, as one shard: all of the result is in memory, little of the files is.

    Column types follow from the files given, as if pandas had concatenated them. See `read_openface` for the rest.

    Raises
    ------
    GatedVAEError
        When a file does not lie in `root`.
    """
    paths = [os.fspath(file) for file in files]
    return _read([_relative(path, f"{root}/") for path in paths], paths, columns)


def read_details(path: Path) -> Details:
    """Read ``<stem>_of_details.txt``, in which OpenFace names its input and outputs.

    Bytes that are not UTF-8 are kept as Python keeps them in file names (`os.fsdecode`).

    Raises
    ------
    GatedVAEError
        When the file cannot be read.
    """
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError as error:
        raise GatedVAEError(f"{path} cannot be read.", str(error), "Run OpenFace on this image again.") from None
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    keys = ("Input", "Input full path", "Output aligned directory", "Output csv")
    return Details(*(fields.get(key) or None for key in keys))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise GatedVAEError(f"There is no OpenFace output at {path}.", f"{error.strerror}.", REMEDY) from None


def _scan(root: Path) -> list[str]:
    """Relative paths of the CSVs in `root`, sorted."""
    found = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = {entry.name: entry for entry in os.scandir(f"{root}/{folder}")}
        except OSError as error:
            if not folder:
                raise GatedVAEError(f"{root} cannot be listed.", f"{error.strerror}.", REMEDY) from None
            found.append(folder.rstrip("/"))
            continue
        for name, entry in entries.items():
            if name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                stem = name.removesuffix("_aligned")
                if stem == name or not (f"{stem}.csv" in entries or f"{stem}_of_details.txt" in entries):
                    folders.append(f"{folder}{name}/")
            elif name[-4:].lower() == ".csv" and (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                found.append(folder + name)
    return sorted(found)


def _relative(path: str, prefix: str) -> str:
    if path.startswith(prefix) and "/../" not in path:
        return path[len(prefix) :]
    relative = os.path.relpath(path, prefix)
    if relative.startswith("../"):
        raise GatedVAEError(f"{path} does not lie in {prefix}.", "", "Give files as find_csvs lists them.")
    return relative


def _read(sources: list[str], paths: list[str], columns: Sequence[str] | None) -> OpenFaceTable:
    shard = Shard([columns] if isinstance(columns, str) else columns)
    for file, path in enumerate(paths):
        shard.add(file, path)
    return shard.finish([_printable(source) for source in sources])


def _printable(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 are spelled out."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
