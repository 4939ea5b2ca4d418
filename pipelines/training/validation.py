"""Validation while training: the loss on pairs of people who train nothing, which tells when training no longer helps.

Pairs and noise are the same at every step, so that losses can be compared. Nothing that training computes with is touched.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.vae import GatedVAE, draw_noise
from gated_vae.pairing.rules.base import Ids, Ints, partition_stream
from gated_vae.pairing.rules.uniform import draw_partners
from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.tables import read_groups
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.losses import RunningLosses, Terms
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, groups_path

MOST_IMAGES = 2048
MOST_LOSSES = 1000  # that are kept: of more, the best and the latest
UNBOUNDED = 1e30  # stands for a loss that is not finite, which JSON cannot tell
_REMAKE = "Make the pairs again: `pipe cluster` or `pipe pair` with --overwrite."


@dataclass
class History:
    """What validations have found: what checkpoints and ``metrics.json`` keep of them."""

    step: int = 0  # whose weights are used
    losses: dict[str, Terms] = field(default_factory=dict)  # its mean losses by label and term
    best: int = 0  # the step of the lowest loss
    since: int = 0  # how many validations there were after it
    history: dict[str, float] = field(default_factory=dict)  # the loss by step

    def add(self, step: int, losses: dict[str, Terms], *, keeps_best: bool) -> dict[str, float]:
        """File a validation; return it as TensorBoard shows it."""
        loss = sum(sum(terms.values()) for terms in losses.values()) / len(losses)
        is_better = not self.best or loss < self.history[str(self.best)]
        self.best, self.since = (step, 0) if is_better else (self.best, self.since + 1)
        if is_better or not keeps_best:
            self.step, self.losses = step, losses
        latest = [*self.history, str(step)][-MOST_LOSSES:]
        found = self.history | {str(step): loss}
        self.history = {at: value for at, value in found.items() if at in {*latest, str(self.best)}}
        terms = {f"valid/{term}/{label}": value for label, terms in losses.items() for term, value in terms.items()}
        return {"valid/loss": loss, **terms}

    def told(self) -> dict[str, dict[str, Any]]:
        """As an entry of a checkpoint's position and of metrics; none where there was no validation."""
        return {"valid": asdict(self)} if self.best else {}

    def note(self) -> str:
        """The last loss, for beside a progress bar."""
        return f"  valid {[*self.history.values()][-1]:.1f}" if self.best else ""


class Validation:
    """Pairs of the valid split of a store, and a model's loss on them.

    Of more than `MOST_IMAGES` samples the run's seed draws so many, and for every partition each one's partner among the valid
    samples of its group; a sample that has none is its own.
    """

    def __init__(self, config: TrainConfig, store: Store) -> None:
        self._config, self._store = config, store
        ids, method = store.split("valid"), config.model.method
        partners = []
        for name in config.model.latent:
            group, _ = read_groups(store.path, name)
            if len(group) != len(store):
                why = f"It has {len(group)} rows, the store {len(store)} samples."
                raise GatedVAEError(f"{groups_path(store.path, name)} cannot be used.", why, _REMAKE)
            partners.append(ids.start + _partners(group[ids.start : ids.stop], partition_stream(config.seed, name)))
        chosen = np.random.default_rng(config.seed).permutation(len(ids))[:MOST_IMAGES]
        self._batches: list[tuple[str | None, Ids, Ids]] = []
        for places in np.array_split(chosen, max(1, len(chosen) // config.batch_size)):  # each enough for any objective
            targets = [partner[places] for partner in partners]
            if method.batches == "turns":
                self._batches += [
                    (name, ids.start + places, own) for name, own in zip(config.model.latent, targets, strict=True)
                ]
            else:
                self._batches.append((None, ids.start + places, np.stack(targets)))

    @classmethod
    def of(cls, config: TrainConfig, store: Store) -> Validation | None:
        """The validation of a run; None where there are no valid images.

        `GatedVAEError` when there are none although the best weights are to be kept.
        """
        if not is_address(config.store) and len(store.split("valid")) > 1:
            return cls(config, store)
        if config.keeps_best:
            why = f"{store.path} has no valid split of two images or more."
            remedy = "Leave --keep out, or preprocess with --split train=.8,valid=.1,test=.1."
            if is_address(config.store):
                why = "A service sends training pairs alone."
                remedy = "Leave --keep out, or train from the store's folder."
            raise GatedVAEError("There is no validation loss to know the best weights by.", why, remedy)
        return None

    @torch.no_grad()
    def losses(self, model: GatedVAE) -> dict[str, Terms]:
        """The mean loss of the run's method by label and term, in nats per image, with statistics of training (`eval`).

        It asks nothing of other ranks, and leaves the model as it was.
        """
        config, device = self._config, model.kl_weights.device
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        found = RunningLosses()
        for number, (partition, ids, partners) in enumerate(self._batches):
            images = [torch.from_numpy(self._store.images.take(own, axis=0)).to(device) for own in (ids, partners)]
            batch = config.model.method.prepare(StepBatch(images[0], images[1], partition), 0)
            rows, step = len(ids), -number  # of training it is none
            noise = draw_noise(config.model, rows, seed=config.seed, step=step, device=device)
            terms = model(model.opened(batch), noise, Shares((rows,)))
            found.add(batch.label, {name: term * rows for name, term in terms.items()}, rows)
        for module, mode in modes:
            module.training = mode
        return {
            label: {term: value if math.isfinite(value) else UNBOUNDED for term, value in terms.items()}
            for label, terms in found.tell().items()
        }


def _partners(group: Ints, seed: int) -> Ids:
    """For each sample (V,) another of its group, each as likely, or itself where there is none."""
    _, place, sizes = np.unique(group, return_inverse=True, return_counts=True)
    paired = np.flatnonzero((group >= 0) & (sizes[place] > 1))  # below 0 it is in none
    partners = np.arange(len(group))
    partners[paired] = paired[draw_partners(group[paired], seed=seed)]
    return partners
