"""`pipe report`: a run as one HTML file."""

from __future__ import annotations

from gated_vae.pipelines.options import AsJson, MovedStore, RunPath


def report(run: RunPath, store: MovedStore = None, as_json: AsJson = False) -> None:
    """Write one HTML file about a run.

    RUN/report.html: configuration, scores, traversals, swaps, pairs. It opens offline and holds pictures of the store.

    Run `pipe evaluate` first to have the scores in it.

    Example: pipe report run
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.evaluation.report import write_report

    made = write_report(open_run(run, store))
    rows: dict[str, object] = {"report": made.path, "size": f"{made.size / 1e6:.1f} MB"}
    if not made.has_scores:
        rows["scores"] = f"none yet: run `pipe evaluate {run}`, then this again"
    console.show(made, rows, as_json=as_json)
