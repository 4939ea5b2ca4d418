"""The text of OpenFace's CSVs into columns: one header and the lines under it, in memory; no file is touched here.

Lines of any number of files under the same header are parsed in one go by Arrow. What it does not take for numbers is
looked at again cell by cell, so that odd spellings cost only the columns they occur in.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from gated_vae.preprocessing.openface.cells import (
    MEASURED,
    foreign_unit,
    is_flag,
    is_numeric_name,
    numbers,
    user_column,
)
from gated_vae.preprocessing.openface.cut import cut_lines


class Reason:
    """Why a line or a whole file was not taken, as it stands in `rejected`."""

    UNREADABLE = "unreadable"
    EMPTY = "empty"
    ENCODING = "encoding"
    FOREIGN = "not_openface"
    NO_ROWS = "no_rows"
    LONG_LINE = "long_line"
    CELLS = "cell_count"
    NUMBER = "not_a_number"
    QUOTE = "open_quote"


class UnreadableError(Exception):
    """A whole file that cannot be read: `reason` (one of `Reason`) and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Layout:
    """What one header says."""

    delimiter: str  # "," or ";" or a tab (spaces around cells never matter)
    width: int  # cells in a line
    wanted: dict[str, int]  # name to position of the columns to parse, in the order in which they are returned


class Rejection(NamedTuple):
    """A line that was not taken: its position among the lines given, and why."""

    line: int
    reason: str
    detail: str


class Parsed(NamedTuple):
    """Lines made into columns."""

    frame: pd.DataFrame  # one row per line taken
    taken: NDArray[np.int64]  # positions of those lines among the lines given
    rejected: list[Rejection]  # every other line


@lru_cache(maxsize=64)
def read_header(line: bytes, columns: tuple[str, ...] | None, *, unnamed: bool = False) -> Layout:
    """Read the first line of a CSV; `columns` restricts what will be parsed to those that it has.

    With `unnamed` a cell comes before the first named one in each line: the row's name, as R writes it.

    Columns without a name (an index that pandas saved) are left out, and so are `source` and `row`, which are ours.
    Repeated names are numbered ``x``, ``x.1``, ``x.2`` as pandas does. `UnreadableError` when the line is not the header of
    something that OpenFace wrote.
    """
    if b"\0" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError(Reason.ENCODING, "UTF-16 or binary; save it as UTF-8 text.")
    text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")
    delimiter = max(",;\t", key=text.count)
    try:
        cells = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise UnreadableError(Reason.FOREIGN, f"Its first line is not a header: {error}.") from None
    names = _distinct([""] * unnamed + [cell.strip() for cell in cells])
    if not any(MEASURED.fullmatch(name) for name in names):
        raise UnreadableError(Reason.FOREIGN, f"Its first line begins {text[:40]!r}.")
    if foreign := [name for name in names if foreign_unit(name)]:
        why = "OpenFace 3 numbers its eight outputs, which are no action units of FACS"
        raise UnreadableError(Reason.FOREIGN, f"{foreign[0]} exists in no OpenFace 1 or 2; {why}.")
    ours = {"", "source", "row"}
    places = {name: i for i, name in enumerate(names) if name not in ours and not name.startswith("Unnamed: ")}
    wanted = places if columns is None else {name: places[name] for name in columns if name in places}
    return Layout(delimiter, len(names), wanted)


def _distinct(names: Iterable[str]) -> list[str]:
    """Number repeated names around those that are there already: x, x, x.1 become x, x.2, x.1."""
    names = list(names)
    taken = set(names)
    count: dict[str, int] = {}
    for place, name in enumerate(names):
        if name and name in count:
            while (unique := f"{name}.{count[name]}") in taken:
                count[name] += 1
            names[place] = unique
            taken.add(unique)
        count.setdefault(names[place], 1)
    return names


def parse_lines(layout: Layout, text: bytes, count: int, quoted: bool) -> Parsed:
    """Parse `count` lines that are not empty, each with its newline; `quoted` if some hold quotes.

    Columns that OpenFace names become int64 or float64, correctly rounded; a line in which one of them holds anything
    else is rejected. The user's own columns become what pandas makes of them.
    """
    table, rejected = _split_quoted(layout, text) if quoted else _split_plain(layout, text, count)
    taken = np.delete(np.arange(count), [ragged.line for ragged in rejected])
    if len(taken) != table.num_rows:
        raise RuntimeError(f"{table.num_rows} rows from {len(taken)} lines: rows would go to the wrong files.")
    frame, bad = _convert(layout, table)
    rejected += [Rejection(int(taken[row]), Reason.NUMBER, detail) for row, detail in bad.items()]
    if bad:
        keep = np.delete(np.arange(len(taken)), list(bad))
        frame, taken = frame.iloc[keep], taken[keep]
    return Parsed(frame, taken, rejected)


