"""One configuration, several seeds: a run for each, in a folder named by it, resumable run by run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gated_vae.pipelines.process import choose_device, is_a_rank, one_core_each
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.journal import DivergedError, apart
from gated_vae.pipelines.training.stack import takes_graphs
from gated_vae.pipelines.training.train import TrainReport, begin, train_on_one_core, train_stacks
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.progress import Progress, as_note, ignore
from gated_vae.preprocessing.store import Store


def train_seeds(
    config: TrainConfig, seeds: Sequence[int], options: TrainOptions, store: Store, progress: Progress = ignore
) -> list[TrainReport]:
    """Train a run with every seed, in the folder of `options.out` that is named by it; those that are trained are left alone.

    On CUDA they are one stack. Elsewhere as many as there are cores are trained at a time, each as by `train` with one
    thread, to the same bytes.

    Raises
    ------
    UsageError
        When this process is one of several ranks.
    DivergedError
        When training with some of the seeds diverges; with the others it is done.
    GatedVAEError
        When one of the folders holds another run or is in use, before any is begun; or as `train` does.
    """
    if is_a_rank():
        remedy = "Leave torchrun out: --seeds takes every core, or the GPU."
        raise UsageError("--seeds is not for torchrun.", "Its ranks share the batches of one run.", remedy)
    device = choose_device(options.device)
    stacked = takes_graphs(config, store, device)
    config = replace(config, device=torch.device(device).type, stacked=stacked)
    configs = [replace(config, seed=seed) for seed in seeds]
    outs = [options.out / str(seed) for seed in seeds]
    with begin(configs, outs, options, store) as begun:
        trained = begun.done()
        left = [run for run in begun.runs if run.path not in trained]
    progress(len(trained), len(outs))
    options = replace(options, device=device, resume=False, overwrite=False)  # all are recorded as they are to be
    diverged: dict[Path, str] = {}
    if stacked:
        with apart(diverged):
            reports = train_stacks(left, len(left), options, as_note(progress, len(trained), len(outs)))
            trained |= {report.out: report for report in reports}
    elif left:
        with one_core_each(len(left), device) as run_tasks:
            for found in run_tasks(train_on_one_core, [(run.config, replace(options, out=run.path)) for run in left]):
                if isinstance(found, DivergedError):
                    diverged |= found.where
                else:
                    trained[found.out] = found
                    progress(len(trained), len(outs), f"seed {found.out.name}")
    if diverged:
        names = ", ".join(out.name for out in outs if out in diverged)
        others = f"Leave {names} out of --seeds: the others are trained. " if len(diverged) < len(outs) else ""
        raise DivergedError(diverged, others)
    return [trained[out] for out in outs]
