"""`pipe reproduce`: published experiments, at a stated scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gated_vae.pipelines.experiments import EXPERIMENTS
from gated_vae.pipelines.options import AsJson, Device, Truth, option


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="|".join(EXPERIMENTS), help="Experiment whose runs to train and score.", show_default=False
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Argument(
            help="For faces the store with its pairs, for rivals that or a factor grid, for table1 dSprites. "
            "Without it table1 and rivals draw sprites in --out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option("Folder for runs and results; those that are finished there are not made again.", "out/NAME"),
    ] = None,
    only: Annotated[
        str,
        option(
            "Only these runs of the experiment; * stands for any letters.", "the usual ones", metavar="RUN[,RUN...]"
        ),
    ] = "",
    seeds: Annotated[
        int | None,
        option("How many seeds to train every run with; intervals need two.", "the experiment's", min=1, max=1000),
    ] = None,
    steps: Annotated[
        int | None, option("Length of every run in steps; few give a quick look.", "the experiment's", min=1)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the experiment, such as lr or precision; once for each.",
            show_default=False,
        ),
    ] = None,
    truth: Truth = None,
    beside: Annotated[
        list[Path] | None,
        option("Put results of other folders or machines, .parquet, into the same tables; once for each.", False),
    ] = None,
    workers: Annotated[
        int | None, option("How many runs to train at a time; fewer to spare memory.", "one per core", min=1)
    ] = None,
    stack: Annotated[
        int,
        option(
            "Train so many runs of one shape and method at once, which a GPU does in little more time than one.", min=1
        ),
    ] = 1,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and score the runs of an experiment; stopped, it goes on run by run.

    table1: the paper's objectives on dSprites, without a gate and with it. faces: methods on clustered faces.
    curves: simulated faces, around a base point with one thing varied at a time. rivals: methods of others and ours on the same
    pairs, WORLD-METHOD-OBJECTIVE, equally many images encoded.

    Writes OUT/NAME.parquet, one row per run and score, and OUT/NAME.md, tables.

    Example: pipe reproduce table1 --only "beta-*" --seeds 1 --steps 500 --set lr=1e-4 --set schedule=constant
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.experiments import runner
    from gated_vae.pipelines.process import choose_device, choose_precision
    from gated_vae.pipelines.training.run import recorded

    if name not in EXPERIMENTS:
        raise typer.BadParameter(f"There is no {name!r}; choose from {', '.join(EXPERIMENTS)}.")
    device, folder = choose_device(device), out or Path("out") / name
    before = next(filter(None, map(recorded, sorted(folder.glob("*-*/")))), None)
    given: dict[str, Any] = {"out": folder, "store": store, "truth": truth, "seeds": seeds, "steps": steps}
    given["precision"] = choose_precision("auto", device, before.precision if before else None)
    experiment = runner.make_experiment(name, given, settings or [])
    names = experiment.chosen(only)
    with console.progress(name, "runs") as update:
        results = runner.reproduce(
            experiment, names, beside=beside or [], workers=workers, stacked=stack, device=device, progress=update
        )
    headline = experiment.headline(results)
    rows = {"results": folder / f"{name}.parquet", "report": folder / f"{name}.md"}
    console.show(
        results.to_dict("records"),
        rows,
        tables={headline.title: console.grid(["", *headline.columns], headline.lines())},
        as_json=as_json,
    )
