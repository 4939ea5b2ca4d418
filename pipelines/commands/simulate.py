"""`pipe simulate`: data that anybody may have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, Overwrite, Seed, Workers, option

app = typer.Typer(no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Make data that anybody may have."""


@app.command("faces")
def faces(
    out: Annotated[Path, option("Folder to write the faces to.", False)],
    n: Annotated[int, typer.Option("--n", min=1, help="How many images to draw.")] = 10_000,
    seed: Seed = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw faces with known pose and expression, and write what OpenFace's FaceLandmarkImg would write for them.

    Example: pipe simulate faces --out faces --n 2000
    """
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.simulate.faces import simulate_faces
    from gated_vae.preprocessing.simulate.options import FaceSimulation

    options = FaceSimulation(n=n, seed=seed)
    with console.progress("simulate") as update:
        report = simulate_faces(options, out, workers=workers, overwrite=overwrite, progress=update)
    rows = {
        "folder": out,
        "images": f"{report.images:,} of {report.people:,} people",
        "faces found": f"{report.found:,}, and a second one in {report.two_faces:,}",
        "among them": f"low confidence {report.low_confidence:,}, impossible pose {report.impossible:,}",
        "": "nothing to do: it was finished" if report.already_done else "written",
    }
    console.show(report, rows, as_json=as_json)
