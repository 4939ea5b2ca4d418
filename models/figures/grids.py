"""Pictures of codes and images in one plain style, drawn on matplotlib Figures without pyplot's global state.

Every function returns a Figure; `sheet.png` turns it into bytes. Images are uint8, or floating point in 0..1: (..., H, W) if grey,
(..., H, W, 3) in colour.
Partitions keep one colour each, in their order, from a palette that colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from gated_vae.models.figures.sheet import (
    BAR,
    GAP,
    INK,
    LINE,
    MUTED,
    PAD,
    PALETTE,
    Sheet,
    coloured,
    colours_of,
    text_width,
    tile,
)


def hinton(
    importance: npt.ArrayLike,
    *,
    factor_names: Sequence[str],
    partitions: Mapping[str, slice],
) -> Figure:
    """Draw importances as squares: columns are codes, rows are factors, the area is the importance.

    The largest square stands for the largest importance, which is written below. Codes of one partition share a band.

    Parameters
    ----------
    importance:
        (M, K), finite and not negative.
    partitions:
        Name -> its codes; may be empty.
    """
    table = np.asarray(importance, np.float64)
    codes = [f"z{i}" for i in range(len(table))]
    parts = _coloured(partitions, len(codes))
    # Cells are wide enough for the names above and below them.
    needed = [text_width([name]) / max(len(part), 1) for name, part, _ in parts]
    cell = int(max([36.0, text_width(codes), *needed])) + 2 * GAP
    left, top = PAD + text_width(factor_names) + PAD, PAD + LINE + BAR + GAP
    width, height = cell * len(codes), cell * len(factor_names)
    sheet = Sheet(left + width + PAD, top + height + 2 * LINE + PAD)
    for name, part, colour in parts:
        x, span = left + cell * part.start, cell * len(part)
        sheet.band_above(x, top - GAP, span, name, colour)
        sheet.box(x, top, span, height, colour, alpha=0.09)
    for row, name in enumerate(factor_names):
        sheet.text(left - PAD, top + cell * (row + 0.5), name, ha="right")
    for column, name in enumerate(codes):
        sheet.text(left + cell * (column + 0.5), top + height + LINE / 2 + GAP, name)
    sheet.grid(left, top, cell, len(codes), len(factor_names))
    greatest = table.max()
    colours = {code: colour for _, part, colour in parts for code in part}
    for column, row in zip(*np.nonzero(table), strict=True):
        side = (cell - 4) * float(np.sqrt(table[column, row] / greatest))
        x, y = left + cell * (column + 0.5) - side / 2, top + cell * (row + 0.5) - side / 2
        sheet.box(x, y, side, side, colours.get(column, INK))
    sheet.text(left, top + height + 1.5 * LINE + GAP, f"largest square: {greatest:.2f}", ha="left", color=MUTED)
    return sheet.figure


def sample_grid(images: npt.ArrayLike, *, columns: int = 8) -> Figure:
    """Draw images (n, H, W) row by row; the last row may be short."""
    pixels = coloured(images, 1)
    rows = -(-len(pixels) // columns)
    blank = np.full((rows * columns - len(pixels), *pixels.shape[1:]), 255, np.uint8)
    tiles = tile(np.concatenate([pixels, blank]).reshape(rows, columns, *pixels.shape[1:]))
    sheet = Sheet(tiles.shape[1] + 2 * PAD, tiles.shape[0] + 2 * PAD)
    sheet.picture(PAD, PAD, tiles)
    return sheet.figure


def reconstruction_grid(rows: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw labelled strips of n images each, say input, target, reconstruction: column i belongs together.

    Parameters
    ----------
    rows:
        Label -> images (n, H, W), all of one shape.
    """
    tiles = tile(np.stack([coloured(images, 1) for images in rows.values()]))
    left, step = PAD + text_width(rows) + PAD, (tiles.shape[0] + GAP) / len(rows)
    sheet = Sheet(left + tiles.shape[1] + PAD, tiles.shape[0] + 2 * PAD)
    sheet.picture(left, PAD, tiles)
    for row, label in enumerate(rows):
        sheet.text(left - PAD, PAD + step * (row + 0.5) - GAP / 2, label, ha="right")
    return sheet.figure


