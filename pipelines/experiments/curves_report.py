"""Curves in Markdown and as a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from gated_vae.models.figures.curves import Panel, curve_panels
from gated_vae.pipelines.experiments.curves import BASE, DRAWS, KL_WEIGHTS, LATENT, PAIRINGS, SIZE, STRATA, CurvePlan
from gated_vae.pipelines.experiments.faces_report import markdown_table, over_seeds

SCORES = {
    "pose_own": "pose from pose",
    "pose_leak": "pose from expression",
    "units_own": "units from expression",
    "units_leak": "units from pose",
    "pose_score": "pose: score",
    "expression_score": "expression: score",
    "swap_both": "swap: both",
}
TITLES = {
    "clusters": "clusters (pose/expression)",
    "label_noise": "noise of the labels, times OpenFace's",
    "wrong": "share of wrong labels",
    "confounding": "confounding of units by pose, times OpenFace's",
    "images": "images",
    "pairing": "pairing",
}
LINES = {"pose (pitch, yaw)": ("pose_own", "pose_leak"), "mouth and brow units": ("units_own", "units_leak")}


def curves_markdown(results: pd.DataFrame, plan: CurvePlan) -> str:
    """The report: what was run, then a table per axis, with intervals over seeds."""
    parts = [_preamble(plan)]
    for axis, rows in results.groupby("axis", sort=False):
        lines = []
        for value, group in rows.groupby("value", sort=False):
            cells = [over_seeds(group[name].dropna()) for name in SCORES]
            lines.append(" | ".join([f"{value}, n={len(group)}", *cells]))
        parts += [f"## {TITLES[axis][0].upper()}{TITLES[axis][1:]}\n", markdown_table([axis, *SCORES.values()], lines)]
    return "\n".join(parts)


def draw_curves(results: pd.DataFrame) -> Figure:
    """A panel per axis: what pose and expression tell of their own factors and of each other's."""
    return curve_panels([_panel(TITLES[axis], rows) for axis, rows in results.groupby("axis", sort=False)])


def _panel(title: str, rows: pd.DataFrame) -> Panel:
    groups = {str(value): group for value, group in rows.groupby("value", sort=False)}

    def runs(name: str) -> list[npt.NDArray[np.float64]]:
        return [group[name].to_numpy() for group in groups.values()]

    labels = tuple(value.replace("_", "\n") for value in groups)
    return Panel(title, labels, {line: (runs(own), runs(leak)) for line, (own, leak) in LINES.items()})


def _preamble(plan: CurvePlan) -> str:
    clusters = plan.clusters_at(BASE)
    return (
        f"# Curves on simulated faces, {plan.steps:,} steps\n\n"
        f"One thing is varied at a time. The base: {plan.images:,} pictures of {plan.people:,} people, {SIZE}x{SIZE}, labels as"
        f" noisy and as confounded as OpenFace's on CelebA (scale {BASE.label_noise:g} and {BASE.confounding:g}), none swapped;"
        f" {clusters['pose']} pose and {clusters['expression']} expression clusters and exact pairs by identity, {DRAWS} draws,"
        f" {STRATA} strata. Clusters grow with images. Latent: {LATENT}; a partner for every partition; batch {plan.batch_size},"
        f" Adam, rate {plan.lr:g} {plan.schedule}, {plan.precision}, KL weight {plan.beta:g}, times {KL_WEIGHTS}. Seeds decide"
        " weights and order; pictures, labels and pairs of a point are the same for all.\n\n"
        f"Judged by the truth of the base's {plan.images:,} pictures, read-outs fitted on some people and judged on others: R2 of"
        " ridge regression on posterior samples, below 0 counted as 0. `pose` is pitch and yaw, `units` AU01, AU04, AU06, AU12"
        " and AU25. `score` is own - best other partition, over all units. `swap: both` is the share of swaps that show"
        " A's pose and B's expression. Intervals are 95% of the mean over seeds (Student's t).\n\n"
        f"Pairings: {', '.join(PAIRINGS)} (the base: {BASE.pairing}).\n"
    )
