"""Many runs, one process per core, resumable run by run: each is trained, evaluated, and then done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import Run, open_run, refuse_another, run_of
from gated_vae.pipelines.training.trainer import TrainOptions, train
from gated_vae.preprocessing.compute import cores, processes
from gated_vae.preprocessing.store import open_store

Evaluate = Callable[[Run], dict[str, Any]]  # what to file under `evaluate`; a function that processes can be sent
Progress = Callable[[int, int, str], None]  # (runs done, runs in all, the last one's name)


@dataclass(frozen=True)
class Task:
    """One run to train and evaluate, in a folder of this name."""

    name: str
    config: TrainConfig
    evaluate: Evaluate


def ignore(done: int, total: int, note: str) -> None:
    """Show nothing."""


def do_tasks(
    tasks: Sequence[Task],
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress = ignore,
) -> None:
    """Train and evaluate every task under `out`, skipping what is finished; after a failure those begun are finished first.

    Parameters
    ----------
    workers:
        Runs at a time: one per core when None, or a single one on a GPU.
    device:
        Where to train; the scores are computed by the processor.

    Raises
    ------
    GatedVAEError
        When `out` holds a finished run of another configuration, lest one table mixes them, or a run fails; those that are
        finished stay.
    """
    left = []
    for task in tasks:
        folder = out / task.name
        if not is_finished(folder):
            left.append(task)
        else:
            run = run_of(folder, task.config, open_store(Path(task.config.store)))
            refuse_another(open_run(folder), run, "Choose another --out.")
    done = len(tasks) - len(left)
    progress(done, len(tasks), "")
    at_a_time = workers or (1 if device.startswith("cuda") else cores())
    for task in _in_processes(left, out, at_a_time, device):
        done += 1
        progress(done, len(tasks), task.name)


def is_finished(run: Path) -> bool:
    """Whether a run was trained and evaluated."""
    return (run / "config.json").exists() and {"train", "evaluate"} <= open_run(run).read_metrics().keys()


def finished_in(out: Path, names: Sequence[str]) -> list[tuple[str, int, Run]]:
    """The finished runs in folders called ``NAME-SEED``: name, seed and run, in the order of `names`, then of seeds."""
    found = []
    for folder in out.iterdir():
        name, _, seed = folder.name.rpartition("-")
        if name in names and seed.isdigit() and is_finished(folder):
            found.append((name, int(seed), open_run(folder)))
    return sorted(found, key=lambda item: (names.index(item[0]), item[1]))


def do_task(task: Task, out: Path, device: str) -> Task:
    """Train and evaluate one run with one core (called in a process of its own)."""
    import torch

    torch.set_num_threads(1)
    folder = out / task.name
    train(task.config, TrainOptions(folder, device=device, checkpoint_every=2000))
    run = open_run(folder)
    run.add_metrics("evaluate", task.evaluate(run))
    return task


def _in_processes(tasks: list[Task], out: Path, workers: int, device: str) -> Iterator[Task]:
    """Yield tasks as they finish."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with processes(min(workers, max(len(tasks), 1)), interruptible=True) as pool:
        for future in as_completed([pool.submit(do_task, task, out, device) for task in tasks]):
            yield future.result()
