"""Training: steps over a pair loader, checkpoints, TensorBoard. Knows nothing of the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from gated_vae.models import distributed
from gated_vae.models.augment import AUGMENT_STREAM, NUMBERS, augment
from gated_vae.models.checkpoint import Checkpoint, load_state, optimiser_slots, prune, read_weights, save_checkpoint
from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch, self_reconstruction_at
from gated_vae.models.noise import draw_normal
from gated_vae.models.objectives.base import gaussian_kl
from gated_vae.models.registry import METHODS, describe
from gated_vae.models.vae import GatedVAE, draw_noise, optimiser_groups
from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.stream.loader import PairBatch, PairLoader, open_source
from gated_vae.pipelines.process import (
    choose_device,
    choose_products,
    is_gpu_failure,
    keep_freed_memory,
    stop_signals,
)
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.losses import EventLog, RunningLosses, Terms, kl_by_dimension
from gated_vae.pipelines.training.run import (
    KEPT_CHECKPOINTS,
    Run,
    check_position,
    create_run,
    open_run,
    outline_of,
    refuse_place,
    usable,
)
from gated_vae.pipelines.training.validation import History, Validation
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import atomic_file, locked
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import Store


@dataclass(frozen=True)
class TrainOptions:
    """What does not change the result: where and how to run it."""

    out: Path
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    log_every: int = 50
    checkpoint_every: int = 1000


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


class InterruptedTrainingError(GatedVAEError):
    """Training was told to stop and has saved its state."""


def train(
    config: TrainConfig, options: TrainOptions, progress: Progress = ignore, store: Store | None = None
) -> TrainReport:
    """Train a model, or go on where an earlier call stopped: to the same weights as one that was never interrupted.

    `store` is the configuration's, where it has been opened already. Progress is told after each step, with the latest losses.

    Raises
    ------
    GatedVAEError
        When the folder holds another run or is in use, the store has no such pairs, the loss is not finite, or a GPU fails.
    InterruptedTrainingError
        When SIGINT or SIGTERM came; the state is saved.
    """
    device = choose_device(options.device)
    config = replace(config, device=torch.device(device).type)

    def trainer_of(begun: Begun) -> Trainer:
        return Trainer(begun.runs[0], begun.loader, begun.validations[0], device)

    return train_runs(trainer_of, [config], [options.out], options, progress, store)[0]


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


@contextmanager
def begin(
    configs: Sequence[TrainConfig], outs: Sequence[Path], options: TrainOptions, store: Store | None = None
) -> Iterator[Begun]:
    """Hold the folders of runs of one store, new ones or such as go on; what cannot be trained is refused before it is a run."""
    first = distributed.rank() == 0  # the rank that writes
    with ExitStack() as held:
        for config, out in zip(configs, outs, strict=True):
            refuse_place(out, config)
            if first:
                held.enter_context(locked(out))
        loader = open_loader(configs[0], store)
        validations = [Validation.of(config, loader.store) for config in configs]
        steps = max(config.length(len(loader)) for config in configs)
        if options.overwrite and configs[0].initial:
            open_run(Path(configs[0].initial)).model()  # refused before anything is removed
        for config, out in zip(configs, outs, strict=True) if first else ():
            create_run(out, config, loader.store, extend=options.resume, overwrite=options.overwrite)
        distributed.everyone(0)  # so that all ranks find them
        runs = [open_run(out).using(config) for config, out in zip(configs, outs, strict=True)]
        yield Begun(runs, loader, validations, steps)


Found = tuple[dict[str, Terms], dict[str, Any]]  # the last mean losses, and what validations have found


class AnyTrainer(Protocol):
    """What trains one run or several together; `step` counts the steps that are done."""

    step: int

    def ended(self) -> bool:
        """Whether no step is left."""

    def fit(self, options: TrainOptions, progress: Progress) -> None:
        """Train to the last step."""

    def found(self) -> list[Found]:
        """Each run's."""


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
        if all(run.is_trained(begun.steps) for run in runs):
            for run in runs if first else ():  # a death may have come before that was done
                run.tidy()
            return [TrainReport.of(run) for run in runs]
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


