"""What the benchmarks found, as a table in Markdown and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from matplotlib.figure import Figure

from benchmarks.timing import Record
from gated_vae.models.figures.sheet import INK, LINE, MUTED, PAD, PALETTE, RULE, Sheet, text_width

START, END = "<!-- benchmarks: written by benchmarks/record.py -->", "<!-- benchmarks: end -->"
MET, MISSED = PALETTE[2], PALETTE[1]
WIDTH, REACH = 420, 8.0  # pixels of the picture's scale; it shows a REACH-th of the bar to REACH times the bar


def by_processor(rows: Sequence[Record]) -> dict[str, list[Record]]:
    """Rows by processor, in the processors' order of names, else in their own."""
    ordered = sorted(rows, key=lambda row: row["processor"])
    return {name: list(group) for name, group in groupby(ordered, key=lambda row: row["processor"])}


def markdown(rows: Sequence[Record]) -> str:
    """One table a processor."""
    return "\n\n".join(_table(name, group) for name, group in by_processor(rows).items())


def _table(processor: str, rows: Sequence[Record]) -> str:
    head = "| stage | compared with | ours | bar | | load | taken |\n|---|---|---|---|---|---|---|"
    lines, stage = [f"### {processor}\n", head], None
    for row in rows:
        verdict = {True: "met", False: "**missed**", None: ""}[row["met"]]
        load = "" if row["load"] is None else f"{row['load']:g}"
        shown = "" if row["stage"] == stage else row["stage"]
        peer = row["peer"] or "-"
        lines.append(
            f"| {shown} | {peer} | {_spread(row)} {row['unit']} | {row['bar'] or '-'} | {verdict} | {load} |"
            f" {row['date']}, {row['commit']} |"
        )
        stage = row["stage"]
    return "\n".join(lines)


def _spread(row: Record) -> str:
    median = f"{row['ratio']:.3g}"
    if row["low"] is None or row["low"] == row["high"]:
        return median
    return f"{median} ({row['low']:.3g} to {row['high']:.3g})"


def insert(text: str, table: str) -> str:
    """Put a table between the markers of a text; ValueError where it has none."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"The text needs the lines {START} and {END}.")
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


def cost(value: float, bar: str) -> float:
    """How many times what its bar allows a figure costs: 1 at the bar, more where it is missed.

    A bar of nothing at all is met by 0 alone.
    """
    sense, limit = bar.split()
    allowed, value = float(limit), float(value)
    ours, theirs = (value, allowed) if sense == "<=" else (allowed, value)
    if theirs == 0:
        return 1.0 if ours == 0 else math.inf
    return ours / theirs


def draw(rows: Sequence[Record]) -> Figure:
    """Draw every figure that has a bar, as a multiple of what the bar allows, with its spread, by processor.

    The scale is logarithmic: left of the middle bars are met. What lies beyond the scale is drawn at its end.
    """
    groups = {name: [row for row in group if row["bar"]] for name, group in by_processor(rows).items()}
    labels = [_label(row) for group in groups.values() for row in group]
    left = PAD + text_width(labels) + PAD
    lines = sum(len(group) + 2 for group in groups.values())
    sheet = Sheet(left + WIDTH + 3 * PAD, 2 * PAD + LINE * (lines + 1))
    y = float(PAD)
    for name, group in groups.items():
        sheet.text(PAD, y + LINE / 2, name, ha="left", weight="bold")
        y += LINE
        sheet.box(left + _place(1.0) - 1, y, 2, LINE * len(group), INK)
        for factor in (1 / 4, 1 / 2, 2, 4):
            sheet.box(left + _place(factor), y, 1, LINE * len(group), RULE)
        for row in group:
            _draw_row(sheet, left, y + LINE / 2, row)
            y += LINE
        y += LINE
    for factor, words in {1 / 4: "1/4", 1 / 2: "1/2", 1.0: "the bar", 2.0: "2 x", 4.0: "4 x"}.items():
        sheet.text(left + _place(factor), y - LINE / 2, words, color=MUTED)
    sheet.text(PAD, y - LINE / 2, "cost as a multiple of what the bar allows", ha="left", color=MUTED)
    return sheet.figure


def _label(row: Record) -> str:
    return f"{row['stage']}: {row['peer']}" if row["peer"] else str(row["stage"])


def _place(factor: float) -> float:
    """Where a multiple of the bar lies on the scale, in pixels."""
    bounded = min(max(factor, 1 / REACH), REACH)
    return WIDTH * (0.5 + math.log(bounded) / math.log(REACH) / 2)


def _draw_row(sheet: Sheet, left: float, y: float, row: Record) -> None:
    colour = MET if row["met"] else MISSED
    sheet.text(left - PAD, y, _label(row), ha="right")
    if row["low"] is not None:
        first, last = sorted(_place(cost(row[end], row["bar"])) for end in ("low", "high"))
        sheet.box(left + first, y - 1, last - first, 3, colour, alpha=0.6)
    sheet.box(left + _place(cost(row["ratio"], row["bar"])) - 4, y - 4, 9, 9, colour)
