"""What lies in a folder of pictures and which row of a table belongs to which: listed and settled before anything is written.

Every picture and every row has one end: they make a sample together, or they are rejected with a reason.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gated_vae.preprocessing.errors import BadSourceError, GatedVAEError
from gated_vae.preprocessing.files import digest, file_digest
from gated_vae.preprocessing.openface.listing import list_files, listing_digests, printable
from gated_vae.preprocessing.openface.pictures import path_parts
from gated_vae.preprocessing.sources.images.options import ImagesOptions
from gated_vae.preprocessing.sources.images.rows import Rows, find_tables, read_rows
from gated_vae.preprocessing.sources.matching import Parts, match_paths
from gated_vae.preprocessing.sources.sizes import as_told, shape_of, size_of
from gated_vae.preprocessing.sources.splits import SPLIT_OF, in_order
from gated_vae.preprocessing.store import Rejected
from gated_vae.preprocessing.store_writer import Plan

# What OpenCV reads, and what people have that it may not read: it is rejected by name then.
SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_REMEDY = f"Give a folder of pictures ({', '.join(SUFFIXES)}); they may lie in folders."


@dataclass(frozen=True)
class Found:
    """Samples in the order of the store, and what is not taken."""

    pictures: list[bytes]  # paths in the folder
    samples: pa.Table  # their rows of samples.parquet
    rejected: list[Rejected]  # pictures and rows that are not taken
    notes: Mapping[str, str]  # by column of the table, what may not be expected
    plan: Plan


def survey(options: ImagesOptions) -> Found:
    """List pictures and read tables; `GatedVAEError` when there is nothing to take, or a table says nothing of any picture."""
    files = list_files(options.folder.absolute(), SUFFIXES, _REMEDY)
    if not files:
        raise GatedVAEError(f"There are no pictures in {options.folder}.", "", _REMEDY)
    names = [*files]
    folders = _split_folders(names)
    tables = find_tables(options, sorted({name.partition("/")[0] for name in names} if folders else ()))
    rows = read_rows(options, tables)
    rejected: list[Rejected] = []
    if rows:
        taken, places = _join(names, rows, rejected)
        columns = {name: rows.table[name] for name in rows.table.column_names}
        columns = {name: column.take(pa.array(places)) for name, column in columns.items()}
    else:
        taken, columns = names, _folder_labels(names, folders)
    splits = _splits(options, taken, columns, folders)
    samples = pa.table({"image": [printable(name) for name in taken], **columns})
    if splits:
        order = in_order(splits)
        samples = samples.append_column("split", pa.array(splits, pa.string())).take(pa.array(order))
        taken = [taken[place] for place in order]
    sizes, times = listing_digests(files.items())
    size = size_of(options.size)
    plan = Plan(
        kind="images",
        source_digest=digest(sizes, *(file_digest(path) for path in tables.values())),
        inputs=(options.folder, *tables.values()),
        times=digest(times),
        parameters={
            "size": as_told(size),
            "colour": options.colour,
            "file_column": rows.column if rows else None,
            "tracker": rows.labeller.told() if rows and rows.labeller else None,
            "split": options.split.told() if options.split else None,
        },
        image_shape=shape_of(size, colour=options.colour),
    )
    notes = rows.notes if rows else {}
    return Found([os.fsencode(name) for name in taken], samples, rejected, notes, plan)


def stem(name: str) -> str:
    """A name without the suffix of a picture, in any case."""
    base, _, suffix = name.rpartition(".")
    return base if f".{suffix.lower()}" in SUFFIXES else name


def _split_folders(names: Sequence[str]) -> bool:
    """Whether all pictures lie in folders that are called as splits are, those that train among them."""
    firsts = {name.partition("/")[0].lower() if "/" in name else "" for name in names}
    return firsts <= {*SPLIT_OF} and "train" in {SPLIT_OF[first] for first in firsts}


def _folder_labels(names: Sequence[str], split_folders: bool) -> dict[str, pa.Array]:
    """A column `label` with the folder of each picture, where they lie in several; folders of splits are none."""
    folders = [name.split("/")[split_folders:-1] for name in names]
    labels = [printable(parts[-1]) if parts else None for parts in folders]
    return {"label": pa.array(labels, pa.string())} if len({*labels} - {None}) > 1 else {}


def _join(names: list[str], rows: Rows, rejected: list[Rejected]) -> tuple[list[str], list[int]]:
    """Pictures that have a row, and the row of each; the others of both go to `rejected`."""
    pictures: dict[str, str] = {}
    for name in names:
        if (first := pictures.setdefault(_spelt(name), name)) != name:
            detail = f"its name differs from that of {printable(first)} in spelling alone"
            rejected.append(Rejected(printable(name), None, "duplicate_name", detail))
    lines = _lines(rows, rejected)
    found = {path: path for path in lines if path in pictures}  # by picture; what has the whole path needs no search
    if len(found) < max(len(lines), len(pictures)):
        rows_left, left = ([_parts(path) for path in side if path not in found] for side in (lines, pictures))
        found |= {"/".join(picture): "/".join(line) for picture, line in match_paths(rows_left, left, stem).items()}
    if not found:
        shown = [next(iter(side), "nothing") for side in (lines, pictures)]
        why = f"It has {shown[0]!r}, the pictures are like {shown[1]!r}."
        remedy = "Write names as they lie in the folder, or name their column with --file-column."
        raise BadSourceError(f"{rows.sources[0]} names none of the pictures.", why, remedy)
    if len(found) < len(lines):
        _reject_rows({*found.values()}, lines, pictures, rows, rejected)
    for path, name in pictures.items():
        if path not in found:
            detail = "no row names it, or none names it alone"
            rejected.append(Rejected(printable(name), None, "no_row", detail))
    return _finite([(name, lines[found[path]]) for path, name in pictures.items() if path in found], rows, rejected)


def _spelt(name: str) -> str:
    """The one spelling of a path, as it may have been written on any system."""
    plain = name.isascii() and "\\" not in name and "./" not in name and "//" not in name and not name.startswith("/")
    return name if plain else "/".join(path_parts(name))


def _parts(path: str) -> Parts:
    return tuple(path.split("/"))


def _reject_rows(
    taken: set[str], lines: Mapping[str, int], pictures: Iterable[str], rows: Rows, rejected: list[Rejected]
) -> None:
    """Reject the rows that have no picture, or none to themselves."""
    stems = Counter(stem(_parts(path)[-1]) for path in pictures)
    for path, row in lines.items():
        if path not in taken:
            several = stems[stem(_parts(path)[-1])]
            detail = f"{several} pictures have its name, and it is none of them alone"
            told = ("ambiguous", detail) if several else ("no_picture", f"there is no picture {path}")
            rejected.append(_item(rows, row, *told))


def _lines(rows: Rows, rejected: list[Rejected]) -> dict[str, int]:
    """The row of each path that is named: the first one or, where faces have a confidence, the one of most."""
    best = _confidence(rows)
    lines: dict[str, int] = {}
    for row, name in enumerate(rows.names):
        path = _spelt(name) if name else ""
        if not path:
            rejected.append(_item(rows, row, "no_name", f"its {rows.column} is empty"))
        elif (first := lines.setdefault(path, row)) != row:
            kept, other = (row, first) if best is not None and best[row] > best[first] else (first, row)
            lines[path] = kept
            where = f"{rows.sources[kept]} row {rows.row[kept]}"
            rejected.append(_item(rows, other, "duplicate_row", f"{where} has its picture"))
    return lines


def _confidence(rows: Rows) -> Any:
    if rows.labeller and "confidence" in rows.table.column_names:
        return np.nan_to_num(rows.table["confidence"].to_numpy(), nan=-1.0)
    return None


def _finite(pairs: list[tuple[str, int]], rows: Rows, rejected: list[Rejected]) -> tuple[list[str], list[int]]:
    """Pairs without those whose face a tracker has not found: a label is missing or infinite."""
    bad: dict[int, str] = {}
    for name in reversed(rows.required):
        is_bad = pc.invert(pc.fill_null(pc.is_finite(rows.table[name]), False))
        bad |= dict.fromkeys(np.flatnonzero(is_bad.to_numpy()).tolist(), name)
    for _, row in pairs:
        if row in bad:
            value = rows.table[bad[row]][row].as_py()
            rejected.append(_item(rows, row, "not_finite", f"{bad[row]} is {'missing' if value is None else value}"))
    kept = [pair for pair in pairs if pair[1] not in bad]
    return [name for name, _ in kept], [row for _, row in kept]


def _item(rows: Rows, row: int, reason: str, detail: str) -> Rejected:
    return Rejected(rows.sources[row], rows.row[row], reason, detail)


def _splits(
    options: ImagesOptions, names: Sequence[str], columns: dict[str, Any], folders: bool
) -> list[str | None] | None:
    """Who trains: by the table's column `split`, which it loses, by folders, or by shares; None where all do."""
    told = columns.pop("split", None)
    splits: list[str | None] | None = None
    if told is not None:
        splits = [None if value is None else _split_named(str(value)) for value in told.to_pylist()]
    elif folders:
        splits = [SPLIT_OF[name.partition("/")[0].lower()] for name in names]
    if splits is not None and options.split:
        who = "folders" if told is None else "the table's column split"
        raise GatedVAEError(f"Both --split and {who} say who trains.", "", "Leave --split out.")
    if options.split:
        splits = [*options.split.assign(_kept_together(names, columns))]
    if splits is not None and names and "train" not in splits:
        raise BadSourceError(
            "No sample is left to train on.", "None of those taken is in train.", "Look at their split."
        )
    return splits


def _split_named(value: str) -> str:
    if (name := value.strip().lower()) not in SPLIT_OF:
        known = ", ".join(SPLIT_OF)
        raise GatedVAEError(
            f"There is no split {value!r}.", "The table's column split has it.", f"Write one of {known}."
        )
    return SPLIT_OF[name]


def _kept_together(names: Sequence[str], columns: Mapping[str, Any]) -> list[str]:
    """What must lie in one split with what: pictures of one identity, else of one sequence, else each by itself."""
    keys = [printable(name) for name in names]
    for column in ("sequence", "identity"):
        if column in columns:
            values = columns[column].to_pylist()
            keys = [key if value is None else f"{column} {value}" for key, value in zip(keys, values, strict=True)]
    return keys
