"""A table that somebody has saved: CSV, TSV, JSON lines or Parquet, by its ending, with types decided over whole columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import open_binary, readable

FILE_COLUMNS = (  # what those are called that name pictures
    *("filename", "file_name", "file", "image", "image_id"),
    *("image_name", "image_path", "input", "path", "name"),
)
MOST_COLUMNS = 10_000
MOST_BYTES = 1 << 30  # of text
MOST_CELLS = 1 << 28  # of Parquet, where a small file may hold very many
_BLOCK = 16 << 20  # bytes; no row is longer
_ROWS = 1 << 16  # of JSON lines that become an array at once
_MARKS = {".csv": ",;\t", ".tsv": "\t"}
_OURS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # what pandas calls an index without a name
_UNKNOWN = pa.array(["na", "n/a", "#n/a", "nan", "-nan", "-nan(ind)", "null", "none", "missing", "?", "-"])
_DECIMAL_COMMA = r"^[+-]?[0-9]*,?[0-9]+([eE][+-]?[0-9]+)?$"
_NO_NUMBER = r"^[+-]?0[0-9]+$|^[+-]?0[xX]"  # `007` is a name, and so is 0x1F
_MOSTLY = 0.5  # of the values: a column with as many numbers was meant as one

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Labels:
    """What a table holds: columns are int64, float64, bool or string, of Parquet also other numbers and times; null is missing."""

    path: Path
    table: pa.Table  # the rows in their order
    notes: dict[str, str] = field(
        default_factory=dict
    )  # by column, why it was left out, or is text though mostly numbers

    def require(self, *columns: str) -> None:
        """Raise `GatedVAEError` where one of these columns is not there."""
        for name in columns:
            if name not in self.table.column_names:
                why = f"It has {', '.join(self.table.column_names[:12])}."
                raise GatedVAEError(f"{self.path} has no column {name}.", why, "Name a column that it has.")


def read_table(path: Path, wanted: Wanted = lambda _: True) -> Labels:
    """Read a table of `MOST_BYTES` at most, or of `MOST_CELLS` in Parquet.

    Commas, semicolons or tabs part the cells of a CSV; under the last two a comma may be the decimal mark. Quotes, a byte order
    mark, any line ends and Excel's ``sep=;`` are read. A column is numbers if all its values are: names like ``007`` stay
    text, and so do whole numbers that 64 bits cannot hold. Empty cells are missing, and so are words such as ``NA``
    among numbers. Columns without a name are left out.

    Parameters
    ----------
    wanted:
        Which columns are read, by name.

    Raises
    ------
    GatedVAEError
        When it cannot be read, is too large, names a column twice or has a row that does not fit its header, which it names.
    """
    read = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    ending = path.suffix.lower()
    if ending not in read:
        why, known = f"Its name ends in {ending!r}.", ", ".join(read)
        raise GatedVAEError(f"{path} is no table that can be read.", why, f"Save it as one of {known}.")
    with readable(path, "Look at the file, or save it again."):
        if ending != ".parquet" and path.stat().st_size > MOST_BYTES:
            raise _too_large(path, f"{path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
        found = read[ending](path, wanted)
    if not found.table.num_rows:
        raise GatedVAEError(f"{path} has no row.", "", "Write a row for each picture below the line of names.")
    return found


def _too_large(path: Path, what: str) -> GatedVAEError:
    return GatedVAEError(f"{path} is too large.", f"It has {what}.", "Keep the columns and rows that you need.")


def _checked(path: Path, names: list[str], wanted: Wanted) -> list[str]:
    """The columns that are read; `GatedVAEError` where there are too many, or two of one name."""
    if len(names) > MOST_COLUMNS:
        raise _too_large(path, f"{len(names):,} columns, more than {MOST_COLUMNS:,}")
    chosen = [name for name in names if not _OURS.fullmatch(name) and wanted(name)]
    if twice := next((name for name in chosen if names.count(name) > 1), None):
        raise GatedVAEError(f"{path} has two columns {twice}.", "", "Rename or remove one of them.")
    return chosen


# CSV


def _read_csv(path: Path, wanted: Wanted) -> Labels:
    with open_binary(path) as file:
        start = file.read(_BLOCK)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise GatedVAEError(f"{path} cannot be read.", "It is UTF-16 or no text at all.", "Save it as UTF-8 text.")
    mark, names, skip = _header(path, start)
    places = {name: str(place) for place, name in enumerate(names)}
    chosen = _checked(path, names, wanted)
    bad: list[Any] = []

    def on_ragged(row: Any) -> str:
        bad.append(row)
        return "error"

    kept = [places[name] for name in chosen]
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                skip_rows=skip,
                column_names=[str(place) for place in range(len(names))],
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=mark, newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=kept or ["0"],
                column_types=dict.fromkeys(kept or ["0"], pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        raise _bad_csv(path, bad, str(error)) from None
    _refuse_open_quote(path, mark, skip + table.num_rows)
    columns, notes = {}, dict[str, str]()
    for name, place in zip(chosen, kept, strict=True):
        columns[name], note = _typed(table[place], comma=mark != ",")
        table = table.drop_columns(place)
        notes |= {name: note} if note else {}
    return Labels(path, pa.table(columns), notes)


def _header(path: Path, start: bytes) -> tuple[str, list[str], int]:
    """What parts the cells, the names of the columns, and how many lines come before the first row."""
    text = start.decode("utf-8-sig", "replace")
    lines = re.split(r"\r\n|\r|\n", text, maxsplit=2)
    told = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(" "))  # Excel's own line
    line = lines[1] if told and len(lines) > 1 else lines[0]
    marks = _MARKS[path.suffix.lower()]
    mark = told[1] if told and told[1] in ",;\t|" else max(marks, key=re.sub(r'"[^"]*"', "", line).count)
    csv.field_size_limit(_BLOCK)
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])]
    except csv.Error as error:
        raise GatedVAEError(
            f"The first line of {path} cannot be read.", f"{error}.", "Write names of columns."
        ) from None
    if not any(names):
        raise GatedVAEError(f"{path} has no names of columns.", "", "Write them into its first line.")
    return mark, names, 2 if told else 1


def _bad_csv(path: Path, bad: list[Any], why: str) -> GatedVAEError:
    """What was wrong with a CSV that Arrow does not take."""
    if bad:
        place, cells, wanted = bad[0].number, bad[0].actual_columns, bad[0].expected_columns
        remedy = "Quote cells that hold the separator or a quote, and write one row to a line."
        return GatedVAEError(f"Line {place} of {path} cannot be read.", f"It has {cells} cells, not {wanted}.", remedy)
    if "straddl" in why:
        remedy = "Look for a quote that is not closed."
        return GatedVAEError(f"{path} cannot be read.", f"A row is longer than {_BLOCK >> 20} MiB.", remedy)
    with open_binary(path) as file:
        for place, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                what = f"Line {place} of {path} cannot be read."
                return GatedVAEError(what, "It is no UTF-8 text.", "Save the table as UTF-8 text.")
    return GatedVAEError(f"{path} cannot be read.", why, "Save it again as CSV.")


def _refuse_open_quote(path: Path, mark: str, lines: int) -> None:
    """Raise where a quote that is not closed has made one cell of many rows."""
    count = quotes = 0
    with open_binary(path) as file:
        while block := file.read(_BLOCK):
            count, quotes = count + block.count(b"\n"), quotes + block.count(b'"')
    if not quotes or count <= lines:
        return  # hardly any table has cells of several lines
    with path.open(encoding="utf-8", newline="") as text:
        rows = csv.reader(text, delimiter=mark, strict=True)
        try:
            for _ in rows:
                pass
        except csv.Error as error:
            what = f"Line {rows.line_num} of {path} cannot be read."
            raise GatedVAEError(what, f"{error}.", "Look at or before it for a quote that is not closed.") from None


def _typed(texts: pa.ChunkedArray, *, comma: bool) -> tuple[pa.ChunkedArray, str]:
    """A column of text as what all of it is; and a note where most of it is numbers, but not all."""
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    known = pc.if_else(pc.is_in(pc.utf8_lower(texts), _UNKNOWN), None, texts)
    if known.null_count == len(known):
        return (texts, "") if texts.null_count < len(texts) else (pc.cast(texts, pa.float64()), "")
    if pc.any(pc.match_substring_regex(known, _NO_NUMBER)).as_py():
        return texts, ""
    if pc.all(pc.is_in(pc.utf8_lower(known), pa.array(["true", "false"]))).as_py() and not known.null_count:
        return pc.cast(known, pa.bool_()), ""
    numbers = _plain(known, comma)
    for kind in (pa.int64(), pa.float64()):
        try:
            values = pc.cast(numbers, kind)
        except pa.ArrowInvalid:
            if kind == pa.int64() and pc.all(pc.match_substring_regex(numbers, "^-?[0-9]+$")).as_py():
                return texts, ""  # too long, as some names are: a float64 would make them alike
        else:
            return values, ""
    return texts, _why_text(numbers, texts)


def _plain(texts: pa.ChunkedArray, comma: bool) -> pa.ChunkedArray:
    """Numbers as Arrow reads them: without a plus, with a point as the decimal mark."""
    texts = pc.replace_substring_regex(texts, r"^\+", "")
    if comma and pc.all(pc.match_substring_regex(texts, _DECIMAL_COMMA)).as_py():
        return pc.replace_substring(texts, ",", ".")
    return texts


def _why_text(numbers: pa.ChunkedArray, texts: pa.ChunkedArray) -> str:
    """The first value that is no number, in a column where most are; nothing in others."""
    is_number = pc.match_substring_regex(numbers, r"^-?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?$")
    if pc.mean(is_number).as_py() < _MOSTLY:
        return ""
    told = pc.and_(is_number, pc.invert(pc.match_substring(numbers, ",")))  # a comma is no decimal mark in all of them
    row = pc.index(told, False).as_py()
    return f"text, not numbers: row {row} has {texts[row].as_py()[:40]!r}" if row >= 0 else ""


# JSON lines


def _read_json_lines(path: Path, wanted: Wanted) -> Labels:
    parts: list[tuple[int, dict[str, pa.Array]]] = []
    notes: dict[str, str] = {}
    kinds: dict[str, set[pa.DataType]] = {}
    for rows in _objects(path):
        names = _checked(path, [*dict.fromkeys([*kinds, *(name for row in rows for name in row)])], wanted)
        found = {name: _array([row.get(name) for row in rows]) for name in names if name not in notes}
        notes |= {name: "left out: it is nested" for name, column in found.items() if column is None}
        parts.append((len(rows), {name: column for name, column in found.items() if column is not None}))
        for name, column in parts[-1][1].items():
            kinds.setdefault(name, set()).add(column.type)
    columns = {}
    for name, kind in ((name, _common(several)) for name, several in kinds.items() if name not in notes):
        arrays = [part[name].cast(kind) if name in part else pa.nulls(count, kind) for count, part in parts]
        columns[name] = pa.chunked_array(arrays, kind)
        if kind == pa.string() and (why := _why_text(columns[name], columns[name])):
            notes[name] = why
    return Labels(path, pa.table(columns), notes)


def _objects(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows, `_ROWS` at once: what decodes as one list is decoded three times as fast."""
    remedy = 'Every line must be like {"file_name": "a.jpg", "age": 31}, as UTF-8 text.'
    with open_binary(path) as file:
        lines = enumerate(file, start=1)
        while batch := [*islice(lines, _ROWS)]:
            texts = [(place, line.strip(b"\xef\xbb\xbf \t\r\n")) for place, line in batch]
            texts = [(place, line) for place, line in texts if line]
            rows: list[Any] = []
            with suppress(ValueError, RecursionError):
                rows = json.loads(b"[%b]" % b",".join(line for _, line in texts))
            if len(rows) != len(texts) or not all(isinstance(row, dict) for row in rows):
                for place, line in texts:
                    if why := _why_no_object(line):
                        raise GatedVAEError(f"Line {place} of {path} cannot be read.", why, remedy)
            yield rows