def diverged(run: Run, step: int, label: str) -> GatedVAEError:
    """What is told where the losses of a label are no numbers any more."""
    kept = f"The checkpoint of step {latest.step} is kept. " if (latest := run.latest()) else ""
    why = f"By step {step} the loss of {label} is not finite in {run.path}."
    return GatedVAEError("Training diverged.", why, f"{kept}Lower --lr, or use --precision fp32, in another --out.")


def open_loader(config: TrainConfig, store: Store | None) -> PairLoader:
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
            remedy = f"Use --method {others}, or leave {name} out of --latent."
            raise GatedVAEError(f"{store.path} cannot be trained on by {method}.", why, remedy)


class Trainer:
    """Model, optimiser, loader and their position in one run."""

    def __init__(self, run: Run, loader: PairLoader, validation: Validation | None, device: str) -> None:
        keep_freed_memory()
        self.run, self.config, self.loader, self.device = run, run.config, loader, device
        self.ends = self.config.ends(len(loader))
        self.steps, self.method = self.ends[-1], self.config.model.method
        self._axes = len(self.config.model.image_shape)
        loader.itself = lambda step: self_reconstruction_at(self.method, step, self.ends[0])
        torch.manual_seed(self.config.seed)
        torch.backends.cudnn.deterministic = True
        choose_products(self.config.precision, device)
        self.model = GatedVAE(self.config.model, self.config.precision).to(device)
        self._kl_weights = self.model.kl_weights.clone()
        distributed.synchronise_batch_norm(self.model)
        latest = run.latest()
        if self.config.initial and latest is None:
            initial = open_run(Path(self.config.initial)).model(device).state_dict()
            self.model.load_state_dict(initial, strict=False)  # which may lack a critic, or have one
        if self.config.decoder_only:
            self.model.encoder.requires_grad_(requires_grad=False)
        trained = {name: own for name, own in self.model.named_parameters() if own.requires_grad}
        self.optimiser = torch.optim.Adam(optimiser_groups(trained), lr=self.config.lr, fused=True)
        self.step = self._saved = 0
        self._position = loader.state_dict()  # after that step
        self.losses, self.validation, self.history = RunningLosses(), validation, History()
        if latest is not None:
            self._restore(latest)
        self.stopped_early = 0 < self.config.patience <= self.history.since

    def ended(self) -> bool:
        """Whether no step is left."""
        return self.step == self.steps or self.stopped_early

    def found(self) -> list[Found]:
        """What is filed when it has ended."""
        return [(self.losses.means, self.history.told())]

    def _restore(self, checkpoint: Checkpoint) -> None:
        with usable(checkpoint):
            self.model.load_state_dict(read_weights(checkpoint, self.model))
            position = load_state(checkpoint, self.model, self.optimiser)
            check_position(checkpoint, position)
            self.loader.load_state_dict(position["loader"])
            self.losses.load_state_dict(position)
            self.history = History(**position.get("valid", {}))
            self.step = self._saved = position["step"]
            self._position = position["loader"]

    def fit(self, options: TrainOptions, progress: Progress) -> None:
        """Train to the last step, saving on the way and when told to stop."""
        self.model.train()
        if self.config.decoder_only:
            self.model.encoder.eval()  # batch normalisation keeps its statistics too
        every = self.config.checkpoint_every or options.checkpoint_every
        log = closing(EventLog(self.run.path, self.step)) if distributed.rank() == 0 else nullcontext()
        with stop_signals() as stopped, log as events:
            for batch, shares in self._batches(stopped):
                self._train_on(batch, shares)
                due = self.step == self.steps or self.step % every == 0
                if due:
                    self._validate(events)
                if self.ended() or self.step % options.log_every == 0:
                    self._log(events)
                progress(self.step, self.steps, self.losses.note() + self.history.note())
                stop = any(distributed.everyone(len(stopped)))
                if due or stop:
                    self._save()
                if stop and not self.ended():
                    raise self._interrupted()

    def _batches(self, stopped: list[int]) -> Iterator[tuple[PairBatch, Shares]]:
        """Batches until the last step; the last of an epoch is left out where it is too small for batch statistics.

        Where no more come (their source is away, or a signal came meanwhile), the state is saved first.
        """
        self.loader.stop = lambda: bool(stopped)
        try:
            while not self.ended():
                for batch in self.loader:
                    shares = Shares.of(len(batch.input))
                    if shares.whole >= 2:
                        self.step, self._position = self.step + 1, self.loader.state_dict()
                        yield batch, shares
                    if self.ended():
                        return
        except Exception:
            if self.step > self._saved:
                self._save()
            if stopped:
                raise self._interrupted() from None
            raise

    def _interrupted(self) -> InterruptedTrainingError:
        why = f"The state after {self.step} of {self.steps} steps is saved." if self.step else "It had not begun."
        remedy = "Run the same command again to go on (without --overwrite)."
        return InterruptedTrainingError("Training was interrupted.", why, remedy)

    def _train_on(self, pairs: PairBatch, shares: Shares) -> None:
        turn = (self.step - 1) // len(self.loader.partitions)
        sources = None if pairs.sources is None else pairs.sources.to(self.device)
        images = pairs.input.to(self.device), pairs.target.to(self.device)
        self._inputs = images[0]
        batch = self.method.prepare(StepBatch(*images, partition=pairs.partition, sources=sources), turn)
        if self.config.augmentations:
            shape = (NUMBERS, *batch.input.shape[: -self._axes - 1], shares.whole)
            drawn = draw_normal(shape, seed=self.config.seed, step=self.step, device=self.device, stream=AUGMENT_STREAM)
            batch = augment(batch, self.config.augmentations, drawn[..., shares.own], grouped=len(shape) > 2)
        noise = draw_noise(self.config.model, shares.whole, seed=self.config.seed, step=self.step, device=self.device)
        if self.config.rises and self.step <= self.config.rises + 1:
            self.model.step.fill_(self.step - 1)
            self.model.kl_weights.copy_(self._kl_weights * self.config.kl_share(self.step))
        loss = self.model.loss(batch, noise[:, shares.own], shares)
        self._set_learning_rate()
        loss.total.backward()  # type: ignore[no-untyped-call]
        # Not those of a critic, which sees the whole batch on every rank.
        distributed.sum_gradients(self.optimiser.param_groups[0]["params"])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.losses.add(batch.label, loss.terms)

    def _set_learning_rate(self) -> None:
        self.optimiser.param_groups[0]["lr"] = self.config.learning_rate(self.step, self.ends)

    def _validate(self, events: EventLog | None) -> None:
        """File the loss on valid pairs, as at the end of all that rises; the first rank alone computes it."""
        if self.validation is not None and distributed.rank() == 0:
            self.model.kl_weights.copy_(self._kl_weights)
            self.model.step.fill_(math.inf)
            losses = self.validation.losses(self.model)
            found = self.history.add(self.step, losses, keeps_best=self.config.keeps_best)
            if events is not None:
                events.add(self.step, found)
        if self.config.patience:
            self.stopped_early = distributed.everyone(self.history.since)[0] >= self.config.patience

    def _log(self, events: EventLog | None) -> None:
        """Tell mean losses since the last time, per label; stop where they are not finite."""
        told = self.losses.tell()
        if (label := self.losses.diverged()) is not None:
            raise diverged(self.run, self.step, label)
        if events is not None:
            scalars = {f"{term}/{label}": value for label, terms in told.items() for term, value in terms.items()}
            events.add(self.step, {**scalars, **self._kl(), "learning_rate": self.optimiser.param_groups[0]["lr"]})

    @torch.no_grad()
    def _kl(self) -> Terms:
        """KL of every latent dimension over the last batch's inputs, encoded as when training is over: no statistics change."""
        was = self.model.encoder.training
        self.model.encoder.eval()
        kl = gaussian_kl(self.model.encode(self._inputs.reshape(-1, *self.config.model.image_shape)))
        self.model.encoder.train(was)
        return kl_by_dimension(kl)

    def _save(self) -> None:
        if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in self.model.parameters()]).all()):
            raise diverged(self.run, self.step, "some weights")
        self._saved = self.step
        if distributed.rank() != 0:
            return
        told = {**self.losses.state_dict(), **self.history.told()}
        position = {"step": self.step, "loader": self._position, **told}
        checkpoint = Checkpoint.at(self.run.checkpoints, self.step)
        slots = optimiser_slots(self.model, self.optimiser)
        is_best = self.config.keeps_best and self.history.best == self.step
        save_checkpoint(checkpoint, self.model.state_dict(), slots, position, atomic_file, is_best=is_best)
        prune(self.run.checkpoints, KEPT_CHECKPOINTS)
