"""Objectives as pure functions: reconstruction plus the regularisers of VAE, beta-VAE, InfoVAE and DIP-VAE-II.

Every loss is a sum over pixels or latent dimensions and a mean over the batch, in nats, as in the papers they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is added to the reconstruction.

    Attributes
    ----------
    name:
        ``vae``, ``beta``, ``info`` or ``dip2``.
    beta:
        Weight of the KL divergence (``beta``: the paper's 4; ``vae``: a plain weight, 1).
    alpha, lambda_:
        InfoVAE's: the KL divergence weighs 1 - alpha, the maximum mean discrepancy alpha + lambda - 1. The paper states
        lambda = 500 and no alpha; 0 keeps the whole KL divergence.
    lambda_od, lambda_d:
        DIP-VAE-II's weights on off-diagonal and diagonal entries of the covariance.
    """

    name: str = "vae"
    beta: float = 1.0
    alpha: float = 0.0
    lambda_: float = 500.0
    lambda_od: float = 250.0
    lambda_d: float = 250.0

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(f"There is no objective {self.name!r}; choose from {', '.join(OBJECTIVES)}.")
        if self.name == "info" and self.alpha + self.lambda_ < 1:
            raise ValueError(
                f"alpha + lambda must be at least 1, got {self.alpha} + {self.lambda_}: "
                "the weight of the discrepancy, alpha + lambda - 1, would be negative and push q(z) away from p(z)."
            )

    @property
    def kl_weight(self) -> float:
        """What the KL divergence weighs."""
        return 1.0 - self.alpha if self.name == "info" else self.beta


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


class _BernoulliLoss(torch.autograd.Function):
    """Sum of ``softplus(logits) - target * logits``; keeps its gradient, sigmoid(logits) - target, instead of temporaries."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.sigmoid(logits).sub_(target))
        linear = torch.dot(logits.flatten(), target.flatten())
        return F.softplus(logits).sum(dtype=torch.float32) - linear

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (residual,) = ctx.saved_tensors
        return residual * grads[0].to(residual.dtype), None


def bernoulli_loss(logits: torch.Tensor, target: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """Bernoulli cross-entropy summed over pixels, mean over the batch: logits and target (B, H, W), target in [0, 1].

    `count` is the size of the batch where these are only some of its images: then this is their part of the mean.
    """
    total = _BernoulliLoss.apply(logits.float(), target.float())  # type: ignore[no-untyped-call]
    return total / (len(logits) if count is None else count)  # type: ignore[no-any-return]


def gaussian_kl(posterior: Posterior) -> torch.Tensor:
    """KL(q(z|x) || N(0, 1)) of every dimension, mean over the batch: (M,), in nats."""
    mean, logvar = posterior.mean, posterior.logvar
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean(0)


@lru_cache
def _mmd_scales(latent_size: int, device: torch.device) -> torch.Tensor:
    """The kernels' C (7,); kept, as making a tensor from numbers waits for a GPU."""
    return 2.0 * latent_size * torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0], device=device)


def mmd(codes: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Maximum mean discrepancy between `codes` (n, M) and a sample of the prior (m, M), unbiased, squared.

    Inverse multiquadratic kernels ``C / (C + |a - b|^2)`` with C = 2 M s for s in 0.1, 0.2, 0.5, 1, 2, 5, 10, averaged. 2 M is the
    expected squared distance between two draws of the prior, so that the kernels keep their slope in any dimension, which a
    Gaussian of fixed width does not (kernel and scales: Tolstikhin et al. 2018, Wasserstein auto-encoders; unbiased estimator:
    Gretton et al. 2012, lemma 6). Unbiased means that it may come out below zero.
    """
    n, m = len(codes), len(prior)
    scales = _mmd_scales(codes.shape[1], codes.device)

    def kernel_sum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2.0 * a @ b.T).clamp_min(0.0)
        return (scales[:, None, None] / (scales[:, None, None] + squared)).mean(0).sum()

    within = (kernel_sum(codes, codes) - n) / (n * (n - 1)) + (kernel_sum(prior, prior) - m) / (m * (m - 1))
    return within - 2.0 * kernel_sum(codes, prior) / (n * m)


def dip_covariance(posterior: Posterior) -> torch.Tensor:
    """Covariance (M, M) of z over the batch: Cov(mean), ddof 0, plus the mean variance on the diagonal.

    (Kumar, Sattigeri, Balakrishnan 2018, DIP-VAE-II: by the law of total covariance.)
    """
    centred = posterior.mean - posterior.mean.mean(0)
    identity = torch.eye(centred.shape[1], device=centred.device)  # torch.diag does not compile
    return centred.T @ centred / len(centred) + identity * posterior.logvar.exp().mean(0)


def dip_penalty(covariance: torch.Tensor, lambda_od: float, lambda_d: float) -> torch.Tensor:
    """``l_od * sum of squared off-diagonal entries + l_d * sum of (diagonal - 1) squared``."""
    identity = torch.eye(len(covariance), device=covariance.device)
    excess = (covariance - identity).square()
    return lambda_od * (excess * (1.0 - identity)).sum() + lambda_d * (excess * identity).sum()


Terms = dict[str, torch.Tensor]
# What comes on top of the KL divergence.
Objective = Callable[[ObjectiveConfig, Posterior, torch.Tensor, torch.Tensor], Terms]


def _plain(config: ObjectiveConfig, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor) -> Terms:  # noqa: ARG001
    return {}


def _info(config: ObjectiveConfig, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor) -> Terms:  # noqa: ARG001
    return {"mmd": (config.alpha + config.lambda_ - 1.0) * mmd(codes, prior)}


def _dip2(config: ObjectiveConfig, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor) -> Terms:  # noqa: ARG001
    return {"dip": dip_penalty(dip_covariance(posterior), config.lambda_od, config.lambda_d)}


OBJECTIVES: dict[str, Objective] = {"vae": _plain, "beta": _plain, "info": _info, "dip2": _dip2}


def regulariser(
    config: ObjectiveConfig,
    posterior: Posterior,
    codes: torch.Tensor,
    prior: torch.Tensor,
    kl_weights: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The weighted terms that an objective adds to the reconstruction, by name, each a scalar.

    Parameters
    ----------
    posterior, codes:
        q(z|x) of the batch and one sample of it, (B, M).
    prior:
        A sample of the standard normal, (B, M), for the discrepancy.
    kl_weights:
        How much of the KL divergence each dimension pays, (M,); all of it when None.

    Raises
    ------
    ValueError
        When the objective compares samples of the batch and the batch has only one.
    """
    if config.name in ("info", "dip2") and len(codes) < 2:
        raise ValueError(
            f"The {config.name} objective compares samples of a batch: it needs a batch size of 2 or more."
        )
    kl = gaussian_kl(posterior)
    weighted = (kl if kl_weights is None else kl_weights * kl).sum()
    return {"kl": config.kl_weight * weighted, **OBJECTIVES[config.name](config, posterior, codes, prior)}