def _why_no_object(line: bytes) -> str:
    try:
        return "" if isinstance(json.loads(line), dict) else f"It is {line[:60]!r}, no object."
    except (ValueError, RecursionError) as error:
        return f"{error}."


def _array(values: list[Any]) -> pa.Array | None:
    """Values of JSON as an array, text if they are of several kinds; None where they are nested."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        array = pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
    return None if pa.types.is_nested(array.type) else array


def _common(kinds: set[pa.DataType]) -> pa.DataType:
    """The kind that holds all of them."""
    several = kinds - {pa.null()}
    if len(several) < 2:
        return next(iter(several), pa.float64())
    return pa.float64() if several == {pa.int64(), pa.float64()} else pa.string()


# Parquet


def _read_parquet(path: Path, wanted: Wanted) -> Labels:
    with pq.ParquetFile(path) as file:
        names, rows = file.schema_arrow.names, file.metadata.num_rows
        chosen = _checked(path, names, wanted)
        if rows * len(chosen) > MOST_CELLS:
            raise _too_large(path, f"{rows:,} rows of {len(chosen)} columns")
        kinds = {name: _kind(file.schema_arrow.field(name).type) for name in chosen}
        taken = [name for name, kind in kinds.items() if kind is not None]
        table = file.read(taken, use_threads=False)
    notes = {name: "left out: it is nested or binary" for name, kind in kinds.items() if kind is None}
    return Labels(path, pa.table({name: table[name].cast(kinds[name]) for name in taken}), notes)


def _kind(kind: pa.DataType) -> pa.DataType | None:
    """As what a column of Parquet is taken; None where it is no label."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_decimal(kind) or pa.types.is_null(kind) or pa.types.is_float16(kind):
        return pa.float64()
    return kind if pa.types.is_primitive(kind) or pa.types.is_string(kind) else None
