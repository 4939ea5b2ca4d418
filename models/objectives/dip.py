"""DIP-VAE: the covariance of the codes is held near the identity (Kumar, Sattigeri, Balakrishnan 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gated_vae.models.objectives.base import Encoded, Posterior, Terms, check_batch, check_weights


def mean_covariance(posterior: Posterior) -> torch.Tensor:
    """Covariance (M, M) of the posteriors' means over the batch, ddof 0: what DIP-VAE-I looks at."""
    centred = posterior.mean - posterior.mean.mean(0)
    return centred.T @ centred / len(centred)


def dip_covariance(posterior: Posterior) -> torch.Tensor:
    """Covariance (M, M) of z over the batch: that of the means, plus the mean variance on the diagonal.

    (DIP-VAE-II: by the law of total covariance.)
    """
    covariance = mean_covariance(posterior)
    identity = torch.eye(len(covariance), device=covariance.device)  # torch.diag does not compile
    return covariance + identity * posterior.logvar.exp().mean(0)


def dip_penalty(covariance: torch.Tensor, lambda_od: float, lambda_d: float) -> torch.Tensor:
    """``l_od * sum of squared off-diagonal entries + l_d * sum of (diagonal - 1) squared``."""
    identity = torch.eye(len(covariance), device=covariance.device)
    excess = (covariance - identity).square()
    return lambda_od * (excess * (1.0 - identity)).sum() + lambda_d * (excess * identity).sum()


@dataclass(frozen=True)
class DIPVAE2:
    """``beta * KL`` and the covariance's distance from the identity (DIP-VAE-II).

    `lambda_od` weighs what is off the diagonal, `lambda_d` what is on it.
    """

    beta: float = 1.0
    lambda_od: float = 250.0
    lambda_d: float = 250.0

    def __post_init__(self) -> None:
        check_weights(self, self.beta, self.lambda_od, self.lambda_d)

    def terms(self, encoded: Encoded) -> Terms:
        """The divergence and the penalty."""
        check_batch(self, encoded.codes)
        penalty = dip_penalty(self.covariance(encoded.posterior), self.lambda_od, self.lambda_d)
        return {"kl": self.beta * encoded.kl(), "dip": penalty}

    def covariance(self, posterior: Posterior) -> torch.Tensor:
        """What is held near the identity, (M, M)."""
        return dip_covariance(posterior)


@dataclass(frozen=True)
class DIPVAE1(DIPVAE2):
    """``beta * KL`` and the distance of the means' covariance from the identity (DIP-VAE-I), the diagonal weighed tenfold."""

    lambda_od: float = 10.0
    lambda_d: float = 100.0

    def covariance(self, posterior: Posterior) -> torch.Tensor:
        """That of the means."""
        return mean_covariance(posterior)
