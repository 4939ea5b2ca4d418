"""Averaged posteriors: what the two images of a pair share is read from both. GVAE, ML-VAE and their adaptive forms.

Both images are encoded and decoded. In the dimensions that the pair shares each image's posterior is replaced by an average of
both, elsewhere it keeps its own; reconstruction and KL divergence are means over both images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from gated_vae.models.methods.base import ALL, Method, Step, StepBatch, Told, encode_groups
from gated_vae.models.objectives.base import Posterior

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE


def mean_of_both(both: Posterior) -> Posterior:
    """The mean of two means and the mean of two variances: (2, B, M) to (B, M). (Hosoya 2019.)"""
    return Posterior(both.mean.mean(0), torch.logaddexp(*both.logvar) - math.log(2.0))


def product_of_both(both: Posterior, *, double_variance: bool = False) -> Posterior:
    """The product of two Gaussians: (2, B, M) to (B, M).

    Its precision is the sum of theirs, its mean theirs weighed by precision. (Bouchacourt, Tomioka, Nowozin 2018.)
    """
    (first, second), (logvar, other) = both.mean, both.logvar
    mean = torch.lerp(second, first, torch.sigmoid(other - logvar))
    return Posterior(mean, (math.log(2.0) if double_variance else 0.0) - torch.logaddexp(-logvar, -other))


def divergences(both: Posterior) -> torch.Tensor:
    """KL(q(z_i|x1) || q(z_i|x2)) of every dimension, in nats: (2, B, M) to (B, M)."""
    (first, second), (logvar, other) = both.mean, both.logvar
    ratio, apart = (logvar - other).exp(), (first - second).square() * (-other).exp()
    return (ratio + apart - 1.0 + other - logvar) * 0.5  # type: ignore[no-any-return]


@dataclass(frozen=True)
class GVAE(Method):
    """In the dimensions of the partition that a pair shares both images have `mean_of_both` (Hosoya 2019)."""

    needs_kl: ClassVar[bool] = True

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """Both images of each pair."""
        return 2.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:
        """Both images are decoded, too."""
        return super().prepare(batch.both(), turn)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode both images, average what they share, and draw for each of them apart."""
        both = encode_groups(vae, batch.input)
        average, alike = self.average(both), self.alike(both, batch)
        mean = torch.where(alike, average.mean, both.mean)
        posterior = Posterior(mean, torch.where(alike, average.logvar, both.logvar))
        codes = posterior.sample(noise[:2])
        return Step(posterior, codes, codes)

    def average(self, both: Posterior) -> Posterior:
        """What two posteriors (2, B, M) are replaced by where they are alike, (B, M)."""
        return mean_of_both(both)

    def alike(self, both: Posterior, batch: StepBatch) -> torch.Tensor:  # noqa: ARG002
        """Which dimensions the images of each pair share, bool (M,) or (B, M)."""
        if batch.through is None:
            raise ValueError("Which partition the pairs share has to be known.")
        return batch.through


@dataclass(frozen=True)
class MLVAE(GVAE):
    """As `GVAE` with `product_of_both` (Bouchacourt, Tomioka, Nowozin 2018).

    Attributes
    ----------
    double_variance:
        Twice the product's variance, which is what the release of disentanglement_lib computes.
    """

    double_variance: bool = False

    def average(self, both: Posterior) -> Posterior:
        """The product."""
        return product_of_both(both, double_variance=self.double_variance)


@dataclass(frozen=True)
class AdaGVAE(GVAE):
    """As `GVAE`, but what is shared is found for each pair (Locatello et al. 2020).

    Dimensions are shared where d_i = KL(q(z_i|x1) || q(z_i|x2)) is below half-way between the pair's least and greatest.

    Attributes
    ----------
    k:
        How many factors differ between the images of a pair, where that is known: all but the k dimensions of greatest d are
        shared. 0 where it is not.
    symmetric:
        Whether d is the sum of both ways' divergences instead of the published one.
    """

    k: int = 0
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k must be 0 or more, got {self.k}.")

    @property
    def told(self) -> Told:
        """Nothing, or how many factors changed."""
        return "count" if self.k else "nothing"

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """Pairs of all partitions are treated alike."""
        return replace(batch.both(), partition=None, label=ALL)

    def alike(self, both: Posterior, batch: StepBatch) -> torch.Tensor:  # noqa: ARG002
        """Which dimensions differ least."""
        values = both.map(torch.Tensor.detach)
        apart = divergences(values)
        if self.symmetric:
            apart = apart + divergences(values.map(lambda tensor: tensor.flip(0)))
        if self.k:
            return torch.ones_like(apart, dtype=torch.bool).scatter(1, apart.topk(self.k, 1).indices, value=False)
        return apart < (apart.amin(1, keepdim=True) + apart.amax(1, keepdim=True)) / 2


@dataclass(frozen=True)
class AdaMLVAE(AdaGVAE):
    """As `AdaGVAE` with the average of `MLVAE`, whose `double_variance` it has."""

    double_variance: bool = False

    def average(self, both: Posterior) -> Posterior:
        """The product."""
        return product_of_both(both, double_variance=self.double_variance)
