"""Validation while training: the loss on pairs of people who train nothing, which tells when training no longer helps.

Pairs and noise are the same at every step, so that losses can be compared. Nothing that training computes with is touched.
"""

from __future__ import annotations

import math

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
from gated_vae.pipelines.training.journal import RunningLosses, Terms
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, groups_path

MOST_IMAGES = 2048
UNBOUNDED = 1e30  # stands for a loss that is not finite, which JSON cannot tell
_REMAKE = "Make the pairs again: `pipe cluster` or `pipe pair` with --overwrite."


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
