"""What is added to the reconstruction, and what the reconstruction is: dataclasses of their constants."""

from gated_vae.models.objectives.base import Encoded, Objective, Posterior, Terms, gaussian_kl
from gated_vae.models.objectives.correlation import TCVAE, Discriminator, FactorVAE, total_correlation
from gated_vae.models.objectives.dip import DIPVAE1, DIPVAE2, dip_covariance, dip_penalty, mean_covariance
from gated_vae.models.objectives.info import InfoVAE, mmd
from gated_vae.models.objectives.likelihoods import (
    Bernoulli,
    Gaussian,
    Likelihood,
    bernoulli_loss,
    gaussian_loss,
    learnt_log_scale,
)
from gated_vae.models.objectives.vae import VAE, AnnealedVAE, BetaVAE

__all__ = [
    "DIPVAE1",
    "DIPVAE2",
    "TCVAE",
    "VAE",
    "AnnealedVAE",
    "Bernoulli",
    "BetaVAE",
    "Discriminator",
    "Encoded",
    "FactorVAE",
    "Gaussian",
    "InfoVAE",
    "Likelihood",
    "Objective",
    "Posterior",
    "Terms",
    "bernoulli_loss",
    "dip_covariance",
    "dip_penalty",
    "gaussian_kl",
    "gaussian_loss",
    "learnt_log_scale",
    "mean_covariance",
    "mmd",
    "total_correlation",
]
