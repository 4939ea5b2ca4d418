"""Results of many runs as tables of Markdown, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gated_vae.pipelines.evaluation.scores import markdown_table
from gated_vae.preprocessing.errors import GatedVAEError


def half_width(values: pd.Series) -> float:
    """Half of the mean's 95% interval (Student's t over seeds), of two values or more."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def interval(values: pd.Series) -> str:
    """Mean and half-width of its 95% interval of what is known; - where nothing is."""
    known = values.dropna()
    if len(known) < 2:
        return f"{known.mean():.3f}" if len(known) else "-"
    return f"{known.mean():.3f} ± {half_width(known):.3f}"


def over_seeds(runs: pd.DataFrame, by: str) -> str:
    """A line per value of `by`, with the interval over its runs (one row each) of every other column."""
    columns = runs.columns.drop(by)
    lines = [
        [f"{name}, n={len(group)}", *(interval(group[column]) for column in columns)]
        for name, group in runs.groupby(by, sort=False)
    ]
    return markdown_table([by, *columns], lines)


def merge(
    results: Sequence[pd.DataFrame], key: Sequence[str], order: Mapping[str, Sequence[str] | None]
) -> pd.DataFrame:
    """Results of several folders or machines as one table, in order; of the same run the last stands.

    `GatedVAEError` when some of the results do not say how their runs were trained.

    Parameters
    ----------
    key:
        The columns that tell one row from another.
    order:
        The columns to sort by, with the order of their values where it is not the usual one.
    """
    known = [result for result in results if len(result)]
    for result in known:
        if missing := [name for name in key if name not in result]:
            remedy = "Make them again: `pipe reproduce` with their --out reads the finished runs anew."
            raise GatedVAEError("Results cannot be put together.", f"Some have no column {missing[0]}.", remedy)
    if not known:
        return pd.DataFrame(columns=[*key])
    places = {name: {value: place for place, value in enumerate(values)} for name, values in order.items() if values}
    rows = pd.concat(known, ignore_index=True).drop_duplicates([*key], keep="last")
    return rows.sort_values(
        [*order],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        kind="stable",
        ignore_index=True,
    )
