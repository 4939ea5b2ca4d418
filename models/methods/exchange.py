"""The exchange gate: what a pair does not share, the decoder is told by the target itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gated_vae.models.methods.base import Method, Step, StepBatch, gate

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


@dataclass(frozen=True)
class Exchange(Method):
    """Decode the code of a pair's input in one partition beside the codes of its target in all others.

    What the pair does not share is known to the decoder from the target, what it shares must come from the input. (Kin to the
    mixing autoencoders of Szabo et al. 2017 and to ML-VAE, Bouchacourt et al. 2018.)

    Attributes
    ----------
    open_every:
        Above 0, every so-many-th round over the partitions is an ordinary one: target = input, no gate.
    """

    open_every: int = 0

    def __post_init__(self) -> None:
        if self.open_every < 0 or self.open_every == 1:
            raise ValueError(f"open_every {self.open_every} leaves no gated step: give 2 or more, or 0 for none.")

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """Both images of each pair, in ordinary rounds one."""
        return 2.0 - 1.0 / self.open_every if self.open_every else 2.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:
        """A step of its partition, or an ordinary one."""
        if self.open_every and (turn + 1) % self.open_every == 0:
            return batch.ordinary()
        return super().prepare(batch, turn)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode both images; the target's codes are values without gradients."""
        gated = vae.encode(batch.input).map(lambda tensor: gate(tensor, batch.through))
        codes = gated.sample(noise[0])
        if batch.through is None:
            return Step(gated, codes, codes)
        with torch.no_grad():
            context = vae.encode(batch.target).sample(noise[1])
        return Step(gated, codes, torch.where(batch.through, codes, context))