def _split_plain(layout: Layout, text: bytes, count: int) -> tuple[pa.Table, list[Rejection]]:
    """Split lines without quotes; columns are numbers where Arrow sees numbers, bytes elsewhere."""
    rejected: list[Rejection] = []

    def on_ragged(row: Any) -> str:
        rejected.append(_ragged(layout, row.number - 1, row.actual_columns))
        return "skip"

    there: Sequence[int] = range(layout.width)
    # The ends of a line always stay: no line may become empty and no text begin with what Arrow skips only there.
    kept = sorted({0, *layout.wanted.values(), layout.width - 1})
    if len(kept) < layout.width // 2 and (cut := cut_lines(text, count, layout.delimiter, layout.width, kept)):
        text, there = cut, kept
    if not text.isascii():  # Arrow cannot report a line that is not UTF-8
        text = text.decode("utf-8", "backslashreplace").encode()
    # Arrow would read 0x1F as 31. (One letter is found far faster than two.)
    hexadecimal = (b"x" in text and b"0x" in text) or (b"X" in text and b"0X" in text)
    as_bytes = list(layout.wanted.values()) if hexadecimal else []
    table = _tokenise(layout, there, text, as_bytes, on_ragged)
    odd = [i for i, kind in zip(layout.wanted.values(), table.schema.types, strict=False) if not _is_numeric(kind)]
    if odd and not hexadecimal:
        table = _tokenise(layout, there, text, odd, lambda _: "skip")
    return table, rejected


def _tokenise(
    layout: Layout, kept: Sequence[int], text: bytes, as_bytes: list[int], on_ragged: Callable[[Any], str]
) -> pa.Table:
    """Columns named by their position, in the order wanted; just the first one when none is wanted."""
    options = pyarrow.csv.ConvertOptions(
        include_columns=[str(place) for place in layout.wanted.values()] or ["0"],
        column_types={str(place): pa.binary() for place in as_bytes},
    )
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        # One block: a line that straddles two would have to fit into one anyway.
        pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(text) + 1, column_names=[str(place) for place in kept]
        ),
        pyarrow.csv.ParseOptions(delimiter=layout.delimiter, quote_char=False, invalid_row_handler=on_ragged),
        options,
    )


def _split_quoted(layout: Layout, text: bytes) -> tuple[pa.Table, list[Rejection]]:
    """Split lines of which some hold quotes; every column is bytes. A quote ends in its line, as OpenFace writes no other."""
    records: list[list[bytes]] = []
    rejected: list[Rejection] = []
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")):
        cells = _quoted_cells(line, layout.delimiter)
        if cells is None:
            rejected.append(Rejection(number, Reason.QUOTE, "A quote is not closed properly."))
        elif len(cells) != layout.width:
            rejected.append(_ragged(layout, number, len(cells)))
        else:
            records.append([cells[place].encode("utf-8", "surrogateescape") for place in layout.wanted.values()])
    columns = zip(*records, strict=True) if records else [()] * len(layout.wanted)
    arrays = [pa.array(column, pa.binary()) for column in columns] or [pa.nulls(len(records))]
    return pa.table(arrays, names=[str(number) for number in range(len(arrays))]), rejected


def _quoted_cells(line: str, delimiter: str) -> list[str] | None:
    """The cells of a line; None where its quotes are no pairs around cells."""
    with suppress(csv.Error):
        if line.count('"') % 2 == 0:
            return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    return None


def _ragged(layout: Layout, line: int, cells: int) -> Rejection:
    return Rejection(line, Reason.CELLS, f"{cells} cells under a header of {layout.width}.")


def _is_numeric(kind: pa.DataType) -> bool:
    return kind in (pa.int64(), pa.float64())


def _convert(layout: Layout, table: pa.Table) -> tuple[pd.DataFrame, dict[int, str]]:
    """Finish the columns that are still bytes; also return the rows that hold no number where one must be."""
    table = table.select(range(len(layout.wanted))).rename_columns(list(layout.wanted))
    frame = table.to_pandas() if layout.wanted else pd.DataFrame(index=range(table.num_rows))
    made: dict[str, Any] = {}
    bad: dict[int, str] = {}
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if _is_numeric(kind):
            continue
        cells = table[name].to_pylist()
        if is_numeric_name(name):
            made[name], rows = numbers(cells, flags=is_flag(name), decimal_comma=layout.delimiter != ",")
            for row in rows:
                bad.setdefault(row, f"{name} is {cells[row].strip()[:40].decode('utf-8', 'backslashreplace')!r}.")
        else:
            made[name] = user_column(cells)
    if made:  # all at once: putting columns in one by one takes a time quadratic in their number
        frame = pd.DataFrame({name: made.get(name, column) for name, column in frame.items()})
    return frame, bad
