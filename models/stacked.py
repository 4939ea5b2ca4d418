"""Several models of one shape as one: every tensor has a leading model axis, so that S models cost little more than one.

A small VAE leaves most of a GPU idle. Stacked, products are batched, batch normalisation has statistics of each model's own, and
losses are summed over models, so that each has its own gradient. What a step computes is what `GatedVAE.terms` says, mapped over
the models by `torch.func.vmap`: every method, objective and network works without a word of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.networks import Conv2d, ConvTranspose2d
from gated_vae.models.objectives import Objective, Posterior, Terms
from gated_vae.models.vae import GatedVAE, GatedVAEConfig


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

    def terms(
        self, posterior: Posterior, codes: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor | None
    ) -> Terms:
        """The sums by name."""
        total: Terms = {}
        for objective, share in zip(self.objectives, self.chosen, strict=True):
            for name, term in objective.terms(posterior, codes, prior, weights).items():
                total[name] = total[name] + share * term if name in total else share * term
        return total


class _Member(nn.Module):
    """One model of the stack, as a function of its tensors."""

    def __init__(self, vae: GatedVAE, objectives: tuple[Objective, ...]) -> None:
        super().__init__()
        self.vae, self._objectives = vae, objectives

    def forward(self, batch: Mapping[str, torch.Tensor | None], noise: torch.Tensor, chosen: torch.Tensor) -> Terms:
        """The loss terms of one step."""
        objective = self._objectives[0] if len(self._objectives) == 1 else Mixture(self._objectives, chosen)
        tensors = StepBatch(**batch)  # type: ignore[arg-type]
        return self.vae.terms(tensors, noise, Shares((len(tensors.target),)), objective)


class Stack(nn.Module):
    """S models of one shape and method.

    Parameters
    ----------
    models:
        The models, alike but for their tensors and objectives. Their tensors are copied.

    Raises
    ------
    ValueError
        When they differ in more than that.
    """

    def __init__(self, models: Sequence[GatedVAE]) -> None:
        super().__init__()
        check_alike([model.config for model in models])
        first = models[0]
        self.config = first.config
        wanted = [model.config.objective for model in models]
        objectives = tuple(dict.fromkeys(wanted))
        self.chosen = torch.tensor([[float(one == objective) for objective in objectives] for one in wanted])
        for model in models:
            model.train()
        parameters, buffers = stack_module_state(list(models))
        self.tensors = nn.ParameterDict(
            {_flat(name): nn.Parameter(_laid_out(value.detach())) for name, value in parameters.items()}
        )
        self.buffers_ = {f"vae.{name}": value for name, value in buffers.items()}
        self._names = {f"vae.{name}": _flat(name) for name in parameters}
        self._member = [_Member(_skeleton(first), objectives)]  # in a list: it is no part of this module's own tensors

    def terms(self, batch: StepBatch, noise: torch.Tensor) -> Terms:
        """The loss terms of one step by name, each (S,).

        Parameters
        ----------
        batch:
            As `GatedVAE.terms` takes it, with a leading model axis: `input` and `target` (S, ..., B, H, W), `sources` (S, P, B);
            `through` (M,) is the same for all models.
        noise:
            Standard normal (S, 3, B, M).
        """
        given = {"input": batch.input, "target": batch.target, "sources": batch.sources, "through": batch.through}
        axes = {name: None if tensor is None or name == "through" else 0 for name, tensor in given.items()}

        def member(
            tensors: dict[str, torch.Tensor],
            buffers: dict[str, torch.Tensor],
            batch: Mapping[str, torch.Tensor | None],
            noise: torch.Tensor,
            chosen: torch.Tensor,
        ) -> Terms:
            return functional_call(self._member[0], (tensors, buffers), (batch, noise, chosen))  # type: ignore[no-any-return]

        tensors = {name: self.tensors[flat] for name, flat in self._names.items()}
        mapped = vmap(member, in_dims=(0, 0, axes, 0, 0))
        return mapped(tensors, self.buffers_, given, noise, self.chosen)

    @property
    def masks(self) -> torch.Tensor:
        """Which dimensions each partition owns, bool (P, M)."""
        masks: torch.Tensor = self.buffers_["vae.masks"][0]
        return masks

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """What is trained, as a model names it, each (S, ...)."""
        return {name.removeprefix("vae."): self.tensors[flat] for name, flat in self._names.items()}

    def rows(self) -> dict[str, torch.Tensor]:
        """Everything that a model's `state_dict` has, each (S, ...)."""
        buffers = {name.removeprefix("vae."): value for name, value in self.buffers_.items()}
        return {**self.parameters_by_name(), **buffers}

    @torch.no_grad()
    def load_rows(self, rows: Mapping[str, torch.Tensor]) -> None:
        """Take over what `rows` gave."""
        mine = self.rows()
        for name, value in rows.items():
            mine[name].copy_(value)

    def to(self, *args: Any, **kwargs: Any) -> Stack:
        """Move parameters and buffers."""
        super().to(*args, **kwargs)
        self.buffers_ = {name: value.to(*args, **kwargs) for name, value in self.buffers_.items()}
        self.chosen = self.chosen.to(*args, **kwargs)
        return self


def check_alike(configs: Sequence[GatedVAEConfig]) -> None:
    """Refuse models that cannot be stacked.

    Raises
    ------
    ValueError
        When they differ in more than objective and KL weights.
    """
    first = configs[0]
    for config in configs[1:]:
        here = replace(config, objective=first.objective, kl_weights=first.kl_weights)
        if here != first or bool(config.kl_weights) != bool(first.kl_weights):
            raise ValueError(
                "Models of one stack have the same partitions, image shape, network, hidden sizes and method."
            )


def _skeleton(model: GatedVAE) -> GatedVAE:
    """A model without tensors of its own, whose layers can be mapped over."""
    with torch.device("meta"):
        bare = GatedVAE(model.config, "bf16" if model.dtype == torch.bfloat16 else "fp32")
    for layer in bare.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            layer.layout = torch.preserve_format  # channels can be last of four dimensions, not of five
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


def _flat(name: str) -> str:
    return name.replace(".", "/")
