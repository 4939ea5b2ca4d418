"""Likelihoods of pixels, and the objectives' regularisers: VAE, beta-VAE, InfoVAE and DIP-VAE-II; dataclasses of their constants.

Every loss is a sum over pixels or latent dimensions and a mean over the batch, in nats, as in the papers they come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F


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


def bernoulli_loss(logits: torch.Tensor, target: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """Bernoulli cross-entropy summed over pixels, mean over the batch: logits and target (B, ...) of one shape, target in [0, 1].

    `count` is the size of the batch where these are only some of its images: then this is their part of the mean.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum")
    return total / (len(logits) if count is None else count)


def gaussian_loss(
    logits: torch.Tensor, target: torch.Tensor, log_scale: torch.Tensor, count: int | None = None
) -> torch.Tensor:
    """Negative log density of ``N(sigmoid(logits), scale^2)``, its constant included, summed over pixels, mean over the batch.

    Arguments are those of `bernoulli_loss`, and the logarithm of the scale, a float32 scalar. A density can be above 1, so the loss
    can be below 0.
    """
    squared = (torch.sigmoid(logits.float()) - target.float()).square().sum()
    constant = logits.numel() * (log_scale + 0.5 * math.log(2.0 * math.pi))
    return (0.5 * squared * (-2.0 * log_scale).exp() + constant) / (len(logits) if count is None else count)


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

    @property
    def learns(self) -> bool:
        """Nothing."""
        return False

    def loss(
        self,
        logits: torch.Tensor,
        target: torch.Tensor,
        raw: torch.Tensor | None,  # noqa: ARG002
        count: int,
    ) -> torch.Tensor:
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


def gaussian_kl(posterior: Posterior) -> torch.Tensor:
    """KL(q(z|x) || N(0, 1)) of every dimension, mean over the batch: (M,), in nats."""
    mean, logvar = posterior.mean, posterior.logvar
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean(0)


def mmd(codes: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Maximum mean discrepancy between `codes` (n, M) and a sample of the prior (m, M), unbiased, squared.

    Inverse multiquadratic kernels ``C / (C + |a - b|^2)`` with C = 2 M s for s in 0.1, 0.2, 0.5, 1, 2, 5, 10, averaged. 2 M is the
    expected squared distance between two draws of the prior, so that the kernels keep their slope in any dimension, which a
    Gaussian of fixed width does not (kernel and scales: Tolstikhin et al. 2018, Wasserstein auto-encoders; unbiased estimator:
    Gretton et al. 2012, lemma 6). Unbiased means that it may come out below zero.
    """
    n, m = len(codes), len(prior)
    # Filled in on the device: copying numbers from here would wait for a GPU, and a CUDA graph cannot hold it.
    scales = torch.stack([codes.new_full((1, 1), scale) for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)])
    scales = 2.0 * codes.shape[1] * scales

    def kernel_sum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2.0 * a @ b.T).clamp_min(0.0)
        return (scales / (scales + squared)).mean(0).sum()

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


class Objective(Protocol):
    """What is added to the reconstruction: a frozen dataclass of its own constants."""

    def terms(self, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor) -> Terms:
        """The weighted terms by name, each a scalar in nats per image.

        Parameters
        ----------
        posterior, codes:
            q(z|x) of the batch and one sample of it, (B, M).
        prior:
            A sample of the standard normal, (B, M).
        weights:
            What each dimension's KL divergence is multiplied by, (M,).

        Raises
        ------
        ValueError
            When the objective compares samples of the batch and the batch has only one.
        """


@dataclass(frozen=True)
class VAE:
    """``beta * KL`` (Kingma, Welling 2014, with beta 1)."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be 0 or more, got {self.beta}.")

    def terms(
        self,
        posterior: Posterior,
        codes: torch.Tensor,  # noqa: ARG002
        prior: torch.Tensor,  # noqa: ARG002
        weights: torch.Tensor,
    ) -> Terms:
        """The KL divergence alone."""
        return {"kl": self.beta * _weighted_kl(posterior, weights)}


@dataclass(frozen=True)
class BetaVAE(VAE):
    """``beta * KL`` with the paper's beta (Higgins et al. 2017)."""

    beta: float = 4.0


@dataclass(frozen=True)
class InfoVAE:
    """``(1 - alpha) KL + (alpha + lambda - 1) MMD`` (Zhao, Song, Ermon 2019).

    The paper states lambda = 500 and no alpha; 0 keeps the whole KL divergence.
    """

    alpha: float = 0.0
    lambda_: float = 500.0

    def __post_init__(self) -> None:
        if not self.alpha <= 1:
            raise ValueError(
                f"alpha must be at most 1, got {self.alpha}: the weight of the KL divergence is 1 - alpha."
            )
        if not 1 <= self.alpha + self.lambda_ < math.inf:
            raise ValueError(
                f"alpha + lambda must be at least 1, got {self.alpha} + {self.lambda_}: "
                "the weight of the discrepancy, alpha + lambda - 1, would be negative and push q(z) away from p(z)."
            )

    def terms(self, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor) -> Terms:
        """The divergence and the discrepancy."""
        _check_batch("info", codes)
        kl = (1.0 - self.alpha) * _weighted_kl(posterior, weights)
        return {"kl": kl, "mmd": (self.alpha + self.lambda_ - 1.0) * mmd(codes, prior)}


@dataclass(frozen=True)
class DIPVAE2:
    """``beta * KL`` and the covariance's distance from the identity (Kumar, Sattigeri, Balakrishnan 2018, DIP-VAE-II).

    `lambda_od` weighs what is off the diagonal, `lambda_d` what is on it.
    """

    beta: float = 1.0
    lambda_od: float = 250.0
    lambda_d: float = 250.0

    def __post_init__(self) -> None:
        if not all(0 <= weight < math.inf for weight in (self.beta, self.lambda_od, self.lambda_d)):
            raise ValueError(f"beta, lambda_od and lambda_d must be 0 or more, got {self}.")

    def terms(
        self,
        posterior: Posterior,
        codes: torch.Tensor,
        prior: torch.Tensor,  # noqa: ARG002
        weights: torch.Tensor,
    ) -> Terms:
        """The divergence and the penalty."""
        _check_batch("dip2", codes)
        kl = self.beta * _weighted_kl(posterior, weights)
        return {"kl": kl, "dip": dip_penalty(dip_covariance(posterior), self.lambda_od, self.lambda_d)}


def _weighted_kl(posterior: Posterior, weights: torch.Tensor) -> torch.Tensor:
    """The KL divergence over all dimensions, each weighed."""
    return (weights * gaussian_kl(posterior)).sum()


def _check_batch(name: str, codes: torch.Tensor) -> None:
    if len(codes) < 2:
        raise ValueError(f"The {name} objective compares samples of a batch: it needs a batch size of 2 or more.")
