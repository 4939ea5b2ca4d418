"""Objectives that charge the total correlation KL(q(z) || product of q(z_d)) apart: beta-TCVAE and FactorVAE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from gated_vae.models.objectives.base import Encoded, Posterior, Terms, check_batch, check_weights

UNITS = (1000,) * 6  # of the discriminator


def total_correlation(posterior: Posterior, codes: torch.Tensor) -> torch.Tensor:
    """The total correlation in nats, by minibatch-weighted sampling from codes (B, M) of their own posteriors.

    The mean over i of ``log(1/B sum_j q(z_i|x_j)) - sum_d log(1/B sum_j q(z_id|x_j))`` (Chen et al. 2018, where
    1/B is 1/(N B) for a data set of N: that adds (M - 1) log N to the value and nothing to its gradient, and is left out, so that
    the value is that of the batch as a mixture).
    """
    mean, logvar = posterior.mean, posterior.logvar
    squared = (codes[:, None] - mean).square() * (-logvar).exp()
    density = -0.5 * (squared + logvar + math.log(2.0 * math.pi))  # of i under j: (B, B, M)
    joint, each = density.sum(2).logsumexp(1), density.logsumexp(1).sum(1)
    return (joint - each).mean() + (codes.shape[1] - 1) * math.log(len(codes))


@dataclass(frozen=True)
class TCVAE:
    """``KL + (beta - 1) TC``: the total correlation in the KL divergence weighs beta, all else 1 (Chen et al. 2018, beta-TCVAE).

    At beta 1 it is a VAE. 6 lies in the middle of what Locatello et al. 2019 compare (1, 2, 4, 6, 8, 10).
    """

    beta: float = 6.0

    def __post_init__(self) -> None:
        check_weights(self, self.beta)

    def terms(self, encoded: Encoded) -> Terms:
        """The divergence, and what is charged beyond it."""
        check_batch(self, encoded.codes)
        return {"kl": encoded.kl(), "tc": (self.beta - 1.0) * total_correlation(encoded.posterior, encoded.codes)}


class Discriminator(nn.Module):
    """Tells codes (B, M) from codes whose dimensions were permuted: logits (B, 2); leaky ReLU units (Kim, Mnih 2018)."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        sizes = [latent_size, *UNITS, 2]
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))

    def forward(self, codes: torch.Tensor, *, frozen: bool = False) -> torch.Tensor:
        """The logits of real and permuted; `frozen` leaves its own weights out of the gradient."""
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            weight, bias = (value.detach() if frozen else value for value in (layer.weight, layer.bias))
            codes = F.linear(F.leaky_relu(codes, 0.2) if place else codes, weight, bias)
        return codes


@dataclass(frozen=True)
class FactorVAE:
    """``beta * KL + gamma TC``, TC the mean log odds by which a discriminator takes codes for real ones (Kim, Mnih 2018).

    The discriminator learns in the same step, from the codes and from the same ones with every dimension permuted over the
    batch by itself (as in disentanglement_lib; the paper permutes a second batch); its term, `critic`, moves nothing else, and
    `tc` does not move it. The order of the prior's sample decides the permutations. Locatello et al. 2019
    compare gammas of 10 to 100.
    """

    beta: float = 1.0
    gamma: float = 30.0

    def __post_init__(self) -> None:
        check_weights(self, self.beta, self.gamma)

    def critic(self, latent_size: int) -> nn.Module:
        """The discriminator."""
        return Discriminator(latent_size)

    def terms(self, encoded: Encoded) -> Terms:
        """The divergence, the total correlation, and the cross-entropy that the discriminator learns from."""
        check_batch(self, encoded.codes)
        critic = encoded.critic
        assert critic is not None
        odds = critic(encoded.codes, frozen=True)
        codes = encoded.codes.detach()
        real, permuted = (critic(given).log_softmax(1) for given in (codes, codes.gather(0, encoded.prior.argsort(0))))
        return {
            "kl": self.beta * encoded.kl(),
            "tc": self.gamma * (odds[:, 0] - odds[:, 1]).mean(),
            "critic": -0.5 * (real[:, 0].mean() + permuted[:, 1].mean()),
        }
