"""What a training method is: which batches it takes, and what of them is encoded, regularised and decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import torch

from gated_vae.models.objectives.base import Posterior

if TYPE_CHECKING:
    from gated_vae.models.vae import GatedVAE

# How a method's batches come: pairs of one partition after the other; for every input its partners of all partitions together; or
# images of a batch beside targets that are composed of their factors.
BatchKind = Literal["turns", "together", "composed"]
# What a method is told of a pair: nothing, how many factors changed, or which partition is shared.
Told = Literal["nothing", "count", "shared"]

# What losses are filed under where a step is not one partition's. No partition can have a blank in its name.
ALL, NO_GATE = "all partitions", "no gate"


@dataclass(frozen=True)
class StepBatch:
    """The tensors of one step.

    Attributes
    ----------
    input, target:
        uint8 (B, H, W[, 3]): what is encoded and what is to be reconstructed. For partners the input is (P, B, H, W): images that
        share each partition's factors with the targets, in the partitions' order. Where both images of a pair are encoded and
        decoded, both are (2, B, H, W).
    partition:
        The partition whose factors the pairs share; None where all of them are open.
    sources:
        Of composed targets: which of the images gives each partition's code to each target, int64 (P, B).
    through:
        The latent dimensions of `partition`, which a gate lets gradients pass, bool (M,); None for all. Filled in by
        `GatedVAE.loss`.
    label:
        What the step's losses are filed under. Steps of one label compute alike.
    """

    input: torch.Tensor
    target: torch.Tensor
    partition: str | None = None
    sources: torch.Tensor | None = None
    through: torch.Tensor | None = None
    label: str = ""

    def ordinary(self) -> StepBatch:
        """The batch of an ordinary VAE: every image its own target, nothing closed."""
        return replace(self, target=self.input, partition=None, label=NO_GATE)

    def both(self) -> StepBatch:
        """The batch with both images of every pair to be encoded and decoded, (2, B, ...)."""
        images = torch.stack([self.input, self.target])
        return replace(self, input=images, target=images)


@dataclass(frozen=True)
class Step:
    """What a method makes of a batch: (B, M), or (2, B, M) where both images of a pair are decoded.

    Attributes
    ----------
    posterior, sample:
        What the objective regularises, and a sample of it.
    codes:
        What is decoded.
    own:
        Terms of the method's own that are added to the loss, by name: nats of each row, (B,).
    kl_weight:
        What the KL divergence is multiplied by, on top of the objective's weight.
    """

    posterior: Posterior
    sample: torch.Tensor
    codes: torch.Tensor
    own: Mapping[str, torch.Tensor] = field(default_factory=dict)
    kl_weight: float = 1.0


class Method(Protocol):
    """A training method: a frozen dataclass of its constants.

    What it leaves out is as most have it: partitions take turns, and the input of a pair is encoded.
    """

    batches: ClassVar[BatchKind] = "turns"

    @property
    def told(self) -> Told:
        """What it is told of pairs."""
        return "shared"

    def encoded(self, partitions: int) -> float:  # noqa: ARG002
        """How many images a step encodes for each of a batch, on average, where there are so many partitions."""
        return 1.0

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """Say what of a batch is encoded and what decoded, and label it; `turn` counts rounds over partitions from 0.

        Images may be stacked before their own axes, (B, H, W), and exchanged; what is in them is not looked at.
        """
        return replace(batch, label=batch.partition or "")

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode the batch, drawing with standard normal `noise` (3, B, M): [0] for the input's codes, [1] for the target's."""


def encode_groups(vae: GatedVAE, images: torch.Tensor) -> Posterior:
    """Encode groups of images (P, B, H, W[, 3]) at once: (P, B, M)."""
    together = vae.encode(images.flatten(0, 1))
    return together.map(lambda tensor: tensor.view(*images.shape[:2], -1))


def refuse_unfit(method: Method, latent_size: int, kl_weight: float) -> None:
    """Refuse a method that can learn nothing with so many latent dimensions and such a weight of the KL divergence.

    Its `k` dimensions, where it has such a constant, are fewer than all; and its `needs_kl` says whether it needs a weight above 0.

    Raises
    ------
    ValueError
        When it does not fit.
    """
    name, k = type(method).__name__, getattr(method, "k", 0)
    if k >= latent_size:
        raise ValueError(
            f"{name} with k={k} shares nothing between two images: the latent has {latent_size} dimensions."
            f" Give k below {latent_size}, or more dimensions with --latent."
        )
    if getattr(method, "needs_kl", False) and not kl_weight:
        raise ValueError(
            f"{name} compares posteriors by their variances, which are 0 without a KL divergence: give a beta above 0."
        )


def self_reconstruction_at(method: Method, step: int, steps: int) -> float:
    """The probability that a partition's code comes from the target itself, in a step from 1 on.

    It falls evenly from the method's constant to 0 half-way through, while the learning rate is still high.
    """
    first: float = getattr(method, "self_reconstruction", 0.0)
    return first * max(0.0, 1 - 2 * (step - 1) / steps)


def is_size(value: object) -> bool:
    """Whether it is a whole number that a layer can have units or an image pixels: 1 .. 2**20."""
    return type(value) is int and 0 < value <= 2**20


def partition_slices(latent: Mapping[str, int]) -> dict[str, slice]:
    """Lay partitions side by side: name -> the slice of latent dimensions it owns, in the order given.

    Raises
    ------
    ValueError
        When there is no partition, or one has no dimension, or a name that stands for something else where losses are told.
    """
    if {ALL, NO_GATE} & latent.keys():
        raise ValueError(f"No partition can be called {ALL!r} or {NO_GATE!r}.")
    if not latent or not all(map(is_size, latent.values())):
        raise ValueError(f"Every partition needs at least one latent dimension, got {dict(latent)}.")
    slices, start = {}, 0
    for name, size in latent.items():
        slices[name] = slice(start, start + size)
        start += size
    return slices


def partition_masks(latent: Mapping[str, int]) -> torch.Tensor:
    """Which dimensions each partition owns: bool (P, M), partitions in their order."""
    owners = [place for place, size in enumerate(latent.values()) for _ in range(size)]
    return torch.tensor(owners) == torch.arange(len(latent))[:, None]


def gate(latent: torch.Tensor, through: torch.Tensor | None) -> torch.Tensor:
    """Return `latent` (B, M) with the same values, whose gradient is exactly zero where `through`, bool (M,), is not set.

    (Vowels, Camgoz, Bowden 2019.) None lets all gradients through.
    """
    return latent if through is None else torch.where(through, latent, latent.detach())


def compose(latents: torch.Tensor, partitions: Iterable[slice]) -> torch.Tensor:
    """Take each partition from a latent of its own: `latents` (P, B, M), one per partition in order, to (B, M)."""
    return torch.cat([latent[:, partition] for latent, partition in zip(latents, partitions, strict=True)], dim=1)
