"""`pipe traverse`: what each latent dimension does, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath


def traverse(
    run: RunPath,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Number of the sample to start from.", show_default="a typical one")
    ] = None,
    reach: Annotated[
        float,
        typer.Option(
            min=0.1, help="How far each dimension is moved to both sides, in standard deviations of the prior."
        ),
    ] = 2.0,
    steps: Annotated[int, typer.Option(min=2, help="How many pictures a row has.")] = 9,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the picture: .png, .jpg, .pdf, .svg, or .gif, which moves.",
            show_default="RUN/figures/traversals.png",
        ),
    ] = None,
    store: MovedStore = None,
    as_json: AsJson = False,
) -> None:
    """Draw what each latent dimension does.

    One row per dimension, moved from -2 to +2 around an encoded image, partitions labelled.

    Example: pipe traverse run
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.evaluation.pictures import draw_traversals

    drawn = draw_traversals(open_run(run, store), sample=sample, reach=reach, steps=steps, out=out)
    rows = {"picture": drawn.path, "sample": drawn.sample, "activity (KL, nats)": drawn.activity}
    console.show(drawn, rows, as_json=as_json)
