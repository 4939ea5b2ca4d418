"""One batch shared by several processes (ranks): what the loss and the layers need so that together they equal one process.

Every rank holds some rows of the batch. What compares rows (discrepancy, covariance) is computed on every rank from the rows of
all, batch normalisation takes its statistics over all, and the reconstruction is left in parts. So each rank has the derivatives of
the one loss with respect to its own rows, and the gradients of the parameters, summed over ranks, are those of one process.

Without `torch.distributed.init_process_group` there is one rank, and nothing here computes anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that share every batch."""
    return dist.get_world_size() if dist.is_initialized() else 1


def everyone(value: int) -> tuple[int, ...]:
    """The value that each rank gives, by rank. Waits for all of them."""
    if world_size() == 1:
        return (value,)
    values = torch.zeros(world_size(), dtype=torch.int64)
    values[rank()] = value
    dist.all_reduce(values)
    return tuple(values.tolist())


@dataclass(frozen=True)
class Shares:
    """How the rows of one batch lie on the ranks: `sizes` by rank, one after the other, and whose share this process has."""

    sizes: tuple[int, ...]
    rank: int = 0

    @classmethod
    def of(cls, rows: int) -> Shares:
        """Ask every rank how many rows it has."""
        return cls(everyone(rows), rank())

    @property
    def whole(self) -> int:
        """Rows of the batch over all ranks."""
        return sum(self.sizes)

    @property
    def own(self) -> slice:
        """Where this process's rows are in the whole batch."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def gather(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The rows of all ranks, of tensors (own rows, columns) of one dtype. For what every rank computes alike from them.

        Backwards a rank keeps the derivatives of its own rows: the others', having computed the same, have theirs.
        """
        if len(self.sizes) == 1:
            return tensors
        rows = torch.cat(tensors, 1)
        whole = rows.new_zeros(self.whole, rows.shape[1])
        whole[self.own] = rows.detach()
        dist.all_reduce(whole)  # adds zeros: exact, and shares may differ in size
        whole[self.own] = rows  # now with their derivatives
        return torch.split(whole, [tensor.shape[1] for tensor in tensors], 1)


class _Sum(torch.autograd.Function):
    """Sum over ranks; each rank goes on with it on its own rows, so the derivatives are summed, too."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        whole = grads[0].clone()
        dist.all_reduce(whole)
        return whole


def sum_over_ranks(part: torch.Tensor) -> torch.Tensor:
    """The sum of every rank's tensor, of one shape; differentiable."""
    return part if world_size() == 1 else _Sum.apply(part)  # type: ignore[no-untyped-call]


class SynchronisedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of (B, C) with statistics over all ranks; `torch.nn.SyncBatchNorm` works on GPUs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer in float32; the result has the dtype of the input."""
        if not self.training:
            return super().forward(x)
        rows = x.float()
        count = sum(everyone(len(rows)))
        mean = sum_over_ranks(rows.sum(0)) / count
        centred = rows - mean
        variance = sum_over_ranks(centred.square().sum(0)) / count
        self._track(mean, variance * (count / (count - 1)))
        return (centred * (variance + self.eps).rsqrt() * self.weight + self.bias).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.momentum is not None
        self.get_buffer("running_mean").lerp_(mean, self.momentum)
        self.get_buffer("running_var").lerp_(variance, self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let every batch normalisation of a model take its statistics over all ranks; names and parameters stay."""
    if world_size() > 1:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.__class__ = SynchronisedBatchNorm


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of `parameters` by their sums over ranks, in one message."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole = parameters_to_vector(gradients)
    dist.all_reduce(whole)
    vector_to_parameters(whole, gradients)
