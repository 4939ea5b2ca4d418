"""`pipe report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath, option


def report(
    run: RunPath,
    store: MovedStore = None,
    out: Annotated[Path | None, option("Folder for it and its pictures, or its own name.html.", "the run's")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file about a run, and its model card.

    report.html: configuration, scores, traversals, swaps, pairs. It opens offline and holds pictures of the store.

    MODEL_CARD.md: what was trained on what, how it was judged, limits, people in the data. Your own words below its last line stay.

    Run `pipe evaluate` first to have the scores in it.

    Example: pipe report run
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.evaluation.report import write_report

    page = out if out and out.suffix == ".html" else None
    made = write_report(open_run(run, store).writing_to(page.parent if page else out), page)
    rows: dict[str, object] = {"report": f"{made.path} ({made.size / 1e6:.1f} MB)"}
    if made.card:
        rows["model card"] = made.card
    if not made.has_scores:
        rows["scores"] = f"none yet: run `pipe evaluate {run}`, then this again"
    console.show(made, rows, as_json=as_json)
