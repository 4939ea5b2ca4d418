"""What commands show: results on standard output, progress and messages on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from gated_vae.pipelines.channels import clean, printing
from gated_vae.preprocessing.progress import Progress

NOT_FOLDED = 4096  # columns of what is no terminal, so that paths and lists stay whole


def messages() -> Console:
    """The console for progress and messages."""
    return Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """Print a message to standard error."""
    messages().print(clean(text), markup=False, soft_wrap=True)


@contextmanager
def progress(description: str, unit: str = "") -> Iterator[Progress]:
    """Show how far the block is, in units, while it runs; yields the function that is told. A bar on a terminal, else `Lines`."""
    console = messages()
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        with _bar(description, console) as update:
            yield update
        return
    lines = Lines(description, unit)
    teller = Thread(target=lines.tell, daemon=True)
    teller.start()
    try:
        yield lines.update
    finally:
        lines.ended.set()
        teller.join()


@contextmanager
def _bar(description: str, console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=clean(note))

        yield update


class Lines:
    """Progress in a job's log: plain lines, the first after `FIRST` seconds, then one every `EVERY`, so that it is seen to live."""

    FIRST, EVERY = 5.0, 20.0

    def __init__(self, description: str, unit: str = "") -> None:
        self.ended = Event()
        self._description, self._unit, self._started = description, unit and f" {unit}", time.monotonic()
        self._told: tuple[int, int, str] | None = None
        self._begun = (0, 0.0)  # how much was done when it was first told, and when that was
        self._moved = 0.0  # when more was done than before

    def update(self, done: int, total: int, note: str = "") -> None:
        """Keep what is told; it is written in time."""
        if self._told is None or done > self._told[0]:
            self._moved = time.monotonic()
        if self._told is None:
            self._begun = done, self._moved
        self._told = done, total, note

    def tell(self) -> None:
        """Write lines until the end."""
        wait = self.FIRST
        while not self.ended.wait(wait):
            sys.stderr.write(f"{self._description}: {clean(self.line(time.monotonic()))}\n")
            sys.stderr.flush()
            wait = self.EVERY

    def line(self, now: float) -> str:
        """How far it is, what is under way, how long it has run, and how long it will at the rate so far, which holds no more
        where what is under way takes longer than all before.
        """
        spent = _clock(now - self._started)
        if self._told is None:
            return f"{spent} so far"
        done, total, note = self._told
        first, since = self._begun
        known = done > first and now - self._moved <= self._moved - since
        left = f", {_clock((now - since) * (total - done) / (done - first))} left" if known else ""
        note = note and f", {note}"
        return f"{done:,} of {total:,}{self._unit}{note}, {spent} so far{left}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def show(result: Any, rows: Mapping[str, object], *, as_json: bool, tables: Mapping[str, Table] | None = None) -> None:
    """Print a result: for people `rows` as an aligned list, then tables under their titles; or all of `result` as JSON."""
    with printing():
        sys.stdout.write(json.dumps(plain(result), indent=2) + "\n" if as_json else _for_people(rows, tables or {}))


def _for_people(rows: Mapping[str, object], tables: Mapping[str, Table]) -> str:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(number(name), value if isinstance(value, Table) else number(value))
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else NOT_FOLDED
    console = Console(width=width, highlight=False, markup=False, emoji=False)  # names are shown as they are
    with console.capture() as printed:  # as rich ends the process where it finds a closed pipe
        console.print(table)
        for title, below in tables.items():
            console.print(f"\n{number(title)}", style="bold")
            console.print(below)
    return "".join(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def number(value: object) -> str:
    """Write a value for people, in one line: thousands separated, floats to four digits, mappings as a list."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{number(key)} {number(item)}" for key, item in value.items()) or "none"
    return clean(" ".join(str(value).splitlines()))


def grid(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A small table for `show`."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(header):
        table.add_column(number(name), justify="right" if index else "left")
    for row in rows:
        table.add_row(*(number(value) for value in row))
    return table


def plain(value: Any) -> Any:
    """Turn reports into what JSON knows: dataclasses, paths, tuples and NumPy values included."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
