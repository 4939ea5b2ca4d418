"""The rows that say something of pictures: from the tables that lie with them or were given, brought to one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import is_there
from gated_vae.preprocessing.labels.table import FILE_COLUMNS, Labels, read_table
from gated_vae.preprocessing.labels.trackers import Labeller, translate
from gated_vae.preprocessing.sources.images.options import ImagesOptions

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
OURS = ("sample_id", "image")  # columns of samples.parquet that are not the user's


@dataclass(frozen=True)
class Rows:
    """Rows of one table or of several."""

    table: pa.Table  # their labels
    names: list[
        str | None
    ]  # of their pictures, as written, with the folder of the table before it; None where there is none
    sources: list[str]  # their tables, as users know them
    row: Sequence[int]  # their numbers there
    labeller: Labeller | None
    column: str  # the one of file names
    notes: Mapping[str, str]  # by column, what may not be expected
    required: tuple[str, ...]  # columns without which a row is no face's


def find_tables(options: ImagesOptions, folders: list[str]) -> dict[str, Path]:
    """The tables by the folder that their names of pictures start from: the one given, or those of `TABLES`.

    `GatedVAEError` where there are two in one folder, or one lies in the folder itself and others in those of splits.
    """
    if options.labels:
        return {"": options.labels}
    found = [
        (folder, options.folder / folder / name)
        for folder in ("", *folders)
        for name in TABLES
        if is_there(options.folder / folder / name)
    ]
    if len(found) > 1 and (not found[0][0] or len({folder for folder, _ in found}) < len(found)):
        why = f"Both {found[0][1]} and {found[1][1]} may say what is in the pictures."
        raise GatedVAEError(f"{options.folder} has several tables.", why, "Leave one, or name it with --labels.")
    return dict(found)


def read_rows(options: ImagesOptions, tables: Mapping[str, Path]) -> Rows | None:
    """Read the tables; None where there are none. `GatedVAEError` where one cannot be read or has no column of file names."""
    parts = [_read_rows(options, folder, path) for folder, path in tables.items()]
    if not parts and (options.file_column or options.labeller):
        why = f"{options.folder} has none of {', '.join(TABLES)}, which --file-column and --tracker tell about."
        raise GatedVAEError("There is no table.", why, "Name it with --labels.")
    if len(parts) < 2:
        return next(iter(parts), None)
    try:
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        why = f"A column is of different kinds in them: {error}."
        raise GatedVAEError(f"The tables of {options.folder} do not fit together.", why, "Make them alike.") from None
    return Rows(
        table,
        [name for part in parts for name in part.names],
        [source for part in parts for source in part.sources],
        [row for part in parts for row in part.row],
        parts[0].labeller,
        parts[0].column,
        {name: note for part in parts for name, note in part.notes.items()},
        tuple(dict.fromkeys(name for part in parts for name in part.required)),
    )


def _read_rows(options: ImagesOptions, folder: str, path: Path) -> Rows:
    labels = read_table(path)
    column = _file_column(labels, options.file_column)
    names = labels.table[column].cast(pa.string()).to_pylist()
    table, labeller, required = labels.table.drop_columns(column), options.labeller, list[str]()
    if labeller:
        table, labeller, required = translate(replace(labels, table=table), labeller)
    notes = {**labels.notes, **{name: "left out: the store has its own" for name in OURS if name in table.column_names}}
    table = table.drop_columns([name for name in OURS if name in table.column_names])
    return Rows(
        table,
        [None if not name else f"{folder}/{name}" if folder else name for name in names],
        [f"{folder}/{path.name}" if folder else path.name] * len(names),
        range(len(names)),
        labeller,
        column,
        notes,
        tuple(required),
    )


def _file_column(labels: Labels, told: str | None) -> str:
    if told is not None:
        labels.require(told)
        return told
    by_name: dict[str, str] = {name.lower(): name for name in reversed(labels.table.column_names)}
    if found := next((by_name[name] for name in FILE_COLUMNS if name in by_name), None):
        return found
    why = f"It has {', '.join(labels.table.column_names[:12])}."
    raise GatedVAEError(f"{labels.path} has no column of file names.", why, "Name it with --file-column.")
