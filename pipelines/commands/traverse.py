"""`pipe traverse`: what each latent dimension does, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath, option


def traverse(
    run: RunPath,
    sample: Annotated[int | None, option("Number of the sample to start from.", "a typical one", min=0)] = None,
    reach: Annotated[
        float, option("How far each dimension is moved to both sides, in standard deviations of the prior.", min=0.1)
    ] = 2.0,
    steps: Annotated[int, option("How many pictures a row has.", min=2)] = 9,
    out: Annotated[
        Path | None,
        option(
            "Where to write the picture: .png, .jpg, .pdf, .svg, or .gif, which moves.", "RUN/figures/traversals.png"
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
