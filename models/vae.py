"""The gated variational autoencoder: configuration, model and its one loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from gated_vae.models.distributed import Shares, sum_over_ranks
from gated_vae.models.methods.base import Method, StepBatch, is_size, partition_masks, partition_slices, refuse_unfit
from gated_vae.models.methods.gate import Gate
from gated_vae.models.noise import draw_normal
from gated_vae.models.objectives.base import Encoded, Objective, Posterior, Terms
from gated_vae.models.objectives.likelihoods import Bernoulli, Likelihood, learnt_log_scale
from gated_vae.models.objectives.vae import VAE
from gated_vae.models.registry import LIKELIHOODS, METHODS, NETWORKS, OBJECTIVES, PRECISIONS, Registry, describe, parse

MOST_PARAMETERS = 2**30
_CHOICES: dict[str, Registry[Any]] = {"method": METHODS, "objective": OBJECTIVES, "likelihood": LIKELIHOODS}


@dataclass(frozen=True)
class GatedVAEConfig:
    """Everything that decides a model, saved beside its weights.

    Attributes
    ----------
    latent:
        Partition name -> number of latent dimensions, in order.
    image_shape:
        (H, W) in pixels, or (H, W, 3) in colour.
    network:
        ``fc`` (the paper's for sprites) or ``conv`` (faces).
    hidden:
        Sizes of its hidden layers (``conv``: channels, then the size of the fully connected layer); left empty, the network's
        own take their place, so that a run records them.
    method:
        What a training step does with pairs, one of METHODS.
    objective:
        What is added to the reconstruction, one of OBJECTIVES.
    likelihood:
        How a pixel's distance from the decoder's mean counts, one of LIKELIHOODS.
    kl_weights:
        Partition name -> what its dimensions' KL divergence is multiplied by, on top of the objective's weight; 1 if not named.
    """

    latent: Mapping[str, int]
    image_shape: tuple[int, ...] = (64, 64)
    network: str = "conv"
    hidden: tuple[int, ...] = ()
    method: Method = field(default_factory=Gate)
    objective: Objective = field(default_factory=VAE)
    likelihood: Likelihood = field(default_factory=Bernoulli)
    kl_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        partition_slices(self.latent)
        for name, sizes in (("image_shape", self.image_shape), ("hidden", self.hidden)):
            if not all(map(is_size, sizes)) or self.image_shape[2:] not in ((), (3,)) or len(self.image_shape) < 2:
                raise ValueError(f"{name} {sizes} are not whole numbers from 1 to 2**20.")
        weights = self.kl_weights.values()
        if not self.kl_weights.keys() <= self.latent.keys() or not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(
                f"KL weights {dict(self.kl_weights)} are not 0 or more for some of {', '.join(self.latent)}."
            )
        network = NETWORKS[self.network]
        if not self.hidden:
            object.__setattr__(self, "hidden", network.default_hidden(self.image_shape))
        for name, size, most in (
            ("pixels", math.prod(self.image_shape), 2**26),
            ("hidden layers", len(self.hidden), 2**6),
            ("latent dimensions", self.latent_size, 2**12),
        ):
            if size > most:
                raise ValueError(f"The model has {size:,} {name}; {most:,} are the most.")
        weighed = any(self.kl_weights.get(name, 1.0) for name in self.latent)
        refuse_unfit(self.method, self.latent_size, weighed * getattr(self.objective, "beta", 1.0))

    @property
    def latent_size(self) -> int:
        """Latent dimensions M over all partitions."""
        return sum(self.latent.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; method, objective and likelihood as the texts that users type."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        choices = {name: describe(registry, values[name]) for name, registry in _CHOICES.items()}
        return {**values, **choices, "latent": dict(self.latent), "kl_weights": dict(self.kl_weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GatedVAEConfig:
        """Build from what `to_dict` gave, after a round trip through JSON."""
        tuples = {key: tuple(values[key]) for key in ("image_shape", "hidden")}
        choices = {name: parse(registry, str(values[name])) for name, registry in _CHOICES.items()}
        return cls(**{**values, **tuples, **choices})


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
        Partitions, network, method and objective.
    precision:
        ``fp32``, ``tf32`` (float32, too; see `PRECISIONS`) or ``bf16``: what encoder and decoder compute in. Parameters, posteriors
        and losses are float32.
    """

    def __init__(self, config: GatedVAEConfig, precision: str = "fp32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"The precision is {' or '.join(PRECISIONS)}, not {precision!r}.")
        self.kl_weights: torch.Tensor
        self.masks: torch.Tensor
        self.step: torch.Tensor
        self.config, self.dtype = config, getattr(torch, PRECISIONS[precision])
        self.partitions = partition_slices(config.latent)
        network = NETWORKS[config.network]
        sizes = (config.image_shape, config.latent_size, config.hidden)
        self.encoder, self.decoder = network.encoder(*sizes), network.decoder(*sizes)
        self.raw_scale = nn.Parameter(torch.zeros(())) if config.likelihood.learns else None
        weights = [config.kl_weights.get(name, 1.0) for name, size in config.latent.items() for _ in range(size)]
        self.register_buffer("kl_weights", torch.tensor(weights), persistent=False)
        self.register_buffer("masks", partition_masks(config.latent), persistent=False)
        self.register_buffer("step", torch.tensor(math.inf), persistent=False)  # training has been; trainers say
        critic = getattr(config.objective, "critic", None)  # comes last: the other weights are drawn as without it
        self.critic = critic(config.latent_size) if critic else None

    @property
    def scale(self) -> float | None:
        """The standard deviation of pixels that was learnt; None where none is."""
        return None if self.raw_scale is None else math.exp(learnt_log_scale(self.raw_scale.detach()))

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Scale uint8 images to [0, 1] in the computing dtype; floating point images are taken as they are."""
        scaled = images.to(self.dtype)
        return scaled if images.is_floating_point() else scaled.mul_(1 / 255)

    def encode(self, images: torch.Tensor) -> Posterior:
        """q(z|x) of images (B, H, W), or (B, H, W, 3) in colour, uint8 or in [0, 1]."""
        mean, logvar = self.encoder(self.pixels(images)).float().chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits of codes (B, M), in the shape of images; their sigmoid is the mean image."""
        return self.decoder(codes.to(self.dtype))  # type: ignore[no-any-return]

    def loss(self, batch: StepBatch, noise: torch.Tensor, shares: Shares | None = None) -> Loss:
        """The loss of one step of the configuration's method.

        Parameters
        ----------
        batch:
            What is encoded and decoded, as the method's `prepare` leaves it.
        noise:
            Standard normal (3, B, M): for the input's sample, the target's sample and the prior's.
        shares:
            Where these are one rank's rows of a batch: how it lies on the ranks. `total` then has this rank's part of the
            reconstruction, so that its gradients are to be summed over ranks; `terms` are those of the whole batch.

        Raises
        ------
        ValueError
            When noise, batch and model do not fit, or images are neither uint8 nor floating point in 0 .. 1.
        """
        for images in (batch.input, batch.target):
            _check_images(images, self.config.image_shape)
        terms: Terms = self(self.opened(batch), noise, shares or Shares((noise.shape[1],)))
        total = torch.stack(list(terms.values())).sum()
        detached = {name: term.detach() for name, term in terms.items()}
        return Loss(total, detached | {"reconstruction": sum_over_ranks(detached["reconstruction"])})

    def opened(self, batch: StepBatch) -> StepBatch:
        """The batch as tensors alone: its partition as the dimensions that gradients pass."""
        if batch.partition is not None and batch.partition not in self.partitions:
            raise ValueError(f"There is no partition {batch.partition!r}; there are {', '.join(self.partitions)}.")
        through = None if batch.partition is None else self.masks[[*self.partitions].index(batch.partition)]
        return replace(batch, partition=None, through=through, label="")

    def forward(
        self, batch: StepBatch, noise: torch.Tensor, shares: Shares, objective: Objective | None = None
    ) -> Terms:
        """The terms of `loss`, of a batch that is `opened`; a pure function of tensors (but for batch statistics)."""
        needed = (3, batch.target.shape[-len(self.config.image_shape) - 1], self.config.latent_size)
        if noise.shape != needed or not noise.is_floating_point():
            raise ValueError(f"The noise is {tuple(noise.shape)} {noise.dtype}; the batch needs {needed} float32.")
        step = self.config.method.step(self, batch, noise)
        regularised = map(_by_pair, (step.posterior.mean, step.posterior.logvar, step.sample))
        own = (nats[:, None] for nats in step.own.values())
        mean, logvar, sample, prior, *nats = shares.gather(*regularised, noise[2], *own)
        mean, logvar, sample = (_by_image(tensor, needed[2]) for tensor in (mean, logvar, sample))
        objective = objective or self.config.objective
        weights = self.kl_weights * step.kl_weight
        encoded = Encoded(Posterior(mean, logvar), sample, prior, weights, self.step, self.critic)
        terms = objective.terms(encoded)
        terms |= {name: values.mean() for name, values in zip(step.own, nats, strict=True)}
        logits = self.decode(step.codes.flatten(0, -2))
        target, images = self.pixels(batch.target).reshape(logits.shape), shares.whole * (len(logits) // needed[1])
        terms["reconstruction"] = self.config.likelihood.loss(logits, target, self.raw_scale, images)
        return terms


def _by_pair(tensor: torch.Tensor) -> torch.Tensor:
    """What is (B, M) as it is, what is (2, B, M) as (B, 2 M): a row of a batch lies on one rank as a whole."""
    return tensor if tensor.dim() == 2 else tensor.transpose(0, 1).flatten(1)


def _by_image(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """What `_by_pair` gave as rows of so many columns."""
    return tensor if tensor.shape[1] == size else tensor.reshape(-1, size)


def outline(config: GatedVAEConfig, precision: str = "fp32") -> GatedVAE:
    """The model on the meta device: shapes and dtypes of its tensors, which take no memory.

    Raises
    ------
    ValueError
        When there can be no such model, or it would be absurdly large.
    """
    with torch.device("meta"):
        model = GatedVAE(config, precision)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"The model has {count:,} parameters; {MOST_PARAMETERS:,} are the most.")
    return model


def _check_images(images: torch.Tensor, shape: tuple[int, ...]) -> None:
    fit = images.dtype == torch.uint8 or (images.is_floating_point() and bool(((images >= 0) & (images <= 1)).all()))
    if not fit or images.shape[-len(shape) :] != shape:
        found = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"Images are {found}; the model takes uint8, or floating point in 0 .. 1, of {shape}.")


def draw_noise(config: GatedVAEConfig, batch: int, *, seed: int, step: int, device: str | torch.device) -> torch.Tensor:
    """Standard normal noise (3, batch, M) for a step: see `draw_normal`."""
    return draw_normal((3, batch, config.latent_size), seed=seed, step=step, device=device)


def optimiser_groups(trained: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters by name as groups for Adam: the model's, then a critic's, with constants of their own (Kim, Mnih 2018)."""
    critic = [parameter for name, parameter in trained.items() if name.startswith("critic.")]
    own = [parameter for name, parameter in trained.items() if not name.startswith("critic.")]
    return [{"params": own}, *([{"params": critic, "lr": 1e-4, "betas": (0.5, 0.9)}] if critic else [])]
