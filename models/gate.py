"""The gate: every partition is used going forward, gradients flow back through one (Vowels, Camgoz, Bowden 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch


def partition_slices(latent: Mapping[str, int]) -> dict[str, slice]:
    """Lay partitions side by side: name -> the slice of latent dimensions it owns, in the order given.

    Raises
    ------
    ValueError
        When there is no partition, or one has no dimension.
    """
    if not latent or min(latent.values()) < 1:
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


def gate(latent: torch.Tensor, through: torch.Tensor) -> torch.Tensor:
    """Return `latent` (B, M) with the same values, whose gradient is exactly zero where `through`, bool (M,), is not set."""
    return torch.where(through, latent, latent.detach())


def exchange(latent: torch.Tensor, context: torch.Tensor, through: torch.Tensor) -> torch.Tensor:
    """Return `context` (B, M), without its gradient, with `latent` (B, M) in its place where `through`, bool (M,), is set.

    The exchange gate decodes the code of a pair's input in one partition beside the codes of its target in all others: what
    the pair does not share is known to the decoder from the target itself, what it shares must come from the input. (Kin to the
    mixing autoencoders of Szabo et al. 2017 and to ML-VAE, Bouchacourt et al. 2018.)
    """
    return torch.where(through, latent, context.detach())


def compose(latents: torch.Tensor, partitions: Iterable[slice]) -> torch.Tensor:
    """Take each partition from a latent of its own: `latents` (P, B, M), one per partition in order, to (B, M).

    Where the p-th latents are those of images that share with the targets partition p's factors and nothing else, a code can only
    hold what it is meant to, whatever the gradients do; so none is stopped, every partition learns in every step, and the decoder
    is told all that the partitions stand for. (Kin to the swapping of attributes between images in GZS-Net, Ge et al. 2021.)
    """
    return torch.cat([latent[:, partition] for latent, partition in zip(latents, partitions, strict=True)], dim=1)
