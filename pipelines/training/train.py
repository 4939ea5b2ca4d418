"""Runs are begun or gone on with, trained alone or as stacks, and filed when that is done. Knows nothing of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from gated_vae.models import distributed
from gated_vae.models.registry import METHODS, describe
from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.stream.loader import PairLoader, open_source
from gated_vae.pipelines.process import choose_device, is_gpu_failure
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.folder import create_run, planned_run, refuse_place
from gated_vae.pipelines.training.journal import DivergedError, Found, apart
from gated_vae.pipelines.training.run import Run, open_run, outline_of
from gated_vae.pipelines.training.stack import StackTrainer, takes_graphs, too_large, why_not_stacked
from gated_vae.pipelines.training.trainer import Trainer
from gated_vae.pipelines.training.validation import Validation
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import Store, open_store


@dataclass(frozen=True)
class TrainReport:
    """What training did.

    Attributes
    ----------
    steps, steps_now:
        Steps in all, and how many of them now.
    losses:
        Mean losses at the end by partition and term.
    valid:
        What validations found, as `History` has it; None where there was none.
    stopped_early:
        Whether it ended since validations were no better.
    """

    out: Path
    steps: int
    steps_now: int
    losses: dict[str, dict[str, float]]
    valid: dict[str, Any] | None = None
    stopped_early: bool = False

    @classmethod
    def of(cls, run: Run, start: int | None = None) -> TrainReport:
        """Of a run that is trained, now from step `start`; None for nothing now."""
        done = run.read_metrics()["train"]
        now = 0 if start is None else done["steps"] - start
        return cls(run.path, done["steps"], now, done["losses"], done.get("valid"), run.stopped_early())


def train(
    config: TrainConfig, options: TrainOptions, progress: Progress = ignore, store: Store | None = None
) -> TrainReport:
    """Train a model, or go on where an earlier call stopped: to the same weights as one that was never interrupted.

    On CUDA it is a stack of one, whose step is one graph; else, or where it cannot be stacked, as `train_single` does.
    `store` is the configuration's, where it has been opened already. Progress is told with the latest losses.

    Raises
    ------
    GatedVAEError
        When the folder holds another run or is in use, the store has no such pairs, or a GPU fails.
    DivergedError
        When the loss or weights are not finite.
    InterruptedTrainingError
        When SIGINT or SIGTERM came; the state is saved.
    """
    device, store = choose_device(options.device), store or open_source(config.store)
    if takes_graphs(config, store, device):
        return train_stack([config], [options.out], options, progress, store)[0]
    return train_single(config, options, progress, store)


def train_single(
    config: TrainConfig, options: TrainOptions, progress: Progress = ignore, store: Store | None = None
) -> TrainReport:
    """Train a model without a stack, step by step; see `train`. Progress is told after each step."""
    device = choose_device(options.device)
    config = replace(config, device=torch.device(device).type)

    def trainer_of(begun: Begun) -> Trainer:
        return Trainer(begun.runs[0], begun.loader, begun.validations[0], device)

    return train_runs(trainer_of, [config], [options.out], options, progress, store)[0]


def train_on_one_core(config: TrainConfig, options: TrainOptions) -> TrainReport | DivergedError:
    """Train one run with one thread (called in a process of its own); raised, its divergence would stop the others."""
    torch.set_num_threads(1)
    try:
        return train(config, options)
    except DivergedError as error:
        return error


def train_stack(
    configs: Sequence[TrainConfig],
    outs: Sequence[Path],
    options: TrainOptions,
    progress: Progress = ignore,
    store: Store | None = None,
) -> list[TrainReport]:
    """Train models that differ in seed, objective and KL weights alone, or go on where an earlier call stopped.

    Parameters
    ----------
    configs, outs:
        What each model is trained by, and the folder of its run.
    options:
        For all of them; `out` is not used.
    store:
        Theirs, where it has been opened already.

    Raises
    ------
    GatedVAEError
        When they cannot be stacked, a folder holds another run or is in use, or memory does not suffice.
    DivergedError
        When the losses or weights of some are not finite; the state of the others is saved.
    InterruptedTrainingError
        When SIGINT or SIGTERM came; the state is saved.
    """
    if why := why_not_stacked(configs):
        raise GatedVAEError("These runs cannot be stacked.", why, "Train them one by one.")
    device = choose_device(options.device)
    configs = [replace(config, stacked=True, device=torch.device(device).type) for config in configs]

    def trainer_of(begun: Begun) -> StackTrainer:
        if why := why_not_stacked([run.config for run in begun.runs]):  # which know where they ended before
            raise GatedVAEError("These runs cannot go on as a stack.", why, "Train them one by one.")
        ends = begun.runs[0].config.ends(len(begun.loader))
        return StackTrainer(begun.runs, begun.loader.store, ends, device, begun.validations)

    store = store or open_store(configs[0].store)
    try:
        return train_runs(trainer_of, configs, outs, options, progress, store)
    except torch.OutOfMemoryError:
        raise too_large(configs, store, device) from None


def train_stacks(
    runs: Sequence[Run], size: int, options: TrainOptions, progress: Progress = ignore
) -> list[TrainReport]:
    """Train runs, at most `size` at a time: those that can be stacked and have come equally far; alone what fits to no other.

    Where some diverge, the others go on without them to their end, and then `DivergedError` is raised.
    """
    reports: list[TrainReport] = []
    diverged: dict[Path, str] = {}
    for group in _groups(runs, size):
        while left := [run for run in group if run.path not in diverged]:
            with apart(diverged):
                reports += _train_group(left, options, progress)
                break
    if diverged:
        raise DivergedError(diverged)
    return reports


def _train_group(runs: Sequence[Run], options: TrainOptions, progress: Progress) -> list[TrainReport]:
    configs, outs = [run.config for run in runs], [run.path for run in runs]
    if why_not_stacked(configs):
        return [train(configs[0], replace(options, out=outs[0]), progress)]
    return train_stack(configs, outs, options, progress)


def _groups(runs: Sequence[Run], size: int) -> list[list[Run]]:
    saved = {run.path: run.saved_steps() for run in runs}
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            alike = not why_not_stacked([group[0].config, run.config])
            if len(group) < size and alike and _go_on_together([saved[one.path] for one in [*group, run]]):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _go_on_together(saved: Sequence[set[int]]) -> bool:
    """Whether there is a step that all have saved; or none has saved more than one, as when a death came while they were saved."""
    return bool(set.intersection(*saved)) or max(map(len, saved)) < 2


@dataclass(frozen=True)
class Begun:
    """Runs that are trained together, their folders held, and what they are trained and validated with.

    Attributes
    ----------
    loader:
        The first one's; seeds of others differ.
    steps:
        How many are to be done in all.
    """

    runs: list[Run]
    loader: PairLoader
    validations: list[Validation | None]
    steps: int

    def done(self) -> dict[Path, TrainReport]:
        """What is told of those that are trained already, by folder."""
        done = [run for run in self.runs if run.is_trained(self.steps)]
        for run in done if distributed.rank() == 0 else ():  # a death may have come before that was done
            run.tidy()
        return {run.path: TrainReport.of(run) for run in done}


@contextmanager
def begin(
    configs: Sequence[TrainConfig], outs: Sequence[Path], options: TrainOptions, store: Store | None = None
) -> Iterator[Begun]:
    """Hold the folders of runs of one store, new ones or such as go on; all that cannot be is refused before any is begun."""
    wanted = [*zip(outs, configs, strict=True)]
    for out, config in wanted:
        refuse_place(out, config)
    loader = _open_loader(configs[0], store)
    validations = [Validation.of(config, loader.store) for config in configs]
    steps = max(config.length(len(loader)) for config in configs)
    if options.overwrite and configs[0].initial:
        open_run(Path(configs[0].initial)).model()  # it can be read, or nothing is removed
    with ExitStack() as held:
        if distributed.rank() == 0:  # which writes
            how = {"extend": options.resume, "overwrite": options.overwrite}
            for out, config in wanted:
                planned_run(out, config, loader.store, **how)  # refused before there is a folder
            for out in outs:
                held.enter_context(locked(out))
            for out, config in wanted:
                create_run(out, config, loader.store, **how)
        distributed.everyone(0)  # so that all ranks find them
        runs = [open_run(out).using(config) for out, config in wanted]
        yield Begun(runs, loader, validations, steps)


class AnyTrainer(Protocol):
    """What trains one run or several together; `step` counts the steps that are done."""

    step: int

    def ended(self) -> bool:
        """Whether no step is left."""

    def fit(self, options: TrainOptions, progress: Progress) -> None:
        """Train to the last step."""

    def found(self) -> list[Found]:
        """What is filed of each run."""


def train_runs(
    make: Callable[[Begun], AnyTrainer],
    configs: Sequence[TrainConfig],
    outs: Sequence[Path],
    options: TrainOptions,
    progress: Progress,
    store: Store | None,
) -> list[TrainReport]:
    """Begin runs or go on with them, and file that they are trained, by what `make` gives for them."""
    first = distributed.rank() == 0
    with begin(configs, outs, options, store) as begun:
        runs = begun.runs
        if len(done := begun.done()) == len(runs):
            return [*done.values()]
        with _gpu_failures(runs):
            trainer = make(begun)
            start = trainer.step
            _agree(start, options)
            if not trainer.ended():
                for run in runs if first else ():
                    run.forget_metrics()
                trainer.fit(options, progress)
        for run, found in zip(runs, trainer.found(), strict=True) if first else ():
            run.finish(trainer.step, *found)
        distributed.everyone(0)
        return [TrainReport.of(run, start) for run in runs]


@contextmanager
def _gpu_failures(runs: Sequence[Run]) -> Iterator[None]:
    """Say of a GPU that fails, or is taken away, from where training goes on."""
    try:
        yield
    except RuntimeError as error:
        if not is_gpu_failure(error):
            raise
        saved = min(checkpoint.step if (checkpoint := run.latest()) else 0 for run in runs)
        remedy = "Once it works again (`nvidia-smi` tells), the same command goes on from there; so it does with --device cpu."
        why = f"{str(error).splitlines()[0].rstrip('.')}. The state after {saved} steps is saved."
        raise GatedVAEError("The GPU has failed.", why, remedy) from error


def _agree(start: int, options: TrainOptions) -> None:
    """Refuse to go on from checkpoints that differ between ranks."""
    starts = distributed.everyone(start)
    if len(set(starts)) > 1:
        why = f"They would go on from steps {', '.join(map(str, starts))}."
        raise GatedVAEError(f"The ranks see different runs in {options.out}.", why, "Give an --out that all share.")


def _open_loader(config: TrainConfig, store: Store | None) -> PairLoader:
    """The loader that a model is trained from; refused where they do not fit, or there can be no such model."""
    outline_of(config, "The network cannot be built.", "Choose other options.")
    _refuse_untold(config, store or open_source(config.store))
    loader = PairLoader(
        config.store if store is None or is_address(config.store) else store,
        config.pairs_per_rank(distributed.world_size()),
        seed=config.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        partitions=list(config.model.latent),
        batches=config.model.method.batches,
    )
    shape = tuple(loader.store.manifest["image_shape"])
    if shape != config.model.image_shape:
        why = f"The store's images are {shape}, the model's {config.model.image_shape}."
        raise GatedVAEError("Store and model do not fit.", why, "Leave the image shape to the store.")
    return loader


def _refuse_untold(config: TrainConfig, store: Store) -> None:
    """Raise where a method has to know what pairs share, and nobody says."""
    for name in config.model.latent:
        if config.model.method.told == "shared" and store.partitions.get(name, {}).get("method") == "change":
            method = describe(METHODS, config.model.method).partition(":")[0]
            why = f"The pairs of {name} differ in some factors, nobody says which; {method} needs to know what they share."
            others = ", ".join(other for other, kind in METHODS.items() if kind().told != "shared")
            remedy = f"Use --method {others}, or name the other partitions alone: --latent NAME=SIZE,..."
            raise GatedVAEError(f"{store.path} cannot be trained on by {method}.", why, remedy)
