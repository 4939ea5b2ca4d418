"""Layers that compute in the dtype of their input and keep their parameters in float32.

Feeding a network bfloat16 runs its products in bfloat16; nothing else is switched. Convolutions compute channels last: their small
weights are laid out so at every call, and the activations follow; parameters and their gradients keep PyTorch's layout.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class _Linear(torch.autograd.Function):
    """``x W^T + b`` whose weight gradient comes out laid out as the weight is.

    PyTorch's own backward pass hands it over transposed; casting that to float32 took longer than the product (on a CPU,
    widths of 512: 2.4 ms beside 1.1 ms).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        cast = weight.to(x.dtype)
        ctx.save_for_backward(x, cast)
        return F.linear(x, cast, bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        into_x = grad @ weight if ctx.needs_input_grad[0] else None
        return into_x, (grad.mT @ x).float(), grad.sum(0, dtype=torch.float32)


class Linear(nn.Linear):
    """A fully connected layer: (B, in) -> (B, out) in the dtype of the input."""

    plain = False  # PyTorch's own backward pass in every dtype, which can be mapped over models

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        if self.plain or x.dtype == self.weight.dtype:
            return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return _Linear.apply(x, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


def _channels_last(weight: torch.Tensor, dtype: torch.dtype, plain: bool) -> torch.Tensor:
    """The weight of a convolution as it is computed with; where models are mapped over, the layout is left to PyTorch."""
    return weight.to(dtype) if plain else weight.to(dtype, memory_format=torch.channels_last)


class Conv2d(nn.Conv2d):
    """A convolution in the dtype of the input."""

    plain = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = _channels_last(self.weight, x.dtype, self.plain)
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution in the dtype of the input."""

    plain = False

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """Apply the layer (`output_size` is not supported)."""
        if output_size is not None:
            raise ValueError("output_size is not supported.")
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = _channels_last(self.weight, x.dtype, self.plain)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding)  # type: ignore[arg-type]
