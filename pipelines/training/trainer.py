"""Training of one model, step by step over a pair loader, by one process or by several ranks that share every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from gated_vae.models import distributed
from gated_vae.models.augment import AUGMENT_STREAM, NUMBERS, augment
from gated_vae.models.checkpoint import optimiser_slots
from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch, self_reconstruction_at
from gated_vae.models.noise import draw_normal
from gated_vae.models.objectives.base import gaussian_kl
from gated_vae.models.vae import GatedVAE, draw_noise, optimiser_groups
from gated_vae.pairing.stream.loader import PairBatch, PairLoader
from gated_vae.pipelines.process import InterruptedTrainingError, set_up, stop_signals
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.journal import Found, Journal, Terms, kl_by_dimension
from gated_vae.pipelines.training.run import Run, load_checkpoint, open_run
from gated_vae.pipelines.training.validation import Validation
from gated_vae.preprocessing.progress import Progress


class Trainer:
    """Model, optimiser, loader and their position in one run."""

    def __init__(self, run: Run, loader: PairLoader, validation: Validation | None, device: str) -> None:
        set_up(run.config.precision, device)
        self.run, self.config, self.loader, self.device = run, run.config, loader, device
        self.ends = self.config.ends(len(loader))
        self.steps, self.method = self.ends[-1], self.config.model.method
        self._axes = len(self.config.model.image_shape)
        loader.itself = lambda step: self_reconstruction_at(self.method, step, self.ends[0])
        torch.manual_seed(self.config.seed)
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
        self.journal, self.validation = Journal(run), validation
        self.step = self._saved = 0
        if latest is not None:
            self.journal.restore(load_checkpoint(latest, self.model, self.optimiser))
            loader.load_state_dict(self.journal.loader)
            self.step = self._saved = latest.step

    def ended(self) -> bool:
        """Whether no step is left."""
        return self.step == self.steps or self.journal.stopped_early

    def found(self) -> list[Found]:
        """What is filed when it has ended."""
        return [self.journal.found()]

    def fit(self, options: TrainOptions, progress: Progress) -> None:
        """Train to the last step, saving on the way and when told to stop."""
        self.model.train()
        if self.config.decoder_only:
            self.model.encoder.eval()  # batch normalisation keeps its statistics too
        every = self.config.checkpoint_every or options.checkpoint_every
        with stop_signals() as stopped, self.journal.open(self.step):
            for batch, shares in self._batches(stopped):
                self._train_on(batch, shares)
                due = self.step == self.steps or self.step % every == 0
                if due:
                    self._validate()
                if self.ended() or self.step % options.log_every == 0:
                    self._log()
                progress(self.step, self.steps, self.journal.note())
                stop = any(distributed.everyone(len(stopped)))
                if due or stop:
                    self._save()
                if stop and not self.ended():
                    raise InterruptedTrainingError.at(self.step, self.steps)

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
                        self.step, self.journal.loader = self.step + 1, self.loader.state_dict()
                        yield batch, shares
                    if self.ended():
                        return
        except Exception:
            if self.step > self._saved:
                self._save()
            if stopped:
                raise InterruptedTrainingError.at(self.step, self.steps) from None
            raise

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
        self.journal.losses.add(batch.label, loss.terms)

    def _set_learning_rate(self) -> None:
        self.optimiser.param_groups[0]["lr"] = self.config.learning_rate(self.step, self.ends)

    def _validate(self) -> None:
        """File the loss on valid pairs, as at the end of all that rises; the first rank alone computes it."""
        if self.validation is not None and distributed.rank() == 0:
            self.model.kl_weights.copy_(self._kl_weights)
            self.model.step.fill_(math.inf)
            self.journal.validated(self.step, self.validation.losses(self.model))
        if self.config.patience:  # the other ranks stop with the first
            history = self.journal.history
            history.since = distributed.everyone(history.since)[0]

    def _log(self) -> None:
        self.journal.log(self.step, {**self._kl(), "learning_rate": self.optimiser.param_groups[0]["lr"]})

    @torch.no_grad()
    def _kl(self) -> Terms:
        """KL of every latent dimension over the last batch's inputs, encoded as when training is over: no statistics change."""
        was = self.model.encoder.training
        self.model.encoder.eval()
        kl = gaussian_kl(self.model.encode(self._inputs.reshape(-1, *self.config.model.image_shape)))
        self.model.encoder.train(was)
        return kl_by_dimension(kl)

    def _save(self) -> None:
        self.journal.save(self.step, self.model.state_dict(), optimiser_slots(self.model, self.optimiser))
        self._saved = self.step
        if distributed.rank() == 0:
            self.run.prune()
