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
from gated_vae.preprocessing.openface.listing import OUTPUT, find_files, pick_csvs
from gated_vae.preprocessing.openface.reader import read_csvs

REMEDY = "Give a CSV of OpenFace or the folder that was its -out_dir."


def read_openface(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a CSV of OpenFace 1.x or 2.x, or every one in a folder and the folders in it, whatever the flavour.

    Parameters
    ----------
    path:
        A file or a folder; links are followed, each folder is read once.
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
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise GatedVAEError(f"There is no OpenFace output at {path}.", f"{error.strerror}.", REMEDY) from None
    if is_folder:
        names = pick_csvs(sorted(name for name, _ in find_files(path, OUTPUT, REMEDY)), path, REMEDY)
        table = read_csvs([f"{path}/{name}" for name in names], names, columns)
    else:
        table = read_csvs([str(path.resolve())], [path.name], columns)
    table.rows.attrs["rejected"] = table.rejected
    return table.rows
