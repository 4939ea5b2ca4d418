"""Standard normal noise as a pure function of (seed, step): no generator has a state to lose."""

from __future__ import annotations

import math

import torch

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The same 64 bits as PyTorch's int64 has them."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Finalise 64-bit counters (SplitMix64; Steele, Lea, Flood 2014), int64 standing for uint64."""
    x = (x ^ _shift(x, 30)) * _signed(_FIRST)
    x = (x ^ _shift(x, 27)) * _signed(_SECOND)
    return x ^ _shift(x, 31)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift to the right without copies of the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def draw_normal(
    shape: tuple[int, ...], *, seed: int, step: int, device: str | torch.device, stream: int = 1
) -> torch.Tensor:
    """Standard normal noise for a step: a pure function of (seed, step, stream) on one kind of device.

    On CUDA it is `hashed_noise` of `stream_seed`, which a graph can hold; elsewhere PyTorch's generator draws it.
    """
    if torch.device(device).type == "cuda":
        place = torch.tensor([stream_seed(seed, stream), step]).pin_memory().to(device, non_blocking=True)
        return hashed_noise(place[:1], place[1], shape)[0]
    generator = torch.Generator(device=device)
    generator.manual_seed((seed * _GOLDEN + step * _FIRST + stream) % 2**63)
    return torch.randn(shape, generator=generator, device=device)


def stream_seed(seed: int, stream: int) -> int:
    """The seed of another stream of noise of the same run; that of stream 1 is the run's own."""
    return _signed(seed + (stream - 1) * _SECOND)


def hashed_noise(seeds: torch.Tensor, step: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise of several seeds in one step, float32 (S, *shape).

    Counters are hashed into two uniform numbers each, and these made normal (Box, Muller 1958). Nothing is asked of the host, so
    a step with its noise can be a CUDA graph.

    Parameters
    ----------
    seeds, step:
        int64 (S,) and a scalar, on the device where the noise is wanted.
    """
    size = math.prod(shape)
    pairs = torch.arange(-(-size // 2), device=seeds.device)
    key = _mix(_mix(seeds + _signed(_GOLDEN)) + step * _signed(_GOLDEN))
    bits = _mix(key[:, None] + (pairs + 1) * _signed(_GOLDEN))
    radius = (-2.0 * torch.log((_shift(bits, 40) + 1).float() * 2.0**-24)).sqrt()
    angle = (bits & 0xFFFFFF).float() * (2.0**-24 * 2.0 * math.pi)
    normal = torch.stack((radius * angle.cos(), radius * angle.sin()), 2)
    return normal.flatten(1)[:, :size].reshape(len(seeds), *shape)
