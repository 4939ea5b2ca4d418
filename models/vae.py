"""The gated variational autoencoder: configuration, model and its one loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from gated_vae.models.distributed import Shares, sum_over_ranks
from gated_vae.models.gate import compose, exchange, gate, partition_masks, partition_slices
from gated_vae.models.networks import NETWORKS
from gated_vae.models.objectives import ObjectiveConfig, Posterior, bernoulli_loss, regulariser

CONTEXTS = ("input", "target", "partners", "composed")
OPEN_CONTEXTS = ("partners", "composed")  # every partition learns in every step
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class GatedVAEConfig:
    """Everything that decides a model, saved beside its weights.

    Attributes
    ----------
    latent:
        Partition name -> number of latent dimensions, in order.
    image_shape:
        (H, W) in pixels.
    network:
        ``fc`` (the paper's for sprites) or ``conv`` (faces).
    widths:
        Sizes of its hidden layers (``conv``: channels, then the width of the fully connected layer); left empty, the network's
        own take their place, so that a run records them.
    objective:
        What is added to the reconstruction.
    gate:
        Train on pairs, gradients reaching the encoder only through the partition a pair stands for. Without it, an ordinary VAE.
    gate_regulariser:
        Whether the regulariser's gradient passes the gate too, or reaches the whole latent.
    context:
        Where the other partitions' codes come from in a gated step: ``input`` (the paper), ``target`` (the exchange gate), or
        from an image of their own that shares their factors with the target, all partitions open: its partners by the tables
        (``partners``), or images of the batch, whose factors the target is composed of (``composed``).
    kl_weights:
        Partition name -> what its dimensions' KL divergence is multiplied by, on top of the objective's weight; 1 if not named.
    """

    latent: Mapping[str, int]
    image_shape: tuple[int, int] = (64, 64)
    network: str = "conv"
    widths: tuple[int, ...] = ()
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    gate: bool = True
    gate_regulariser: bool = True
    context: str = "input"
    kl_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        partition_slices(self.latent)
        if self.network not in NETWORKS:
            raise ValueError(f"There is no network {self.network!r}; choose from {', '.join(NETWORKS)}.")
        if self.context not in CONTEXTS:
            raise ValueError(f"There is no context {self.context!r}; choose from {', '.join(CONTEXTS)}.")
        if self.context != "input" and not self.gate:
            raise ValueError(f"The context {self.context!r} needs the gate.")
        if not self.kl_weights.keys() <= self.latent.keys() or any(weight < 0 for weight in self.kl_weights.values()):
            raise ValueError(
                f"KL weights {dict(self.kl_weights)} are not 0 or more for some of {', '.join(self.latent)}."
            )
        if not self.widths:
            object.__setattr__(self, "widths", NETWORKS[self.network].default_widths(self.image_shape))

    @property
    def latent_size(self) -> int:
        """Latent dimensions M over all partitions."""
        return sum(self.latent.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"latent": dict(self.latent), "kl_weights": dict(self.kl_weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GatedVAEConfig:
        """Build from what `to_dict` gave, after a round trip through JSON."""
        tuples = {key: tuple(values[key]) for key in ("image_shape", "widths")}
        return cls(**{**values, **tuples, "objective": ObjectiveConfig(**values["objective"])})


@dataclass(frozen=True)
class Loss:
    """One step's loss: `total` to be differentiated, and its terms detached, in nats per image."""

    total: torch.Tensor
    terms: dict[str, torch.Tensor]


class GatedVAE(nn.Module):
    """A VAE whose latent is cut into partitions, one of which is open to gradients in a training step.

    Parameters
    ----------
    config:
        Partitions, network, objective and gate.
    precision:
        ``fp32`` or ``bf16``: the dtype that encoder and decoder compute in. Parameters, posteriors and losses are float32.
    """

    def __init__(self, config: GatedVAEConfig, precision: str = "fp32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"The precision is {' or '.join(PRECISIONS)}, not {precision!r}.")
        self.kl_weights: torch.Tensor | None
        self.masks: torch.Tensor
        self.config, self.dtype = config, PRECISIONS[precision]
        self.partitions = partition_slices(config.latent)
        network = NETWORKS[config.network]
        sizes = (config.image_shape, config.latent_size, config.widths)
        self.encoder, self.decoder = network.encoder(*sizes), network.decoder(*sizes)
        weights = [config.kl_weights.get(name, 1.0) for name, size in config.latent.items() for _ in range(size)]
        self.register_buffer("kl_weights", torch.tensor(weights) if config.kl_weights else None, persistent=False)
        self.register_buffer("masks", partition_masks(config.latent), persistent=False)
        self._terms = self._eager_terms

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Scale uint8 images (B, H, W) to [0, 1] in the computing dtype; floating point images are taken as they are."""
        scaled = images.to(self.dtype)
        return scaled if images.is_floating_point() else scaled.mul_(1 / 255)

    def encode(self, images: torch.Tensor) -> Posterior:
        """q(z|x) of images (B, H, W), uint8 or in [0, 1]."""
        mean, logvar = self.encoder(self.pixels(images)).float().chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits (B, H, W) of codes (B, M); their sigmoid is the mean image."""
        return self.decoder(codes.to(self.dtype))  # type: ignore[no-any-return]

    def loss(
        self,
        images: torch.Tensor,
        target: torch.Tensor,
        partition: str | None,
        noise: torch.Tensor,
        shares: Shares | None = None,
        sources: torch.Tensor | None = None,
    ) -> Loss:
        """The loss of one step.

        Parameters
        ----------
        images, target:
            uint8 (B, H, W): what is encoded and what is to be reconstructed. For the context ``partners`` images (P, B, H, W):
            those that share each partition's factors with the targets, in the partitions' order.
        partition:
            The partition whose factors the pairs share; None opens all of them.
        noise:
            Standard normal (3, B, M): for the input's sample, the target's sample and the prior's.
        shares:
            Where these are one rank's rows of a batch: how it lies on the ranks. `total` then has this rank's part of the
            reconstruction, so that its gradients are to be summed over ranks; `terms` are those of the whole batch.
        sources:
            For the context ``composed``: which of the images gives each partition's code to each target, int64 (P, B).
        """
        through = None if partition is None else self.masks[[*self.partitions].index(partition)]
        terms = self._terms(images, target, through, noise, shares or Shares((len(target),)), sources)
        total = torch.stack(list(terms.values())).sum()
        detached = {name: term.detach() for name, term in terms.items()}
        return Loss(total, detached | {"reconstruction": sum_over_ranks(detached["reconstruction"])})

    def compile_loss(self) -> None:
        """Let TorchInductor compile what `loss` computes, at its first call and for each size of a batch; on CUDA as a graph.

        All partitions share one compiled graph: which of them is open is an input of it.
        """
        # Of the discrepancy's scales, which are computed in the graph instead of remembered.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        mode = "reduce-overhead" if self.masks.is_cuda else None
        self._terms = torch.compile(self._eager_terms, dynamic=False, mode=mode)

    def _eager_terms(
        self,
        images: torch.Tensor,
        target: torch.Tensor,
        through: torch.Tensor | None,
        noise: torch.Tensor,
        shares: Shares,
        sources: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The terms of `loss`, where gradients pass the latent dimensions `through`, bool (M,), alone; all of them where None."""
        posterior = self._posterior(images, sources)
        gated = posterior if through is None else posterior.map(lambda tensor: gate(tensor, through))
        codes = gated.sample(noise[0])
        regularised, sample = (
            (gated, codes) if self.config.gate_regulariser else (posterior, posterior.sample(noise[0]))
        )
        mean, logvar, sample, prior = shares.gather(regularised.mean, regularised.logvar, sample, noise[2])
        terms = regulariser(self.config.objective, Posterior(mean, logvar), sample, prior, self.kl_weights)
        if through is not None and self.config.context == "target":
            codes = exchange(codes, self._context(target, noise[1]), through)
        terms["reconstruction"] = bernoulli_loss(self.decode(codes), self.pixels(target), shares.whole)
        return terms

    def _posterior(self, images: torch.Tensor, sources: torch.Tensor | None) -> Posterior:
        """The posterior (B, M) of images (B, H, W), or that whose partitions come from different images (see `loss`)."""
        if images.dim() == 4:
            together = self.encode(images.flatten(0, 1)).map(lambda tensor: tensor.view(*images.shape[:2], -1))
        elif sources is not None:
            together = self.encode(images).map(lambda tensor: tensor[sources])
        else:
            return self.encode(images)
        return together.map(lambda tensor: compose(tensor, self.partitions.values()))

    @torch.no_grad()
    def _context(self, target: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.encode(target).sample(noise)


def draw_noise(config: GatedVAEConfig, batch: int, *, seed: int, step: int, device: str | torch.device) -> torch.Tensor:
    """Standard normal noise (3, batch, M) for a step: a pure function of (seed, step) on one kind of device."""
    generator = torch.Generator(device=device)
    generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 1) % 2**63)
    return torch.randn(3, batch, config.latent_size, generator=generator, device=device)
