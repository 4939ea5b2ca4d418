"""What an objective is: what it is told of a step, and the terms that it adds to the reconstruction.

Every term is a sum over latent dimensions and a mean over the batch, in nats, as in the papers they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Posterior:
    """q(z|x), a diagonal Gaussian: `mean` and `logvar`, float32 (B, M)."""

    mean: torch.Tensor
    logvar: torch.Tensor

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        """Reparameterise: mean + std * noise, with `noise` (B, M) drawn from a standard normal."""
        return self.mean + noise * (0.5 * self.logvar).exp()

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Posterior:
        """Apply a function to both tensors."""
        return Posterior(function(self.mean), function(self.logvar))


@dataclass(frozen=True)
class Encoded:
    """What an objective is told of a step.

    Attributes
    ----------
    posterior, codes:
        q(z|x) of the batch and one sample of it, (B, M).
    prior:
        A sample of the standard normal, (B, M).
    weights:
        What each dimension's KL divergence is multiplied by, (M,).
    step:
        How many steps were done before this one, a float scalar; infinite where training is over.
    critic:
        What the objective's `critic` has made, if it has one.
    """

    posterior: Posterior
    codes: torch.Tensor
    prior: torch.Tensor
    weights: torch.Tensor
    step: torch.Tensor
    critic: nn.Module | None = None

    def kl(self) -> torch.Tensor:
        """The KL divergence over all dimensions, each weighed."""
        return (self.weights * gaussian_kl(self.posterior)).sum()


class Objective(Protocol):
    """What is added to the reconstruction: a frozen dataclass of its own constants.

    One that has ``critic(latent_size)`` gets a network of its own, which is trained beside the model. ``steps``, if it is one
    of the constants, is how long something in it rises.
    """

    def terms(self, encoded: Encoded) -> Terms:
        """The weighted terms by name, each a scalar in nats per image.

        Raises
        ------
        ValueError
            When the objective compares samples of the batch and the batch has only one.
        """


def gaussian_kl(posterior: Posterior) -> torch.Tensor:
    """KL(q(z|x) || N(0, 1)) of every dimension, mean over the batch: (M,), in nats."""
    mean, logvar = posterior.mean, posterior.logvar
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean(0)


def check_batch(objective: Objective, codes: torch.Tensor) -> None:
    """Raise ValueError for a batch of one, where samples of a batch are compared."""
    if len(codes) < 2:
        raise ValueError(f"{objective} compares samples of a batch: it needs a batch size of 2 or more.")


def check_weights(objective: Objective, *weights: float) -> None:
    """Raise ValueError for constants that are infinite, negative or no numbers: what they charge would be rewarded."""
    if not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"The constants of an objective must be 0 or more, got {objective}.")
