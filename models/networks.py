"""Encoders and decoders: the paper's fully connected pair (sprites) and a convolutional pair (faces).

An encoder maps images (B, H, W), or (B, H, W, 3) in colour, in [0, 1] to (B, 2 M): means and log-variances of M latent
dimensions. A decoder maps codes (B, M) to logits of the images' shape. Both compute in the dtype they are given, bfloat16 or
float32; parameters are float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

Shape = tuple[int, ...]  # of an image: (H, W), or (H, W, 3) in colour


class Linear(nn.Linear):
    """A fully connected layer: (B, in) -> (B, out) in the dtype of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """A convolution in the dtype of the input, channels last: its small weight is laid out so, and the activations follow.

    In PyTorch's own layout a training step takes 9% to 13% longer: `python -m benchmarks.step`, PyTorch's layout.
    """

    layout = torch.channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        weight = self.weight.to(x.dtype, memory_format=self.layout)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution, laid out as `Conv2d`."""

    layout = torch.channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Apply the layer."""
        weight = self.weight.to(x.dtype, memory_format=self.layout)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding)  # type: ignore[arg-type]


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]


class FullyConnectedEncoder(nn.Module):
    """Two (or as many as `hidden`) fully connected layers with batch normalisation and ReLU, then both heads."""

    def __init__(self, image_shape: Shape, latent_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [math.prod(image_shape), *hidden]
        layers = [layer for pair in pairwise(sizes) for layer in _block(*pair)]
        self.layers = nn.Sequential(nn.Flatten(), *layers, Linear(sizes[-1], 2 * latent_size))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images to (B, 2 M)."""
        return self.layers(images)  # type: ignore[no-any-return]


class FullyConnectedDecoder(nn.Module):
    """Fully connected layers with batch normalisation and ReLU, mirrored from the encoder, and a linear one to the logits."""

    def __init__(self, image_shape: Shape, latent_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [latent_size, *reversed(hidden)]
        layers = [layer for pair in pairwise(sizes) for layer in _block(*pair)]
        output = [Linear(sizes[-1], math.prod(image_shape)), nn.Unflatten(1, image_shape)]
        self.layers = nn.Sequential(*layers, *output)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode (B, M) to logits."""
        return self.layers(codes)  # type: ignore[no-any-return]


def colours(image_shape: Shape) -> int:
    """How many values a pixel has: 1, or 3 in colour."""
    return math.prod(image_shape[2:])


def _convolved(image_shape: Shape, channels: Sequence[int]) -> Shape:
    """The spatial size after one halving per entry of `channels`."""
    if not channels:
        raise ValueError("A convolutional network needs two hidden sizes or more: channels, then the last hidden size.")
    factor = 2 ** len(channels)
    if image_shape[0] % factor or image_shape[1] % factor:
        raise ValueError(
            f"Images of {image_shape} cannot be halved {len(channels)} times: choose another size or network."
        )
    return image_shape[0] // factor, image_shape[1] // factor


class ConvolutionalEncoder(nn.Module):
    """4x4 convolutions of stride 2 with ReLU (all of `hidden` but the last), one fully connected layer, then both heads.

    The fully connected layers are batch-normalised, here and in the decoder: without, the codes start so near 0 that the KL
    divergence closes every dimension before the decoder listens (2,000 simulated faces: all 24 dead after 1,920 steps).
    """

    def __init__(self, image_shape: Shape, latent_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        *channels, last = hidden
        height, width = _convolved(image_shape, channels)
        convolutions = [
            layer
            for pair in pairwise([colours(image_shape), *channels])
            for layer in (Conv2d(*pair, 4, stride=2, padding=1), nn.ReLU(inplace=True))
        ]
        flat = channels[-1] * height * width
        heads = [nn.Flatten(), *_block(flat, last), Linear(last, 2 * latent_size)]
        self.layers = nn.Sequential(*convolutions, *heads)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images to (B, 2 M)."""
        return self.layers(images.unsqueeze(1) if images.dim() == 3 else images.movedim(-1, 1))  # type: ignore[no-any-return]


class ConvolutionalDecoder(nn.Module):
    """The convolutional encoder mirrored: two fully connected layers, then transposed convolutions up to the logits."""

    def __init__(self, image_shape: Shape, latent_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        *channels, last = hidden
        height, width = _convolved(image_shape, channels)
        flat = channels[-1] * height * width
        entry = [*_block(latent_size, last), *_block(last, flat)]
        convolutions = [
            layer
            for pair in pairwise([*reversed(channels), colours(image_shape)])
            for layer in (ConvTranspose2d(*pair, 4, stride=2, padding=1), nn.ReLU(inplace=True))
        ][:-1]  # no ReLU on the logits
        self.grey = colours(image_shape) == 1
        self.layers = nn.Sequential(*entry, nn.Unflatten(1, (channels[-1], height, width)), *convolutions)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode (B, M) to logits."""
        logits = self.layers(codes)
        return logits.squeeze(1) if self.grey else logits.movedim(1, -1)  # type: ignore[no-any-return]


Builder = Callable[[Shape, int, Sequence[int]], nn.Module]


def convolutional_hidden(image_shape: Shape) -> tuple[int, ...]:
    """Default channels, one entry for each halving that leaves 4 x 4 or more, then the last hidden size.

    `ValueError` when the images cannot be halved at all.
    """
    (height, width), halvings = image_shape[:2], 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width, halvings = height // 2, width // 2, halvings + 1
    if not halvings:
        raise ValueError(f"Images of {image_shape} cannot be halved: choose even sides from 8 on, or the network fc.")
    return (*(32, 32, *[64] * halvings)[:halvings], 256)


FULLY_CONNECTED_HIDDEN = (256, 256)  # the paper states none


class Network(NamedTuple):
    """A kind of network: its two halves, and the hidden sizes it has by default for images of a shape."""

    encoder: Builder
    decoder: Builder
    default_hidden: Callable[[Shape], tuple[int, ...]]


FULLY_CONNECTED = Network(FullyConnectedEncoder, FullyConnectedDecoder, lambda _: FULLY_CONNECTED_HIDDEN)
CONVOLUTIONAL = Network(ConvolutionalEncoder, ConvolutionalDecoder, convolutional_hidden)
