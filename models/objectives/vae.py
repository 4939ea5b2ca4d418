"""The KL divergence alone: VAE, beta-VAE, and the annealed VAE, which holds it at a capacity that rises."""

from __future__ import annotations

from dataclasses import dataclass

from gated_vae.models.objectives.base import Encoded, Terms, check_weights


@dataclass(frozen=True)
class VAE:
    """``beta * KL`` (Kingma, Welling 2014, with beta 1)."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self, self.beta)

    def terms(self, encoded: Encoded) -> Terms:
        """The KL divergence alone."""
        return {"kl": self.beta * encoded.kl()}


@dataclass(frozen=True)
class BetaVAE(VAE):
    """``beta * KL`` with the paper's beta (Higgins et al. 2017)."""

    beta: float = 4.0


@dataclass(frozen=True)
class AnnealedVAE:
    """``gamma * |KL - C|``, C rising evenly from 0 to `capacity` nats over so many `steps` (Burgess et al. 2018).

    KL is the batch's mean, over all dimensions, so that it is held there as a whole. gamma and steps are those of Locatello et
    al. 2019, who compare capacities of 5 to 100.
    """

    gamma: float = 1000.0
    capacity: float = 25.0
    steps: int = 100_000

    def __post_init__(self) -> None:
        check_weights(self, self.gamma, self.capacity)
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}.")

    def terms(self, encoded: Encoded) -> Terms:
        """The divergence's distance from the capacity of the step."""
        capacity = self.capacity * (encoded.step / self.steps).clamp(max=1.0)
        return {"capacity": self.gamma * (encoded.kl() - capacity).abs()}
