"""Composed targets: the images of one batch give their factors to each other's targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import ALL, BatchKind, Step, StepBatch, compose
from gated_vae.models.methods.partners import Partners

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Composed(Partners):
    """As `Partners`, but a step encodes one image for each that is decoded: the targets are composed of the batch's factors.

    It needs every combination of the factors, as dSprites has. `self_reconstruction` is how probable it is that a partition's
    factors stay where they are.
    """

    batches: ClassVar[BatchKind] = "composed"

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """Every image of the batch gives its factors."""
        return 1.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """All partitions learn in every step."""
        return replace(batch, partition=None, label=ALL)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode the images, and deal their partitions out to the targets."""
        dealt = vae.encode(batch.input).map(lambda tensor: tensor[batch.sources])
        posterior = dealt.map(lambda tensor: compose(tensor, vae.partitions.values()))
        codes = posterior.sample(noise[0])
        return Step(posterior, codes, codes)
