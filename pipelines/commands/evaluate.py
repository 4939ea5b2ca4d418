"""`pipe evaluate`: how well a run's codes separate what its pairs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath, Seed, Truth, option


def evaluate(
    run: RunPath,
    samples: Annotated[
        int | None,
        option(
            "Judge at most so many random images; take 15000 to compare a factor grid's DCI with published ones.",
            "20,000 faces, 10,000 dSprites",
            min=100,
        ),
    ] = None,
    truth: Truth = None,
    store: MovedStore = None,
    out: Annotated[
        Path | None, option("Folder for metrics.json and figures, to leave the run's own as they are.", "the run's")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a run: metrics.json, tables, Hinton diagrams, swaps.

    A store of known factors is judged by them. Faces are judged by pose and action units, on held-out people: linear probes and
    random forests are fitted on others. Your own pictures are judged by every label: numbers, classes and angles. Without labels
    there are the reconstruction and the KL divergence.

    Example: pipe evaluate run
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation import probes
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.evaluation.pictures import draw_score_figures

    opened = open_run(run, store).writing_to(out)
    with console.progress("evaluate") as update:
        scores = probes.evaluate(opened, samples=samples, seed=seed, truth=truth, progress=update)
    opened.files.add_metrics("evaluate", console.plain(scores.values))
    pictures = draw_score_figures(opened, scores)
    unfinished = (
        {} if "train" in opened.files.read_metrics() else {"training": "not finished: its last checkpoint is judged"}
    )
    rows = {
        "run": run,
        **unfinished,
        **scores.facts(),
        "KL by dimension": " ".join(f"{value:.2f}" for value in scores.values["kl"]),
        "pictures": ", ".join(path.name for path in pictures),
        "in": opened.files.figures,
    }
    tables = {table.title: console.grid(["", *table.columns], table.lines()) for table in scores.tables()}
    console.show(scores.values, rows, tables=tables, as_json=as_json)
