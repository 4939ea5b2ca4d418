"""One HTML file that decodes in the browser, without a server."""

from __future__ import annotations

from pathlib import Path

from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.preprocessing.errors import GatedVAEError


def write_page(run: OpenRun, out: Path) -> Path:
    """Write the page of a run to `out`."""
    raise GatedVAEError(f"{out} cannot be written.", f"{run.files.path} has no page yet.", "Leave --html out.")
