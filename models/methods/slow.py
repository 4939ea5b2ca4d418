"""SlowVAE: what changes between the two images of a pair changes sparsely (Klindt et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import ALL, Method, Step, StepBatch, Told, encode_groups

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


def laplace_cross_entropy(apart: torch.Tensor, logvar: torch.Tensor, rate: float) -> torch.Tensor:
    """Cross-entropy of N(m, s^2) relative to a Laplace density of some rate about m - d, in nats, element by element.

    ``-log(rate / 2) + rate E|e|`` for e ~ N(d, s^2), the mean of a folded normal distribution:
    ``E|e| = s sqrt(2 / pi) exp(-d^2 / 2 s^2) + d erf(d / s sqrt(2))``.

    Parameters
    ----------
    apart, logvar:
        d and log s^2, of one shape.
    """
    scaled = apart * (-0.5 * logvar).exp() * math.sqrt(0.5)
    spread = (0.5 * logvar).exp() * math.sqrt(2.0 / math.pi) * (-scaled.square()).exp()
    return rate * (spread + apart * torch.erf(scaled)) - math.log(rate / 2.0)


@dataclass(frozen=True)
class SlowVAE(Method):
    """A Laplace prior about one image's mean code for the other's: ``p(z2|z1) = prod_i rate / 2 exp(-rate |z2_i - z1_i|)``.

    The loss of a pair is ``-log p(x1|z1) - log p(x2|z2) + beta KL(q(z1|x1) || N(0, 1)) + gamma KL(q(z2|x2) || p(z2|mean of z1))``,
    the latter two averaged over both directions; told is half of it, the mean over the images. So the KL divergence of one image
    weighs against the reconstructions of two: with beta 1 of the objective as published. Any pairs do; neighbours in a sequence
    are what it is meant for.

    Attributes
    ----------
    gamma, rate:
        The weight of the transition and the rate of its prior.
    double_cross_entropy:
        The authors' release adds the cross-entropies of both directions and takes the average of the entropies from them.
    """

    told: ClassVar[Told] = "nothing"
    gamma: float = 10.0
    rate: float = 6.0
    double_cross_entropy: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.gamma < math.inf and 0 < self.rate < math.inf):
            raise ValueError(f"gamma must be 0 or more and rate above 0, got {self.gamma} and {self.rate}.")

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """Both images of each pair."""
        return 2.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """Pairs of all partitions are treated alike."""
        return replace(batch.both(), partition=None, label=ALL)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode both images and compare them."""
        both = encode_groups(vae, batch.input)
        codes = both.sample(noise[:2])
        crossed = laplace_cross_entropy(both.mean - both.mean.flip(0), both.logvar, self.rate)
        entropy = 0.5 * (both.logvar + math.log(2.0 * math.pi * math.e))
        transition = ((2.0 if self.double_cross_entropy else 1.0) * crossed - entropy).mean(0).sum(1)
        return Step(both, codes, codes, {"transition": 0.5 * self.gamma * transition}, kl_weight=0.5)