def traversal_grid(
    images: npt.ArrayLike,
    *,
    partitions: Mapping[str, slice],
    values: Sequence[float],
    activity: npt.ArrayLike,
    dead_below: float,
) -> Figure:
    """Draw one row per latent dimension, partition by partition, while that dimension takes each of the values.

    The rows of a partition are sorted by activity, the busiest first; it is written beside each.

    Parameters
    ----------
    images:
        (M, steps, H, W): row i moves dimension i.
    partitions:
        Name -> its dimensions; each of the M is in one.
    values:
        What the dimension is set to, or moved by, in each column (steps,).
    activity:
        KL of each dimension in nats (M,); below `dead_below` it is faded and marked dead.
    """
    pixels, nats = coloured(images, 2), np.asarray(activity, np.float64)
    parts = _coloured(partitions, len(pixels))
    order = [sorted(part, key=lambda i: -nats[i]) for _, part, _ in parts]
    dead = nats < dead_below
    labels = [f"z{i}  dead" if dead[i] else f"z{i}  {nats[i]:.2f}" for i in range(len(pixels))]
    faded = np.where(dead[:, None, None, None, None], 255 - (255 - pixels) // 4, pixels).astype(np.uint8)
    blocks = [tile(faded[rows]) for rows in order]
    names = text_width(partitions)
    left, top = PAD + names + PAD + BAR + PAD + text_width(labels) + PAD, PAD + LINE
    height = sum(len(block) for block in blocks) + PAD * (len(blocks) - 1)
    sheet = Sheet(left + blocks[0].shape[1] + PAD, top + height + PAD)
    step = (blocks[0].shape[1] + GAP) / len(values)
    for column, value in enumerate(values):
        sheet.text(left + step * column + (step - GAP) / 2, top - LINE / 2, signed(value))
    sheet.text(left - PAD, top - LINE / 2, "KL (nats)", ha="right", color=MUTED)
    y = top
    for (name, _, colour), rows, block in zip(parts, order, blocks, strict=True):
        sheet.picture(left, y, block)
        sheet.box(PAD + names + PAD, y, BAR, len(block), colour)
        sheet.text(PAD + names, y + len(block) / 2, name, ha="right", color=colour, weight="bold")
        for row, i in enumerate(rows):
            place = y + (len(block) + GAP) / len(rows) * (row + 0.5) - GAP / 2
            sheet.text(left - PAD, place, labels[i], ha="right", color=MUTED if dead[i] else INK)
        y += len(block) + PAD
    return sheet.figure


def traversal_frames(
    images: npt.ArrayLike, *, partitions: Mapping[str, slice], activity: npt.ArrayLike
) -> list[Figure]:
    """Draw a traversal as frames there and back: a row per partition, in it a tile per dimension, the busiest first.

    Parameters are those of `traversal_grid`.
    """
    pixels, nats = coloured(images, 2), np.asarray(activity, np.float64)
    order = {name: sorted(part, key=lambda i: -nats[i]) for name, part, _ in _coloured(partitions, len(pixels))}
    blank = np.full((max(map(len, order.values())), *pixels.shape[1:]), 255, np.uint8)
    rows = {name: np.concatenate([pixels[part], blank])[: len(blank)] for name, part in order.items()}
    there = range(pixels.shape[1])
    steps = [*there, *there[-2:0:-1]]
    return [reconstruction_grid({name: strip[:, step] for name, strip in rows.items()}) for step in steps]


def swap_grid(
    images: npt.ArrayLike,
    row_sources: npt.ArrayLike,
    column_sources: npt.ArrayLike,
    *,
    names: tuple[str, str] = ("pose", "expression"),
) -> Figure:
    """Draw what comes of the row's image in one partition and the column's image in the other.

    Parameters
    ----------
    images:
        (R, C, H, W): image (r, c) has the first partition of row source r and the second of column source c.
    row_sources, column_sources:
        (R, H, W) and (C, H, W), drawn in the margins.
    names:
        The partition that rows decide, and the one that columns decide.
    """
    inner = tile(coloured(images, 2))
    side, head = tile(coloured(row_sources, 1)[:, None]), tile(coloured(column_sources, 1)[None])
    x, y = PAD + BAR + GAP, PAD + LINE + BAR + GAP
    left, top = max(x + side.shape[1], PAD + text_width(names[:1])) + PAD, y + head.shape[0] + PAD
    sheet = Sheet(left + inner.shape[1] + PAD, top + inner.shape[0] + PAD)
    sheet.picture(left, top, inner)
    sheet.picture(x, top, side)
    sheet.picture(left, y, head)
    sheet.band_above(left, y - GAP, head.shape[1], names[1], PALETTE[1])
    sheet.box(PAD, top, BAR, side.shape[0], PALETTE[0])
    sheet.text(PAD, top - LINE / 2, names[0], ha="left", color=PALETTE[0], weight="bold")
    return sheet.figure


def pair_sheet(images: npt.ArrayLike, partners: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw images beside partners of several kinds, in the colours of partitions, to be looked at before any training.

    Parameters
    ----------
    images:
        (n, H, W), one row each.
    partners:
        What they have in common, such as "same pose" -> (n, k, H, W); k may differ.
    """
    inputs = tile(coloured(images, 1)[:, None])
    blocks = {name: tile(coloured(pictures, 2)) for name, pictures in partners.items()}
    top = PAD + LINE + BAR + GAP
    width = inputs.shape[1] + sum(block.shape[1] + PAD for block in blocks.values())
    sheet = Sheet(width + 2 * PAD, top + inputs.shape[0] + PAD)
    sheet.band_above(PAD, top - GAP, inputs.shape[1], "image", INK)
    sheet.picture(PAD, top, inputs)
    x, colours = PAD + inputs.shape[1] + PAD, colours_of(blocks)
    for name, block in blocks.items():
        sheet.band_above(x, top - GAP, block.shape[1], name, colours[name])
        sheet.picture(x, top, block)
        x += block.shape[1] + PAD
    return sheet.figure


def _coloured(partitions: Mapping[str, slice], size: int) -> list[tuple[str, range, str]]:
    """Name, dimensions and colour of every partition."""
    colours = colours_of(partitions)
    return [(name, range(size)[part], colours[name]) for name, part in partitions.items()]


def signed(value: float) -> str:
    """A number with its sign, as people write it."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}") if value else "0"
