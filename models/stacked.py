"""Several models of one shape as one: every tensor has a leading model axis, so that S models cost little more than one.

A small VAE leaves most of a GPU idle. Stacked, products are batched, batch normalisation has statistics of each model's own, and
losses are summed over models, so that each has its own gradient. What a step computes is what `GatedVAE.forward` says, mapped over
the models by `torch.func.vmap`: every method, objective and network works without a word of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.networks import Conv2d, ConvTranspose2d
from gated_vae.models.objectives.base import Encoded, Objective, Terms, gaussian_kl
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, outline

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Mixture:
    """One of several objectives: the terms of all are computed, and those of the others weigh nothing.

    Attributes
    ----------
    objectives:
        What there is to choose from.
    chosen:
        1 for the objective of this model and 0 for the others, (K,).
    """

    objectives: tuple[Objective, ...]
    chosen: torch.Tensor

    def terms(self, encoded: Encoded) -> Terms:
        """The sums by name."""
        total: Terms = {}
        for objective, share in zip(self.objectives, self.chosen, strict=True):
            for name, term in objective.terms(encoded).items():
                total[name] = total[name] + share * term if name in total else share * term
        return total


class Stack:
    """S models of one shape and method.

    Parameters
    ----------
    models:
        The models, alike but for the values of their tensors and their objectives. Their tensors are copied.
    device:
        Where to.

    Attributes
    ----------
    parameters, buffers:
        The models' tensors by their names in a model, each (S, ...).
    saved:
        The names of those that a model's `state_dict` has.
    """

    def __init__(self, models: Sequence[GatedVAE], device: str | torch.device = "cpu") -> None:
        wanted = [model.config.objective for model in models]
        self._objectives = tuple(dict.fromkeys(wanted))
        self._chosen = torch.tensor([[float(one == objective) for objective in self._objectives] for one in wanted])
        self._chosen = self._chosen.to(device)
        parameters, buffers = stack_module_state(list(models))
        self.parameters = {
            name: nn.Parameter(_laid_out(value.detach().to(device))) for name, value in parameters.items()
        }
        self.buffers = {name: value.to(device) for name, value in buffers.items()}
        self.saved = list(models[0].state_dict())
        self._skeleton = _skeleton(models[0])

    def terms(self, batch: StepBatch, noise: torch.Tensor) -> Terms:
        """The loss terms of one step by name, each (S,).

        Parameters
        ----------
        batch:
            As `GatedVAE.forward` takes it, with a leading model axis: `input` and `target` (S, ..., B, H, W), `sources`
            (S, P, B); `through` (M,) is the same for all models.
        noise:
            Standard normal (S, 3, B, M).
        """
        tensors = ("input", "target", "sources", "through")
        given: dict[str, Any] = {name: getattr(batch, name) for name in tensors if getattr(batch, name) is not None}

        def member(tensors: Tensors, given: dict[str, Any], noise: torch.Tensor, chosen: torch.Tensor) -> Terms:
            batch, objective = StepBatch(**given), Mixture(self._objectives, chosen)
            called = (batch, noise, Shares((noise.shape[1],)), objective)
            return functional_call(self._skeleton, tensors, called)  # type: ignore[no-any-return]

        axes = {name: None if name == "through" else 0 for name in given}
        mapped = vmap(member, in_dims=(0, axes, 0, 0))
        return mapped(self.parameters | self.buffers, given, noise, self._chosen)

    @torch.no_grad()
    def kl(self, images: torch.Tensor) -> torch.Tensor:
        """KL of every latent dimension over each model's images (S, B, H, W[, 3]): (S, M), in nats.

        They are encoded as when training is over: no statistics change.
        """
        encoder = _KL(self._skeleton).eval()
        tensors = {f"vae.{name}": value for name, value in (self.parameters | self.buffers).items()}
        found: torch.Tensor = vmap(lambda own, seen: functional_call(encoder, own, seen))(tensors, images)
        self._skeleton.train()
        return found


class _KL(nn.Module):
    """What `GatedVAE.encode` tells of images, as a module: those can be called with tensors of elsewhere."""

    def __init__(self, vae: GatedVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return gaussian_kl(self.vae.encode(images))


def bytes_of_one(config: GatedVAEConfig, precision: str, batch_size: int) -> int:
    """About how many bytes a model of a stack takes while it is trained.

    They hold its parameters, their gradients and Adam's two moments, and what a step keeps to differentiate by, which is counted on
    a step without values (PyTorch's meta device).
    """
    model, kept = outline(config, precision), []
    with torch.device("meta"):
        images = torch.empty(batch_size, *config.image_shape, dtype=torch.uint8)
        groups = torch.empty(len(config.latent), batch_size, dtype=torch.int64)
        targets = images.expand(len(groups), *images.shape) if config.method.batches == "together" else images
        noise = torch.empty(3, batch_size, config.latent_size)
    sources = groups if config.method.batches == "composed" else None
    partition = next(iter(config.latent)) if config.method.batches == "turns" else None
    batch = config.method.prepare(StepBatch(images, targets, partition, sources), 0)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(batch, noise)
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes = {storage._cdata: storage.nbytes() for storage in kept if storage._cdata not in own}
    return 16 * sum(parameter.numel() for parameter in model.parameters()) + sum(sizes.values())


def _skeleton(model: GatedVAE) -> GatedVAE:
    """A model without tensors of its own, whose layers can be mapped over."""
    with torch.device("meta"):
        bare = GatedVAE(model.config, "bf16" if model.dtype == torch.bfloat16 else "fp32")
    for layer in bare.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            layer.layout = torch.preserve_format  # `channels_last` is of four dimensions, a stack of weights has five
        elif isinstance(layer, nn.BatchNorm1d):
            layer.__class__ = _BatchNorm
    return bare.train()


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation in float32, as mapping over it takes one dtype; the result has the dtype of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(x.dtype)


def _laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """Lay a stack of matrices out column by column, as their gradients come: else each is copied in every step."""
    return tensor.mT.contiguous().mT if tensor.dim() == 3 else tensor
