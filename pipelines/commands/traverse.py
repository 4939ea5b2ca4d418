"""`pipe traverse`: what each latent dimension does, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath


def traverse(
    run: RunPath,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Sample to start from.", show_default="a typical one")
    ] = None,
    reach: Annotated[
        float, typer.Option(min=0.1, help="A dimension goes from minus this to this, in prior std.")
    ] = 2.0,
    steps: Annotated[int, typer.Option(min=2, help="Pictures in a row.")] = 9,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write it: .png, .jpg, .pdf, .svg, or .gif, which moves.",
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
    activity = ", ".join(f"{name} {nats:.1f}" for name, nats in drawn.activity.items())
    rows = {"picture": drawn.path, "around": f"image {drawn.sample} of the store", "KL, nats": activity}
    console.show(drawn, rows, as_json=as_json)
