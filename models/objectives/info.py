"""InfoVAE: a part of the KL divergence is replaced by the distance of all codes together from the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gated_vae.models.objectives.base import Encoded, Terms, check_batch


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

    def terms(self, encoded: Encoded) -> Terms:
        """The divergence and the discrepancy."""
        check_batch(self, encoded.codes)
        discrepancy = mmd(encoded.codes, encoded.prior)
        return {"kl": (1.0 - self.alpha) * encoded.kl(), "mmd": (self.alpha + self.lambda_ - 1.0) * discrepancy}
