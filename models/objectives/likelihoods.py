"""Likelihoods of pixels: what a decoded image costs, in nats, a sum over pixels and a mean over the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F


def bernoulli_loss(logits: torch.Tensor, target: torch.Tensor, count: int) -> torch.Tensor:
    """Bernoulli cross-entropy summed over pixels, mean over the batch: logits and target (B, ...) of one shape, target in [0, 1].

    `count` is the size of the batch; where these are only some of its images, this is their part of the mean.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum")
    return total / count


def gaussian_loss(logits: torch.Tensor, target: torch.Tensor, log_scale: torch.Tensor, count: int) -> torch.Tensor:
    """Negative log density of ``N(sigmoid(logits), scale^2)``, its constant included, summed over pixels, mean over the batch.

    Arguments are those of `bernoulli_loss`, and the logarithm of the scale, a float32 scalar. A density can be above 1, so the loss
    can be below 0.
    """
    squared = (torch.sigmoid(logits.float()) - target.float()).square().sum()
    constant = logits.numel() * (log_scale + 0.5 * math.log(2.0 * math.pi))
    return (0.5 * squared * (-2.0 * log_scale).exp() + constant) / count


def learnt_log_scale(raw: torch.Tensor) -> torch.Tensor:
    """The logarithm of a scale from the scalar that is trained: at 0 the scale is about 0.25.

    It stays above sigma-VAE's e^-6: where all pixels can be told exactly, the density has no bound. `raw` counts tenfold, since
    Adam moves a parameter by about the learning rate in a step, and the scale should settle before the networks do.
    """
    return F.softplus(10.0 * raw + math.log(0.25) + 6.0) - 6.0


class Likelihood(Protocol):
    """p(x|z) of pixels whose mean is the sigmoid of the decoder's logits: a frozen dataclass of its own constants."""

    @property
    def learns(self) -> bool:
        """Whether it has a scale that is trained with the weights."""

    def loss(self, logits: torch.Tensor, target: torch.Tensor, raw: torch.Tensor | None, count: int) -> torch.Tensor:
        """Negative log-likelihood in nats, as `bernoulli_loss`; `raw` is the trained scalar where it `learns`, else None."""


@dataclass(frozen=True)
class Bernoulli:
    """Cross-entropy, as if pixels were probabilities of white: the paper's."""

    learns: ClassVar[bool] = False

    def loss(self, logits: torch.Tensor, target: torch.Tensor, raw: torch.Tensor | None, count: int) -> torch.Tensor:  # noqa: ARG002
        """`bernoulli_loss`."""
        return bernoulli_loss(logits, target, count)


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of one `scale` (standard deviation, white is 1) for all pixels; 0 learns it with the weights.

    Learnt, it takes the place of a KL weight (Rybkin, Daniilidis, Levine 2021, sigma-VAE): see `learnt_log_scale`.
    """

    scale: float = 0.0

    def __post_init__(self) -> None:
        if self.scale and not 1e-3 <= self.scale < math.inf:
            raise ValueError(f"scale must be 0.001 or more, or 0 to learn it, got {self.scale}.")

    @property
    def learns(self) -> bool:
        """Where it is not fixed."""
        return not self.scale

    def loss(self, logits: torch.Tensor, target: torch.Tensor, raw: torch.Tensor | None, count: int) -> torch.Tensor:
        """`gaussian_loss`."""
        fixed = logits.new_full((), math.log(self.scale or 1.0), dtype=torch.float32)
        return gaussian_loss(logits, target, fixed if raw is None else learnt_log_scale(raw), count)
