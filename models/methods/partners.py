"""Partners: every partition's code comes from an image of its own that shares this partition's factors with the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import ALL, BatchKind, Method, Step, StepBatch, compose, encode_groups

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Partners(Method):
    """Encode the target's partner in every partition, and decode their partitions together.

    Where a partner shares with the target one partition's factors and nothing else, a code can only hold what it is meant to,
    whatever the gradients do; so none is stopped, every partition learns in every step, and the decoder is told all that the
    partitions stand for. (Kin to the swapping of attributes between images in GZS-Net, Ge et al. 2021.)

    Attributes
    ----------
    self_reconstruction:
        Probability that a partition's code comes from the target itself at the first step; it falls to 0 half-way through.
    """

    batches: ClassVar[BatchKind] = "together"
    self_reconstruction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_reconstruction <= 1:
            raise ValueError(f"self_reconstruction is a probability, 0 .. 1, not {self.self_reconstruction}.")

    def encoded(self, partitions: int) -> float:
        """A partner in each partition."""
        return float(partitions)

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """Pairs read the other way round: what is encoded are the partners."""
        return replace(batch, input=batch.target, target=batch.input, partition=None, label=ALL)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode all partners at once, and take from each its partition."""
        posterior = encode_groups(vae, batch.input).map(lambda tensor: compose(tensor, vae.partitions.values()))
        codes = posterior.sample(noise[0])
        return Step(posterior, codes, codes)
