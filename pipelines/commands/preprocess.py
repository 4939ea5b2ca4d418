"""`pipe preprocess`: raw sources into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import AsJson, OutStore, Overwrite

app = typer.Typer(no_args_is_help=True, help="Turn raw sources into a store of plain formats.")


@app.command("dsprites")
def dsprites(
    out: OutStore,
    npz: Annotated[Path | None, typer.Option(help="The official file; without it the images are drawn.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of all 737,280 dSprites, from the official npz or drawn to match it.

    Example: pipe preprocess dsprites --out store
    """
    from pipelines import console
    from preprocessing.dsprites import preprocess_dsprites

    with console.progress("dsprites") as update:
        report = preprocess_dsprites(out, npz=npz, overwrite=overwrite, progress=update)
    rows = {
        "store": report.store,
        "images": report.images,
        "source": report.source,
        "": "nothing to do: it was finished" if report.already_done else "written",
    }
    console.show(report, rows, as_json=as_json)
