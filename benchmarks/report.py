"""What the benchmarks found, as a table in Markdown and as a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.timing import Record
from gated_vae.models.figures.sheet import INK, LINE, MUTED, PAD, PALETTE, RULE, Sheet, text_width
from gated_vae.pipelines.experiments.tables import markdown_table

START, END = re.compile(r"<!-- table: written by [^>]*-->\n"), "<!-- table: end -->"
MET, MISSED = PALETTE[2], PALETTE[1]
WIDTH, REACH = 420, 8.0  # pixels of the picture's scale; it shows a REACH-th of the bar to REACH times the bar

CSVS, PICTURES, STORE = "OpenFace CSVs, one an image", "images to 64x64 grey", "pipe preprocess celeba"
POSE, EXPRESSION = "K-Means, pose, 202,599 x 2, 2,500 groups", "K-Means, expression, 202,599 x 17, 4,000 groups"
# What the table tells of each stage: (stage, peer) of its floor, and of what people use in its place.
Place = tuple[str, str]
SHOWN: dict[str, tuple[Place | None, Place | None]] = {
    "`pipe --help`": (("start-up, pipe --help", "python -c pass"), None),
    "OpenFace CSVs, one an image": ((CSVS, "open, read, close"), (CSVS, "pandas, per file")),
    "pictures to 64 x 64, one core": (
        (PICTURES, "bare OpenCV loop, one core"),
        (PICTURES, "bare Pillow loop, one core"),
    ),
    "pictures to 64 x 64, every core": ((PICTURES, "bare OpenCV loop, every core"), None),
    "a store of CelebA, one core": ((STORE, "its CSVs and pictures alone, one core"), None),
    "a store of CelebA, every core": ((STORE, "its CSVs and pictures alone, every core"), None),
    "K-Means by pose": ((POSE, "faiss, same start"), (POSE, "scikit-learn KMeans")),
    "K-Means by expression": (
        (EXPRESSION, "faiss, same start"),
        ("K-Means, expression, 50,649 x 17, 999 groups", "scikit-learn KMeans"),
    ),
    "partners": (None, ("partners, 202,599 samples, 2,500 groups", "pandas, sorting included")),
    "a pair table of 8 draws": (
        ("pair table of 8 draws, 2,500 groups", "raw columns, synced"),
        ("pair table of 8 draws, 2,500 groups", "DataFrame.to_parquet"),
    ),
    "the loader": (("loader, 128 pairs", "bare gather"), ("loader, 128 pairs", "DataLoader per item, two workers")),
    "a step fed by the loader": (("training step fed by the loader", "one resident batch"), None),
    "a step, fully connected": (
        ("training step, width 512, fp32", "its matrix products"),
        ("training, width 512, fp32, a step on a resident batch", "pythae"),
    ),
    "a step, convolutional": (
        ("training step, convolutional, fp32", "its products and convolutions"),
        ("training, convolutional, fp32, a step on a resident batch", "pythae"),
    ),
    "a step in bfloat16, fully connected": (
        ("training step, width 512, bf16", "its matrix products"),
        ("training step, width 512, bf16", "itself in fp32"),
    ),
    "a step in bfloat16, convolutional": (
        ("training step, convolutional, bf16", "its products and convolutions"),
        ("training step, convolutional, bf16", "itself in fp32"),
    ),
    "the service, ids": (("service, ids only, batches of 1024", "loader, reading ahead"), None),
    "the service, pixels": (("service, pixels, batches of 1024", "plain Flight"), None),
    "DCI by a forest": (("DCI, random forest, 50,000 x 24, 2 factors", "bare scikit-learn fits"), None),
}


def latest(rows: Sequence[Record]) -> dict[Place, Record]:
    """The newest figures of the processor that was measured last, by stage and peer."""
    newest = max(reversed(rows), key=lambda row: row["date"])
    ordered = sorted(rows, key=lambda row: row["date"])
    return {(row["stage"], row["peer"]): row for row in ordered if row["processor"] == newest["processor"]}


def markdown(rows: Sequence[Record]) -> str:
    """A line a stage: beside its floor, beside what people use, and whether the bars are met."""
    known, lines = latest(rows), []
    for name, places in SHOWN.items():
        found = [known.get(place) if place else None for place in places]
        verdicts = [row["met"] for row in found if row and row["met"] is not None]
        verdict = "" if not verdicts else "met" if all(verdicts) else "**missed**"
        if any(found):
            lines.append([name, *map(_cell, found), verdict])
    return markdown_table(["stage", "beside its floor", "beside what people use", "bars"], lines)


def _cell(row: Record | None) -> str:
    if row is None:
        return "-"
    bar = f", bar {row['bar']}" if row["bar"] else ""
    return f"{row['ratio']:.3g} {row['unit']} of {row['peer']}{bar}"


def insert(text: str, table: str) -> str:
    """Put a table between the markers of a text; ValueError where it has none."""
    start, end = START.search(text), text.find(END)
    if not start or end < start.end():
        raise ValueError(f"The text needs the lines <!-- table: written by COMMAND --> and {END}.")
    return f"{text[: start.end()]}\n{table}\n{text[end:]}"


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
    """Draw the table's figures that have a bar, as multiples of what the bar allows, with their spreads.

    The scale is logarithmic: left of the middle bars are met. What lies beyond the scale is drawn at its end.
    """
    known = latest(rows)
    places = [place for pair in SHOWN.values() for place in pair if place]
    shown = [known[place] for place in places if place in known and known[place]["bar"]]
    left = PAD + text_width(map(_label, shown)) + PAD
    height = LINE * len(shown)
    sheet = Sheet(left + WIDTH + 3 * PAD, 2 * PAD + height + LINE)
    sheet.box(left + _place(1.0) - 1, PAD, 2, height, INK)
    for factor in (1 / 4, 1 / 2, 2, 4):
        sheet.box(left + _place(factor), PAD, 1, height, RULE)
    for number, row in enumerate(shown):
        _draw_row(sheet, left, PAD + LINE * (number + 0.5), row)
    below = PAD + height + LINE / 2
    for factor, words in {1 / 4: "1/4", 1 / 2: "1/2", 1.0: "the bar", 2.0: "2 x", 4.0: "4 x"}.items():
        sheet.text(left + _place(factor), below, words, color=MUTED)
    sheet.text(PAD, below, "cost as a multiple of what the bar allows", ha="left", color=MUTED)
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
