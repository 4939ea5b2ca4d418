"""The gate: every partition is used going forward, gradients flow back through one (Vowels, Camgoz, Bowden 2019); and its kin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gated_vae.models.methods.base import Method, Step, StepBatch, gate

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Gate(Method):
    """Partitions take turns; the gradient of a step reaches the encoder through the partition that its pairs stand for.

    Attributes
    ----------
    regulariser:
        Whether the regulariser's gradient passes the gate too, or reaches the whole latent. (The paper does not settle it.)
    """

    regulariser: bool = True

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode, and close what the pairs do not stand for."""
        posterior = vae.encode(batch.input)
        gated = posterior.map(lambda tensor: gate(tensor, batch.through))
        codes = gated.sample(noise[0])
        if self.regulariser:
            return Step(gated, codes, codes)
        return Step(posterior, posterior.sample(noise[0]), codes)


@dataclass(frozen=True)
class PriorGate(Method):
    """The gate, with the closed partitions' codes replaced by draws of the prior: the decoder is told nothing that does not hold.

    With the plain gate the decoder sees codes of the input in closed partitions, which say something of the input and nothing of
    the target. It learns to ignore them, in steps of all partitions alike. Here what it sees in a closed partition is noise, and
    in an open one what the pair shares.
    """

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode, close what the pairs do not stand for, and decode prior draws in its place."""
        gated = vae.encode(batch.input).map(lambda tensor: gate(tensor, batch.through))
        codes = gated.sample(noise[0])
        told = codes if batch.through is None else torch.where(batch.through, codes, noise[1])
        return Step(gated, codes, told)
