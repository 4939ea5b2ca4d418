"""What commands that train show: the losses of a run, or of one run per seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gated_vae.pipelines.training.train import TrainReport
    from gated_vae.preprocessing.store import Store


def show_training(report: TrainReport, store: Store | None = None, *, as_json: bool) -> None:
    """Print what training did, and which partitions are dead, where their images are at hand."""
    from gated_vae.pipelines import console

    dead = _dead(report, store)
    terms = sorted({term for losses in report.losses.values() for term in losses})
    table = [[name, *(losses.get(term) for term in terms)] for name, losses in report.losses.items()]
    done = "nothing to do: it was finished" if report.steps_now == 0 else f"{report.steps_now:,} now"
    early = "stopped early; " if report.stopped_early else ""
    rows = {
        "run": report.out,
        "steps": f"{report.steps:,} ({early}{done})",
        "losses, nats": console.grid(["", *terms], table),
    }
    if report.valid:
        history, best, kept = (report.valid[name] for name in ("history", "best", "step"))
        lowest = "" if best == kept else f"; {history[str(best)]:.1f} at step {best:,}"
        rows["validation loss"] = f"{history[str(kept)]:.1f} at step {kept:,}, whose weights are used{lowest}"
    if dead:
        rows["dead"] = f"{', '.join(dead)}: {_remedy(dead[0])}"
    console.show({**console.plain(report), "dead": dead}, rows, as_json=as_json)


def show_seeds(reports: Sequence[TrainReport], store: Store | None, out: Path, *, as_json: bool) -> None:
    """Print the last losses of runs in folders of `out`, and the 95% interval of their mean over seeds; and what is dead."""
    import pandas as pd

    from gated_vae.pipelines import console
    from gated_vae.pipelines.experiments.tables import half_width, interval

    losses = pd.DataFrame([_last_losses(report) for report in reports])
    dead = [_dead(report, store) for report in reports]
    rows = {"runs": f"{out}/SEED"}
    if left_alone := [report.out.name for report in reports if not report.steps_now]:
        rows["nothing to do"] = f"seeds {', '.join(left_alone)} were finished"
    if any(dead):
        named = [
            f"{', '.join(names)} of {report.out.name}" for report, names in zip(reports, dead, strict=True) if names
        ]
        rows["dead"] = f"{'; '.join(named)}: {_remedy(next(filter(None, dead))[0])}"
    lines = [[it.out.name, it.steps, *losses.loc[place]] for place, it in enumerate(reports)]
    lines.append(["mean", "", *(interval(losses[name]) for name in losses)])
    told = [{**console.plain(report), "dead": names} for report, names in zip(reports, dead, strict=True)]
    spread = {name: half_width(losses[name]) if len(losses) > 1 else None for name in losses}
    result = {"runs": told, "mean": losses.mean().to_dict(), "half_width": spread}
    title = "Last losses, nats, and the 95% interval of their mean over seeds"
    console.show(result, rows, tables={title: console.grid(["seed", "steps", *losses], lines)}, as_json=as_json)


def _last_losses(report: TrainReport) -> dict[str, float]:
    losses = {f"{label} {term}": value for label, terms in report.losses.items() for term, value in terms.items()}
    if report.valid:
        losses["validation"] = report.valid["history"][str(report.valid["step"])]
    return losses


def _dead(report: TrainReport, store: Store | None) -> list[str]:
    """Partitions none of whose dimensions tells anything, where that is news."""
    from gated_vae.pipelines.evaluation.opened import dead_partitions
    from gated_vae.pipelines.training.run import open_run

    return dead_partitions(open_run(report.out), store) if store and report.steps_now else []


def _remedy(partition: str) -> str:
    from gated_vae.pipelines.evaluation.opened import DEAD

    return (
        f"no dimension tells {DEAD} nats of an image;"
        f" train longer, lower --beta, or their part of it with --kl-weights {partition}=..."
    )
