"""Whether a store or a run is whole: every file is read and held against what it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gated_vae.models.checkpoint import Checkpoint, checkpoints, read_state, read_weights
from gated_vae.models.vae import GatedVAE
from gated_vae.pairing.verify import verify_partitions
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.pipelines.options import is_run
from gated_vae.pipelines.training.run import Run, check_position, open_run, usable
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import open_store
from gated_vae.preprocessing.verify import Problem, verify_store


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong."""

    path: Path  # the store or run
    holds: dict[str, Any]  # what is in it, by name, for people
    problems: list[Problem]  # everything that is wrong; empty when it is whole


def verify(path: Path) -> VerifyReport:
    """Check a store (manifest, images, tables, groups, pairs) or a run (configuration, metrics, checkpoints).

    `GatedVAEError` when it is neither, or so damaged that it cannot be opened.
    """
    if is_run(path):
        run = open_run(path)
        latest = run.latest()
        trained = f"{latest.step:,} steps" if latest else "no step is saved yet"
        return VerifyReport(path, {"store": run.config.store, "trained": trained}, list(_run_problems(run)))
    store = open_store(path)
    holds = {"samples": len(store), "rejected": store.manifest.get("rejected"), "seen": store.manifest.get("seen")}
    holds |= {name: f"{store.training * made.get('draws', 0):,} pairs" for name, made in store.partitions.items()}
    return VerifyReport(path, holds, [*verify_store(store), *verify_partitions(store)])


def _run_problems(run: Run) -> Iterator[Problem]:
    model = run.outline()
    checks: list[tuple[Path, Callable[[], object]]] = [(run.metrics, lambda: Scores.of(run))]
    for checkpoint in checkpoints(run.checkpoints):
        checks += [(checkpoint.weights, partial(_check_weights, checkpoint, model))]
        checks += [(checkpoint.state, partial(_check_state, checkpoint, model))]
    if run.config.keeps_best and run.metrics.exists():  # finished
        checks += [(run.checkpoints, run.kept)]
    for checkpoint in checkpoints(run.checkpoints, "best"):
        checks += [(checkpoint.weights, partial(_check_weights, checkpoint, model))]
    if run.store_path().is_dir():  # else a service's address, or the store has moved
        checks += [(run.store_path(), run.store)]
    for path, check in checks:
        try:
            check()
        except GatedVAEError as error:
            yield Problem.of(path, error)


def _check_weights(checkpoint: Checkpoint, model: GatedVAE) -> None:
    with usable(checkpoint):
        read_weights(checkpoint, model)


def _check_state(checkpoint: Checkpoint, model: GatedVAE) -> None:
    with usable(checkpoint):
        _, position = read_state(checkpoint, model)
        check_position(checkpoint, position)
