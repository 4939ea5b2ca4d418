"""Results on faces in Markdown: what each partition tells, by gating, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gated_vae.pipelines.experiments.faces import PRESET, FacePlan, FaceRun, objective_of
from gated_vae.pipelines.experiments.table1_report import interval
from gated_vae.preprocessing.store import open_store

DETAIL = ("ridge", "sample")
Scores = Mapping[str, Any]
Column = Callable[[Scores], float | None]


def faces_markdown(runs: Sequence[FaceRun], preamble: str) -> str:
    """The report: partitions in short under each read-out, the swap test, the other scores, then factor by factor."""
    first = runs[0].scores
    parts = [preamble]
    for readout, by_codes in first["summary"].items():
        for codes, by_partition in by_codes.items():
            columns = {
                f"{name}: {key}": _at("summary", readout, codes, name, key)
                for name in by_partition
                for key in ("own", "other", "all", "score")
            }
            if columns:
                parts += [f"## Mean R2, {readout.replace('_', ' ')}, posterior {codes}s\n", _table(runs, columns)]
    if first["swap"]:
        parts += ["## Swap test\n", _table(runs, _swap_columns())]
    parts += ["## DCI and reconstruction\n", _table(runs, _other_columns(first))]
    return "\n".join([*parts, *_factor_tables(runs)])


def faces_preamble(plan: FacePlan, runs: Sequence[FaceRun]) -> str:
    """What was run, and how it was judged."""
    store, scores = open_store(plan.store), runs[0].scores
    steps = ", ".join(f"{count:,}" for count in sorted({run.steps for run in runs}))
    judge = "the truth behind the simulation" if scores["judged_by"] == "truth" else "OpenFace's labels, noise included"
    pairs = "; ".join(f"{name}: {_pairing(record)}" for name, record in store.partitions.items())
    height, width = store.manifest["image_shape"]

    def beta(gating: str) -> float:
        return objective_of(plan, store, gating).beta  # type: ignore[attr-defined, no-any-return]

    widths = f", widths {','.join(map(str, plan.widths))}" if plan.widths else ""
    weights = f", times {plan.kl_weights} where there is a gate" if plan.kl_weights else ""
    return (
        f"# Faces ({runs[0].data}), {steps} steps\n\n"
        f"{len(store):,} images of {width}x{height}. Pairs: {pairs}. Every run: the faces' preset ({PRESET.network} network"
        f"{widths}), batch {plan.batch_size}, Adam, rate {plan.lr:g} {plan.schedule}, {plan.precision}, KL weight"
        f" {beta('gated'):g}{weights} (ungated_beta: {beta('ungated_beta'):g}). Ungated networks have the same partitions, which"
        " mean nothing to them.\n\n"
        f"Judged by {judge}; split {scores['split_by']}. The networks were trained on all images, without labels. R2 below 0"
        " counts as 0 in means. `own` is from a factor's own partition, `other` from the best other one, `all` from the whole"
        " latent, `score` own - other. Intervals are 95% of the mean over seeds (Student's t).\n"
    )


def _pairing(record: Scores) -> str:
    made = [
        f"{key.replace('_', ' ')} {record[key]}"
        for key in ("k", "scale", "strata", "other_person", "draws")
        if key in record
    ]
    return f"{record.get('method', 'exact')} ({', '.join(made)})"


def _swap_columns() -> dict[str, Column]:
    judges = {"by_readout": "read-outs", "by_labels": "labels", "unswapped_by_labels": "labels, not swapped"}
    keys = {"pose": "A's pose", "expression": "B's expression", "both": "both"}
    return {
        f"{title} ({judge})": _at("swap", name, key) for name, judge in judges.items() for key, title in keys.items()
    }


def _other_columns(scores: Scores) -> dict[str, Column]:
    names = ("disentanglement", "completeness", "uninformativeness")
    columns = {f"{key}, {name.replace('_', ' ')}": _at("dci", name, key) for name in scores["dci"] for key in names}
    return columns | {key.replace("_", " "): _at("reconstruction", key) for key in scores["reconstruction"]}


def _factor_tables(runs: Sequence[FaceRun]) -> list[str]:
    """One table per gating, factors as rows and partitions as columns."""
    readout, codes = DETAIL
    parts = [f"## R2 by factor, {readout}, posterior {codes}s\n"]
    for gating in dict.fromkeys(run.gating for run in runs):
        mine = [run for run in runs if run.gating == gating]
        table = mine[0].scores["r2"][readout][codes]
        factors = list(next(iter(table.values())))
        lines = []
        for factor in factors:
            cells = [over_seeds(_at("r2", readout, codes, name, factor)(run.scores) for run in mine) for name in table]
            lines.append(" | ".join([factor, *cells]))
        parts += [f"### {gating}, n={len(mine)}\n", markdown_table(["factor", *table], lines)]
    return parts


def _at(*path: str) -> Column:
    """Find a value by its keys; None where one is missing."""

    def find(scores: Scores) -> float | None:
        found: Any = scores
        for key in path:
            found = found.get(key) if found else None
        return None if found is None else float(found)

    return find


def _table(runs: Sequence[FaceRun], columns: Mapping[str, Column]) -> str:
    lines = []
    for gating in dict.fromkeys(run.gating for run in runs):
        mine = [run.scores for run in runs if run.gating == gating]
        cells = [over_seeds(map(column, mine)) for column in columns.values()]
        lines.append(" | ".join([f"{gating}, n={len(mine)}", *cells]))
    return markdown_table(["gating", *columns], lines)


def over_seeds(values: Iterable[float | None]) -> str:
    """Mean and interval of what is known; - where nothing is."""
    known = pd.Series([value for value in values if value is not None], dtype=float)
    return interval(known) if len(known) else "-"


def markdown_table(header: Sequence[str], lines: Sequence[str]) -> str:
    """A table of Markdown; cells of a line are parted by `` | ``."""
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {line} |" for line in lines), ""])
