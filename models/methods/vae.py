"""No gate: an ordinary VAE, the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import Method, Step, StepBatch, Told

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Ungated(Method):
    """Every image is its own target, and all gradients are open."""

    told: ClassVar[Told] = "nothing"

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """The input of every pair alone."""
        return batch.ordinary()

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode."""
        posterior = vae.encode(batch.input)
        codes = posterior.sample(noise[0])
        return Step(posterior, codes, codes)
