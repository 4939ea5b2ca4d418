"""`pipe explore`: a run to play with in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath, Seed


def explore(
    run: RunPath,
    html: Annotated[Path, typer.Option("--html", help="Page to write, one .html file.", show_default=False)],
    store: MovedStore = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file with latent sliders and swaps, which decodes in the browser, offline and without a server.

    It is made for decoders of up to some 10 million weights, and holds pictures of the store: 64 random ones.

    Example: pipe explore run --html run.html
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.explore.standalone import write_page

    page = write_page(open_run(run, store), html, seed=seed)
    rows: dict[str, object] = {
        "page": page.path,
        "size": f"{page.size / 1e6:.1f} MB",
        "samples": page.samples,
        "weights": f"{page.weights}; pixels within {page.error:.1g} of the run's",
    }
    if page.pictures:
        rows["holds"] = f"{page.pictures} pictures of the store: pass it on only to whom you may give those"
    console.show(page, rows, as_json=as_json)
