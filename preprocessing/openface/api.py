"""What OpenFace wrote, read fast and accounted for line by line.

Files with the same header are joined and parsed together, a few megabytes at a time: for FaceLandmarkImg, which writes
711 columns for one row per image, this comes close to the cost of opening the files. Every line that is not empty ends
as a row or among the rejected.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, find_files
from gated_vae.preprocessing.openface.reader import read_files

REMEDY = "Give a CSV of OpenFace or the folder that was its -out_dir."


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
        table = read_files([prefix + name for name in names], names, columns)
    else:
        table = read_files([str(path.resolve())], [path.name], columns)
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


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise GatedVAEError(f"There is no OpenFace output at {path}.", f"{error.strerror}.", REMEDY) from None


def _scan(root: Path) -> list[str]:
    """Relative paths of the CSVs in `root`, sorted; details are looked for, too, as they tell which folders hold aligned faces."""
    found = find_files(root, (CSV, DETAILS), REMEDY)
    return sorted(name for name, _ in found if not name.lower().endswith(DETAILS))
