"""`pipe evaluate`: how well a run's codes separate what its pairs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath, Seed

if TYPE_CHECKING:
    from rich.table import Table

    from gated_vae.models.metrics import DCI
    from gated_vae.pipelines.evaluation.faces import FaceScores
    from gated_vae.pipelines.evaluation.factors import FactorScores
    from gated_vae.pipelines.evaluation.swap import SwapScores

SHORT = {"random_forest": "forest"}
DCI_SCORES = ("disentanglement", "completeness", "uninformativeness")


def evaluate(
    run: RunPath,
    samples: Annotated[
        int | None, typer.Option(min=100, help="Random images at most.", show_default="20,000 faces, 10,000 dSprites")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="truth.parquet of simulated faces, to judge by.", show_default="labels judge")
    ] = None,
    store: MovedStore = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a run: metrics.json, tables, Hinton diagrams, swaps.

    A store of known factors is judged by them. Faces are judged by pose and action units, on people that the read-outs have not
    seen.

    Example: pipe evaluate run
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.faces import SAMPLES, evaluate_faces
    from gated_vae.pipelines.evaluation.factors import TEST_SAMPLES, evaluate_factors
    from gated_vae.pipelines.evaluation.pictures import draw_score_figures
    from gated_vae.pipelines.training.run import open_run

    opened = open_run(run, store)
    scores: FactorScores | FaceScores
    if "factors" in opened.store().manifest:
        if truth is not None:
            raise typer.BadParameter("--truth is for faces; this run's store has exact factors.")
        scores = evaluate_factors(opened, samples=samples or TEST_SAMPLES, seed=seed)
        rows = _factor_rows(scores)
    else:
        scores = evaluate_faces(opened, samples=samples or SAMPLES, seed=seed, truth=truth)
        rows = _face_rows(scores)
    opened.add_metrics("evaluate", console.plain(scores.to_dict()))
    rows |= {"DCI": _dci(scores.dci), "KL by dimension": " ".join(f"{value:.2f}" for value in scores.kl)}
    rows["pictures"] = "\n".join(path.name for path in draw_score_figures(opened, scores))
    console.show(scores.to_dict(), {"run": run, **rows, "in": opened.figures}, as_json=as_json)


def _factor_rows(scores: FactorScores) -> dict[str, object]:
    from gated_vae.pipelines import console

    errors = {
        name: dict(zip(scores.factors, score.uninformativeness_per_factor, strict=True))
        for name, score in scores.dci.items()
    }
    parts = scores.partition_r2
    r2 = [
        [name, *(_short(parts[part][name]) for part in parts), _short(gap)]
        for name, gap in scores.partition_score.items()
    ]
    return {
        "uninformativeness": console.grid(
            ["factor", *errors], [[name, *(error[name] for error in errors.values())] for name in scores.factors]
        ),
        "R2 by partition": console.grid(["factor", *parts, "score"], r2),
        "circular rotation": scores.rotation,
        "others": scores.others,
    }


def _face_rows(scores: FaceScores) -> dict[str, object]:
    from gated_vae.pipelines import console

    rows: dict[str, object] = {
        "images": f"{scores.images:,}, {scores.held_out:,} of them held out",
        "split": scores.split_by,
        "judged by": scores.judged_by,
    }
    if scores.constant:
        rows["left out"] = f"{', '.join(scores.constant)}: the same in every image of one side"
    summary = [
        [
            f"{SHORT.get(readout, readout)}, {codes}",
            name,
            *map(_short, (found.own, found.other, found.all, found.score)),
        ]
        for readout, codes in scores.tables
        for name, found in scores.summary(readout, codes).items()
    ]
    header = ["read from", "R2 of", "own", "other", "all", "gap"]
    rows["summary"] = console.grid(header, summary) if summary else "no partition is named pose or expression"
    rows["R2 (ridge, samples)"] = _r2(scores)
    rows["swap test"] = "none: it needs a pose and an expression" if scores.swap is None else _swap(scores.swap)
    return rows | {"reconstruction": scores.reconstruction}


def _r2(scores: FaceScores) -> Table:
    from gated_vae.pipelines import console

    table = scores.tables["ridge", "sample"]
    cells = [[name, *map(_short, column)] for name, column in zip(table.factors, table.r2.T, strict=True)]
    return console.grid(["factor", *table.partitions], cells)


def _swap(swap: SwapScores) -> Table:
    from gated_vae.pipelines import console

    judges = {
        "nearer in read-outs": swap.by_readout,
        "nearer in labels": swap.by_labels,
        "the same, not swapped": swap.unswapped_by_labels,
    }
    cells = [[name, *map(_short, (found.pose, found.expression, found.both))] for name, found in judges.items()]
    return console.grid([f"{swap.pairs:,} pairs", "A's pose", "B's expression", "both"], cells)


def _dci(scores: dict[str, DCI]) -> Table:
    from gated_vae.pipelines import console

    cells = [[name, *(f"{getattr(score, name):.3f}" for score in scores.values())] for name in DCI_SCORES]
    return console.grid(["", *scores], cells)


def _short(value: float) -> str:
    return f"{value:.2f}"
