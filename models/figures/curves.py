"""Curves of scores, a panel for each thing varied, drawn from the numbers of single runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gated_vae.models.figures.sheet import DPI, FONT, INK, PALETTE, RULE

Runs = Sequence[npt.NDArray[np.float64]]  # one number per run, at each value


@dataclass(frozen=True)
class Panel:
    """One panel of curves.

    Attributes
    ----------
    title:
        What is varied.
    ticks:
        Its n values, in words.
    lines:
        Name -> what should be high (own) and what should be low (leakage): R2 of every run (runs,) at each of the n values.
    """

    title: str
    ticks: Sequence[str]
    lines: Mapping[str, tuple[Runs, Runs]]


def curve_panels(panels: Sequence[Panel], *, columns: int = 3) -> Figure:
    """Draw curves of R2, one panel per thing varied: own solid, leakage dashed, each run a dot; values are evenly spaced.

    `ValueError` when there is no panel.
    """
    if not panels:
        raise ValueError("there is no panel to draw")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.4), dpi=DPI, facecolor="white", layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        _curves(axes, panel)
    for axes in grid[:, 0]:
        axes.set_ylabel("R2", fontsize=FONT, color=INK)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=columns + columns // 3, frameon=False, fontsize=FONT
    )
    return figure


def _curves(axes: Axes, panel: Panel) -> None:
    """Draw one panel."""
    for (name, (own, leakage)), colour in zip(panel.lines.items(), cycle(PALETTE), strict=False):
        for runs, title, dash, fill in ((own, "own", "-", colour), (leakage, "leakage", "--", "white")):
            place = np.repeat(np.arange(len(runs)), [len(values) for values in runs])
            axes.plot(place, np.concatenate(runs), ".", color=colour, alpha=0.35, markersize=3)
            means = [np.mean(values) for values in runs]
            label = f"{name}: {title}"
            axes.plot(means, f"o{dash}", color=colour, markerfacecolor=fill, markersize=4, linewidth=1.2, label=label)
    axes.set_xticks(range(len(panel.ticks)), panel.ticks)
    axes.set_title(panel.title, fontsize=FONT, color=INK, weight="bold")
    axes.tick_params(labelsize=FONT - 1, colors=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(-0.02, 1)
