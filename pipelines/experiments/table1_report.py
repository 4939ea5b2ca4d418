"""The paper's four tables beside ours, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from io import StringIO

import numpy as np
import pandas as pd
from scipy import stats

from gated_vae.pipelines.experiments.table1 import GATINGS, Schedule
from gated_vae.preprocessing.errors import GatedVAEError

FACTORS = {"shape": "shape", "size": "scale", "rotation": "orientation", "x_position": "posX", "y_position": "posY"}
MODELS = {"beta": "beta-VAE", "info": "InfoVAE", "dip2": "DIP-VAE-II"}
KEY = ("regressor", "model", "gating", "steps", "lr", "schedule", "widths")
SCORES = ("disentanglement", "completeness", "uninformativeness")
_AGAIN = "Make them again: `pipe reproduce table1` with their --out reads the finished runs anew."


def interval(values: pd.Series) -> str:
    """Mean and half-width of its 95% interval (Student's t over seeds)."""
    count = len(values)
    if count < 2:
        return f"{values.mean():.3f}"
    half_width = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return f"{values.mean():.3f} ± {half_width:.3f}"


def paper() -> pd.DataFrame:
    """The paper's figures: table, regressor, model, gating, quantity, mean, std."""
    text = resources.files(__package__).joinpath("paper_tables.csv").read_text()
    return pd.read_csv(StringIO(text))


def merge(results: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Results of several folders or machines as one table, in the order of the paper's; of the same run the last stands.

    Raises
    ------
    GatedVAEError
        When some of the results do not say how their runs were trained.
    """
    for result in results:
        if missing := [name for name in KEY if name not in result]:
            raise GatedVAEError("Results cannot be put together.", f"Some have no column {missing[0]}.", _AGAIN)
    rows = pd.concat(results, ignore_index=True).drop_duplicates([*KEY, "seed"], keep="last")
    orders = {"model": [*MODELS], "gating": [*GATINGS]}
    return rows.sort_values(
        ["model", "gating", "steps", "lr", "schedule", "widths", "seed"],
        key=lambda column: column.map(orders[column.name].index) if column.name in orders else column,
        kind="stable",
        ignore_index=True,
    )


def markdown(results: pd.DataFrame, preamble: str) -> str:
    """The report: Table 1 with both, then Tables 2 to 4, ours under the paper's."""
    known = paper()
    columns = {
        1: {name: name for name in SCORES},
        2: {name: f"uninformativeness_{column}" for name, column in FACTORS.items()},
        3: {name: f"completeness_{column}" for name, column in FACTORS.items()},
        4: {f"z{i}": f"disentanglement_z{i}" for i in range(8)},
    }
    titles = {
        1: "Table 1: scores",
        2: "Table 2: uninformativeness by factor (lower is better)",
        3: "Table 3: completeness by factor",
        4: "Table 4: disentanglement by latent dimension (the paper does not state which partition is which)",
    }
    parts = [preamble]
    for number, mapping in columns.items():
        parts += [f"## {titles[number]}\n", _table(results, known[known["table"] == number], mapping)]
    return "\n".join([*parts, "## Rotation, partitions and other metrics\n", _others(results)])


def _table(results: pd.DataFrame, known: pd.DataFrame, columns: dict[str, str]) -> str:
    lines = ["| regressor | model | gating | | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 4)]
    shown = set()
    for (regressor, model, gating, *length), rows in results.groupby([*KEY], sort=False):
        which = (known["regressor"] == regressor) & (known["model"] == MODELS[model]) & (known["gating"] == gating)
        theirs = known[which].set_index("quantity")
        if len(theirs) and (regressor, model, gating) not in shown:
            shown.add((regressor, model, gating))
            cells = [f"{theirs.loc[name, 'mean']:.3f} (sd {theirs.loc[name, 'std']:.3f})" for name in columns]
            lines.append(f"| {regressor} | {MODELS[model]} | {gating} | paper | " + " | ".join(cells) + " |")
        ours = [interval(rows[column]) for column in columns.values()]
        whose = f"ours, {_length(*length)}, n={len(rows)}"
        lines.append(f"| {regressor} | {MODELS[model]} | {gating} | {whose} | " + " | ".join(ours) + " |")
    return "\n".join(lines) + "\n"


def _length(steps: int, lr: float, schedule: str, widths: str) -> str:
    """Steps, and rate and widths where they are not the usual ones."""
    rate = "" if (lr, schedule) == (Schedule.lr, Schedule.schedule) else f" at {lr:g} {schedule}"
    width = "" if widths == ",".join(map(str, Schedule.widths)) else f", widths {widths}"
    return f"{steps:,} steps{rate}{width}"


def _others(results: pd.DataFrame) -> str:
    rows = results[results["regressor"] == "random_forest"]
    names = [name for name in rows.columns if name.startswith(("rotation_circular", "partition_score"))]
    names += ["mig", "sap", "modularity"]
    lines = ["| model | gating | steps | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "---|" * (len(names) + 3))
    for (model, gating, *length), group in rows.groupby([*KEY[1:]], sort=False):
        known = [group[name].dropna() for name in names]
        cells = [interval(values) if len(values) else "-" for values in known]
        lines.append(f"| {MODELS[model]} | {gating} | {_length(*length)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
