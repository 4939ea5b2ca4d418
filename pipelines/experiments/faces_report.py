"""Results on faces in Markdown: what each partition tells, by method, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gated_vae.pipelines.evaluation.labels import owner_of
from gated_vae.pipelines.evaluation.scores import DCI, JUDGES, SWAP, summarise
from gated_vae.pipelines.experiments.tables import interval, markdown_table, over_seeds

RUN = ["method", "steps", "seed"]
REGRESSORS = ("lasso", "random_forest")
SCORES = {
    "Swap test": {
        f"{title} ({how})": f"swap_{judge}_{key}" for judge, how in JUDGES.items() for key, title in SWAP.items()
    },
    "DCI and reconstruction": {
        **{f"{key}, {name.replace('_', ' ')}": f"{key}_{name}" for name in REGRESSORS for key in DCI},
        "rmse": "rmse",
        "rmse of mean image": "rmse_of_mean_image",
    },
}


def markdown(results: pd.DataFrame, preamble: str) -> str:
    """The report: partitions in short by each probe, the swap test, the other scores, then factor by factor."""
    parts = [preamble]
    for (probe, codes), cells in results.groupby(["regressor", "codes"], sort=False):
        runs = pd.DataFrame([{"method": run[0], **_summary(found)} for run, found in cells.groupby(RUN, sort=False)])
        if len(runs.columns) > 1:
            columns = {name: name for name in runs.columns[1:]}
            parts += [
                f"## Mean R2, {probe.replace('_', ' ')}, posterior {codes}s\n",
                over_seeds(runs, "method", columns),
            ]
    runs = results.drop_duplicates(RUN)
    for title, columns in SCORES.items():
        known = {name: column for name, column in columns.items() if column in runs}
        if known:
            parts += [f"## {title}\n", over_seeds(runs, "method", known)]
    detail = results[(results["regressor"] == "ridge") & (results["codes"] == "sample")]
    return "\n".join([*parts, "## R2 by factor, ridge, posterior samples\n", *_factor_tables(detail)])


def _summary(cells: pd.DataFrame) -> dict[str, float]:
    """One run's mean R2 by partition: ``NAME: own`` and so on."""
    r2 = {name: found.set_index("factor")["r2"].to_dict() for name, found in cells.groupby("partition", sort=False)}
    owner = {factor: owner_of(factor) for factor in cells["factor"].unique()}
    return {f"{name}: {key}": value for name, found in summarise(r2, owner).items() for key, value in found.items()}


def _factor_tables(detail: pd.DataFrame) -> Iterator[str]:
    """One table per method, factors as rows and partitions as columns."""
    for method, cells in detail.groupby("method", sort=False):
        yield f"### {method}, n={len(cells.drop_duplicates(RUN))}\n"
        partitions = cells["partition"].unique()
        lines = [
            [factor, *(interval(found.loc[found["partition"] == name, "r2"]) for name in partitions)]
            for factor, found in cells.groupby("factor", sort=False)
        ]
        yield markdown_table(["factor", *partitions], lines)
