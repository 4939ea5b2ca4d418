"""No gate: an ordinary VAE, the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import BatchKind, Step, StepBatch, Told

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Ungated:
    """Every image is its own target, and all gradients are open."""

    batches: ClassVar[BatchKind] = "turns"
    told: ClassVar[Told] = "nothing"

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """Every image."""
        return 1.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """The input of every pair alone."""
        return batch.ordinary()

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode."""
        posterior = vae.encode(batch.input)
        codes = posterior.sample(noise[0])
        return Step(posterior, codes, codes)
