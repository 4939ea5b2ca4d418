"""Reads many OpenFace CSVs as one table: opens them, joins lines under the same header, keeps the account of every line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import raise_trouble
from gated_vae.preprocessing.files import open_file
from gated_vae.preprocessing.openface.listing import printable
from gated_vae.preprocessing.openface.text import Layout, Reason, UnreadableError, parse_lines, read_header

BATCH = 16 << 20  # bytes of lines parsed together: enough that the fixed cost of a call to Arrow does not show
BLOCK = 8 << 20  # bytes of one file in memory at a time; no line may be longer
_HINT = re.compile(rb"(?:\xef\xbb\xbf)?\"?sep=.\"?\n", re.IGNORECASE)
PIECE = 1 << 16  # bytes of one read; a FaceLandmarkImg file has about 11,000


@dataclass(frozen=True)
class OpenFaceTable:
    """Rows of many OpenFace CSVs: together with what is rejected every line under a header, and every file without a row."""

    rows: pd.DataFrame  # see `read_openface`; empty lines are not counted
    rejected: list[dict[str, Any]]  # in the order of the files: source, row (None for a whole file), reason, detail
    columns: dict[str, frozenset[str]]  # those that each file has of those asked for, by source, where it could be read


def read_csvs(paths: Sequence[str], sources: Sequence[str], columns: Sequence[str] | None = None) -> OpenFaceTable:
    """Read files as one shard under the names for `source`: all of the result is in memory, little of the files is.

    Column types follow from the files given, as if pandas had concatenated them. See `read_openface` for the rest.
    """
    shard = Shard([columns] if isinstance(columns, str) else columns)
    for file, path in enumerate(paths):
        shard.add(file, path)
    return shard.finish([printable(source) for source in sources])


def _blocks(handle: int, block: bytes) -> Iterator[bytes]:
    """Yield what was read (`block`) and the rest of a file in blocks of whole lines; one block if it is not large."""
    while more := os.read(handle, BLOCK):
        block += more
        if len(block) > BLOCK:
            lines, newline, block = block.rpartition(b"\n")
            if not newline:
                raise UnreadableError(Reason.LONG_LINE, f"More than {BLOCK} bytes.")
            yield _unix(lines)
    yield _unix(block)


def _unix(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _lines(block: bytes) -> tuple[bytes, int]:
    """The lines of `block` that are not empty, each with its newline, and how many they are."""
    lines = [line for line in block.split(b"\n") if line and not line.isspace()]
    return b"\n".join([*lines, b""]), len(lines)


def _first_lines(block: bytes) -> tuple[bytes, bytes]:
    """The header's line without its newline, and with that and Excel's hint before it (``sep=;``), where there is one."""
    hint = _HINT.match(block)
    start = hint.end() if hint else 0
    line, newline, _ = block[start:].partition(b"\n")
    return line, block[:start] + line + newline


def _has_row_names(layout: Layout, lines: bytes) -> bool:
    """Whether the first line has a quoted cell before the first that the header names, as R writes tables."""
    if lines[:1] != b'"':
        return False
    line = lines.partition(b"\n")[0].decode("utf-8", "replace")
    with suppress(csv.Error):
        return len(next(csv.reader([line], delimiter=layout.delimiter))) == layout.width + 1
    return False


@dataclass
class _Pending:
    """Lines under one header that wait to be parsed, and where they come from."""

    header: bytes
    layout: Layout
    texts: list[bytes] = field(default_factory=list)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)  # of each text: file, row of its first line, lines
    quoted: bool = False  # whether some lines hold quotes


class Shard:
    """Collects lines by header, parses them in batches and puts the rows back into the order of the files."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        self.columns = None if columns is None else tuple(dict.fromkeys(columns))
        self.names: dict[str, None] = {}  # every column seen, in order
        self.pending: dict[tuple[bytes, int], _Pending] = {}  # by header and cells in a line
        self.newest: _Pending | None = None  # mostly the next file's too
        self.size = 0  # bytes that wait
        self.rows = 0  # lines so far of the file being read
        self.frames: list[pd.DataFrame] = []  # `source` holds the number of the file until the end
        self.rejected: list[tuple[int, int, str, str]] = []  # file, row (-1 for all of it), reason, detail
        self.layouts: dict[int, Layout] = {}  # by file

    def add(self, file: int, path: str) -> None:
        """Read one file; whatever is wrong with it goes to `rejected`."""
        self.rows = 0
        try:
            handle = open_file(path)
            try:
                self._read(file, handle)
            finally:
                os.close(handle)
        except UnreadableError as error:
            self.rejected.append((file, self.rows or -1, error.reason, error.detail))
        except OSError as error:
            error.filename = path  # reading names none
            raise_trouble(error)
            dangling = isinstance(error, FileNotFoundError) and Path(path).is_symlink()
            detail = "It is a link to nothing." if dangling else f"{error.strerror}."
            self.rejected.append((file, self.rows or -1, Reason.UNREADABLE, detail))

    def _read(self, file: int, handle: int) -> None:
        # Twice, since a network drive may return less than there is: only nothing means the end.
        block, more = os.read(handle, PIECE), os.read(handle, PIECE)
        if not more and self._add_usual(file, block):
            return
        blocks = _blocks(handle, block + more)
        pending, block = self._open(next(blocks))
        self.layouts[file] = pending.layout
        self._keep(pending, file, *_lines(block))
        for block in blocks:
            self._keep(pending, file, *_lines(block))
        if not self.rows:
            raise UnreadableError(Reason.NO_ROWS, "It has a header only.")

    def _add_usual(self, file: int, block: bytes) -> bool:
        """Keep a file that has one line under the same header as the last; most are such, and need no closer look.

        For speed alone: row "OpenFace CSVs, one an image; open, read, close" of docs/benchmarks.md is 15% lower by it.
        """
        usual = self.newest
        if usual is None or not block.startswith(usual.header):
            return False
        line = block[len(usual.header) :]
        if not line or line.find(b"\n") != len(line) - 1 or b"\r" in line or line[:1] == b'"' or line.isspace():
            return False
        self.layouts[file] = usual.layout
        self._keep(usual, file, line, 1)
        return True

    def _open(self, block: bytes) -> tuple[_Pending, bytes]:
        """Find where the lines under this file's header wait; also return what follows the header."""
        usual = self.newest
        if usual is None or not block.startswith(usual.header) or block[len(usual.header) :][:1] == b'"':
            block = block.lstrip(b" \n")
            if not block:
                raise UnreadableError(Reason.EMPTY, "")
            line, header = _first_lines(block)
            layout = read_header(line, self.columns)
            if unnamed := _has_row_names(layout, block[len(header) :]):
                layout = read_header(line, self.columns, unnamed=True)
            usual = self.pending.setdefault((header, layout.width), _Pending(header, layout))
            self.names.update(dict.fromkeys(layout.wanted))
            # One that is cut short may be how the next file's header begins; one for rows with names is not for all.
            self.newest = usual if header.endswith(b"\n") and not unnamed else None
        return usual, block[len(usual.header) :]

    def _keep(self, pending: _Pending, file: int, text: bytes, count: int) -> None:
        """Keep lines for later, until those that wait are enough to be parsed."""
        pending.texts.append(text)
        pending.pieces.append((file, self.rows, count))
        pending.quoted |= b'"' in text
        self.rows += count
        self.size += len(text)
        if self.size > BATCH:
            self._flush()

    def _flush(self) -> None:
        """Parse what waits."""
        for pending in self.pending.values():
            if any(pending.texts):
                self._parse(pending)
                pending.texts, pending.pieces, pending.quoted = [], [], False
        self.size = 0

    def _parse(self, pending: _Pending) -> None:
        file, first, count = np.array(pending.pieces).T
        files = np.repeat(file, count)
        parsed = parse_lines(pending.layout, b"".join(pending.texts), len(files), pending.quoted)
        rows = np.arange(len(files)) + np.repeat(first - np.cumsum(count) + count, count)
        for line, reason, detail in parsed.rejected:
            self.rejected.append((int(files[line]), int(rows[line]), reason, detail))
        if len(parsed.taken):
            self.frames.append(parsed.frame.assign(source=files[parsed.taken], row=rows[parsed.taken]))

    def finish(self, sources: list[str]) -> OpenFaceTable:
        """Parse what waits and put everything into the order of the files."""
        self._flush()
        names = [*(self.names if self.columns is None else filter(self.names.__contains__, self.columns))]
        rows = pd.concat(self.frames or [_no_rows(names)], ignore_index=True).reindex(columns=[*names, "source", "row"])
        order = np.lexsort((rows["row"], rows["source"]))
        if np.any(np.diff(order) != 1):
            rows = rows.iloc[order].reset_index(drop=True)
        text = pa.array(sources, pa.string()).take(pa.array(rows["source"], pa.int64()))
        rows["source"] = text.to_pandas()
        rejected = [
            {"source": sources[file], "row": None if row < 0 else row, "reason": reason, "detail": detail}
            for file, row, reason, detail in sorted(self.rejected)
        ]
        # Layouts are few, and shared by the files of one flavour.
        sets = {id(layout): frozenset(layout.wanted) for layout in self.layouts.values()}
        return OpenFaceTable(rows, rejected, {sources[file]: sets[id(layout)] for file, layout in self.layouts.items()})


def _no_rows(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: np.empty(0) for name in names}).assign(source=np.arange(0), row=np.arange(0))
