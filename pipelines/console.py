"""What commands show: results on standard output, progress and messages on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from gated_vae.preprocessing.progress import Progress


def messages() -> Console:
    """The console for progress and messages."""
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a message to standard error."""
    messages().print(text, markup=False)


@contextmanager
def progress(description: str) -> Iterator[Progress]:
    """Show a bar with the time left while the block runs; yields the function that moves it.

    Where standard error is no terminal, nothing is drawn.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = messages()
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def show(result: Any, rows: Mapping[str, object], *, as_json: bool, tables: Mapping[str, Table] | None = None) -> None:
    """Print a result: for people `rows` as an aligned list, then tables under their titles; or all of `result` as JSON."""
    if as_json:
        json.dump(plain(result), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value if isinstance(value, Table) else number(value))
    console = Console(highlight=False, markup=False)
    console.print(table)
    for title, below in (tables or {}).items():
        console.print(f"\n{title}", style="bold")
        console.print(below)


def number(value: object) -> str:
    """Write a value for people: thousands separated, floats to four digits, mappings as a list."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items()) or "none"
    return str(value)


def grid(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A small table for `show`."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
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
    if isinstance(value, float) and value != value:
        return None
    return value
