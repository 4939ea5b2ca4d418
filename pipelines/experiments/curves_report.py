"""Curves in Markdown and as a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from gated_vae.models.figures.curves import Panel, curve_panels
from gated_vae.pipelines.experiments.tables import over_seeds

SCORES = {
    "pose_own": "pose from pose",
    "pose_leakage": "pose from expression",
    "action_units_own": "action units from expression",
    "action_units_leakage": "action units from pose",
    "pose_score": "pose: score",
    "expression_score": "expression: score",
    "swap_both": "swap: both",
}
TITLES = {
    "clusters": "clusters (pose/expression)",
    "label_noise": "noise of the labels, times OpenFace's",
    "wrong": "share of wrong labels",
    "confounding": "confounding by pose, times OpenFace's",
    "images": "images",
    "pairing": "pairing",
}
LINES = {
    "pose (pitch, yaw)": ("pose_own", "pose_leakage"),
    "mouth and brow action units": ("action_units_own", "action_units_leakage"),
}


def markdown(results: pd.DataFrame, preamble: str) -> str:
    """The report: what was run, then a table per axis, with intervals over seeds."""
    parts = [preamble]
    for axis, rows in results.groupby("axis", sort=False):
        named = rows[["value", *SCORES]].rename(columns={"value": axis, **SCORES})
        table = over_seeds(named, axis, {title: title for title in SCORES.values()})
        parts += [f"## {TITLES[axis][0].upper()}{TITLES[axis][1:]}\n", table]
    return "\n".join(parts)


def draw_curves(results: pd.DataFrame) -> Figure:
    """A panel per axis: what pose and expression tell of their own factors and of each other's."""
    return curve_panels([_panel(TITLES[axis], rows) for axis, rows in results.groupby("axis", sort=False)])


def _panel(title: str, rows: pd.DataFrame) -> Panel:
    groups = {str(value): group for value, group in rows.groupby("value", sort=False)}

    def runs(name: str) -> list[npt.NDArray[np.float64]]:
        return [group[name].to_numpy() for group in groups.values()]

    labels = tuple(value.replace("_", "\n") for value in groups)
    return Panel(title, labels, {line: (runs(own), runs(leakage)) for line, (own, leakage) in LINES.items()})
