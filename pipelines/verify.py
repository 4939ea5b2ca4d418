"""Whether a store or a run is whole: every file is read and held against what it must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gated_vae.models.checkpoint import Checkpoint, checkpoints, load_weights, read_state
from gated_vae.models.vae import GatedVAE
from gated_vae.pairing.verify import verify_partitions
from gated_vae.pipelines.training.run import Run, open_run, usable
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, manifest_path, open_store
from gated_vae.preprocessing.verify import Problem, verify_store


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong.

    Attributes
    ----------
    path:
        The store or run.
    holds:
        What it holds, by name, for people.
    problems:
        Everything that is wrong; empty when it is whole.
    """

    path: Path
    holds: dict[str, Any]
    problems: list[Problem]


def verify(path: Path) -> VerifyReport:
    """Check a store (manifest, images, tables, groups, pairs) or a run (configuration, metrics, checkpoints).

    Raises
    ------
    GatedVAEError
        When it is neither, or so damaged that it cannot be opened.
    """
    if (path / "config.json").exists() and not manifest_path(path).exists():
        run = open_run(path)
        latest = run.latest()
        trained = f"{latest.step:,} steps" if latest else "no step is saved yet"
        return VerifyReport(path, {"store": run.config.store, "trained": trained}, list(_run_problems(run)))
    store = open_store(path)
    holds = {"samples": len(store), "rejected": store.manifest.get("rejected"), "seen": store.manifest.get("seen")}
    holds |= {name: f"{store.training * made.get('draws', 0):,} pairs" for name, made in store.partitions.items()}
    return VerifyReport(path, holds, list(_store_problems(store)))


def _store_problems(store: Store) -> Iterator[Problem]:
    yield from verify_store(store)
    yield from verify_partitions(store)


def _run_problems(run: Run) -> Iterator[Problem]:
    try:
        run.read_metrics()
    except GatedVAEError as error:
        yield Problem.of(run.metrics, error)
    for checkpoint in checkpoints(run.checkpoints):
        for path, check in ((checkpoint.weights, _check_weights), (checkpoint.state, _check_state)):
            try:
                with usable(checkpoint):
                    check(run, checkpoint)
            except GatedVAEError as error:
                yield Problem.of(path, error)
    if run.store_path().is_dir():  # else a service's address, or the store has moved
        try:
            run.store()
        except GatedVAEError as error:
            yield Problem.of(run.store_path(), error)


def _check_weights(run: Run, checkpoint: Checkpoint) -> None:
    model = GatedVAE(run.config.model)
    load_weights(checkpoint, model)
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise ValueError(f"{checkpoint.weights} has weights that are not finite")


def _check_state(run: Run, checkpoint: Checkpoint) -> None:  # noqa: ARG001
    _, position = read_state(checkpoint)
    if position["step"] != checkpoint.step or not {"loader", "losses", "sums"} <= position.keys():
        raise ValueError(f"{checkpoint.state} has the position of step {position['step']}")
