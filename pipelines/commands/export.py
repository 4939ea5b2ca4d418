"""`pipe export`: encoder or decoder for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, RunPath, option


def export(
    run: RunPath,
    out: Annotated[Path, option("File to write: .onnx for any ONNX runtime, .pt2 for PyTorch alone.", False)],
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Write the decoder, which makes images of codes, in place of the encoder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the encoder as ONNX or as a PyTorch program, for use without gated-vae.

    It takes uint8 images (n, H, W), or (n, H, W, 3) in colour, any number of them, and gives mean and std of the codes. Which
    dimensions each partition has is in the file's metadata.

    Example: pipe export run --out encoder.onnx
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.export import export
    from gated_vae.pipelines.evaluation.opened import open_run

    made = export(open_run(run), out, decoder=decoder)
    rows = {"file": f"{made.path}, {made.bytes:,} bytes", "takes": made.input, "gives": ", ".join(made.outputs)}
    console.show(made, rows | made.metadata, as_json=as_json)
