"""`pipe evaluate`: how well a run's codes separate the factors."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.options import AsJson, RunPath, Seed


def evaluate(
    run: RunPath,
    samples: Annotated[int, typer.Option(min=100, help="Random images to encode (dSprites).")] = 10_000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a run: metrics.json, tables and Hinton diagrams.

    Example: pipe evaluate run
    """
    from pipelines import console
    from pipelines.evaluate_factors import evaluate_factors
    from pipelines.pictures import draw_factor_figures
    from pipelines.run import open_run

    opened = open_run(run)
    scores = evaluate_factors(opened, samples=samples, seed=seed)
    opened.add_metrics("evaluate", console.plain(scores.to_dict()))
    pictures = draw_factor_figures(opened, scores)
    names = ["disentanglement", "completeness", "uninformativeness"]
    table = [[name, *(getattr(score, key) for key in names)] for name, score in scores.dci.items()]
    errors = [[name, *score.uninformativeness_per_factor] for name, score in scores.dci.items()]
    r2 = [[name, *values.values()] for name, values in scores.partition_r2.items()]
    rows: dict[str, object] = {
        "run": run,
        "DCI": console.grid(["regressor", *names], table),
        "uninformativeness": console.grid(["regressor", *scores.factors], errors),
        "R2 by partition": console.grid(["partition", *scores.factors], r2),
        "partition score": scores.partition_score,
        "rotation, circular": scores.rotation,
        "others": scores.others,
        "KL by dimension": " ".join(f"{value:.2f}" for value in scores.kl),
        "pictures": "\n".join(map(str, pictures)),
    }
    console.show(scores.to_dict(), rows, as_json=as_json)
