"""Groups and partners of a full factor grid (dSprites), by arithmetic.

A sample's id is a mixed-radix number whose digits are its factors' classes: nothing is looked up, and a loader can ask for one
batch. The partners are those that `gated_vae.pairing.rules.uniform` draws from the same groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from gated_vae.pairing.labels import choose_columns
from gated_vae.pairing.rules.base import BLOCK, Ids, random_below
from gated_vae.preprocessing.errors import GatedVAEError


@dataclass(frozen=True)
class FactorGrid:
    """Every combination of some factors' classes once, in row order: the last factor varies fastest.

    Attributes
    ----------
    names:
        The factors.
    sizes:
        Number of classes of each.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, factors: Mapping[str, int]) -> FactorGrid:
        """Make the grid of `factors`: name -> number of classes, in row order."""
        return cls(tuple(factors), tuple(factors.values()))

    @property
    def size(self) -> int:
        """Number of samples."""
        return math.prod(self.sizes)

    def group(self, ids: Ids, shared: Sequence[str]) -> Ids:
        """Group of each sample, int64 (n,): its shared factors' classes as one number, in grid order."""
        return _pack(ids, self._digits(shared)[0])

    def partners(self, ids: Ids, shared: Sequence[str], *, seed: int, draw: int) -> Ids:
        """Draw for each sample another one that agrees with it in the shared factors.

        Parameters
        ----------
        ids:
            Any samples, int64 (n,); each one's partner does not depend on the others.
        shared:
            Factors to agree in, in any order.
        seed, draw:
            As in `gated_vae.pairing.draw_partners`, whose partners these are.

        Returns
        -------
        Ids, int64 (n,).

        Raises
        ------
        GatedVAEError
            When `shared` names no factor, one that does not exist, or all of them.
        """
        _, free = self._digits(shared)
        partners = np.empty(len(ids), np.int64)
        for start in range(0, len(ids), BLOCK):
            block = slice(start, start + BLOCK)
            partners[block] = _other(ids[block], free, seed, draw)
        return partners

    def _digits(self, shared: Sequence[str]) -> tuple[list[_Digit], list[_Digit]]:
        """Cut ids into shared and free digits; neighbours of one kind make one digit, which saves divisions."""
        wanted = choose_columns(shared, self.names)
        digits: dict[bool, list[_Digit]] = {True: [], False: []}
        stride = self.size
        for kind, run in groupby(zip(self.names, self.sizes, strict=True), key=lambda factor: factor[0] in wanted):
            size = math.prod(size for _, size in run)
            stride //= size
            digits[kind].append(_Digit(size, stride))
        if math.prod(digit.size for digit in digits[False]) == 1:
            why = f"No two samples agree in {', '.join(wanted)}: every one would be alone."
            raise GatedVAEError("Pairs cannot share everything.", why, "Leave out the factors that may differ.")
        return digits[True], digits[False]


@dataclass(frozen=True)
class GridPartners:
    """The partners of a grid's samples for some shared factors: arithmetic, so it needs no arrays."""

    grid: FactorGrid
    shared: tuple[str, ...]

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) another sample that agrees in the shared factors."""
        return self.grid.partners(ids, self.shared, seed=seed, draw=draw)


@dataclass(frozen=True)
class _Digit:
    """A digit of a mixed-radix number: (number // stride) % size."""

    size: int
    stride: int


def _pack(ids: Ids, digits: list[_Digit]) -> Ids:
    """Read some digits of the ids as a number of their own."""
    packed = np.zeros(len(ids), np.int64)
    for digit in digits:
        place = ids // digit.stride
        packed = packed * digit.size + place - place // digit.size * digit.size  # faster than %
    return packed


def _unpack(packed: Ids, digits: list[_Digit]) -> Ids:
    """Put a number back into some digits, the others 0."""
    ids = np.zeros(len(packed), np.int64)
    for digit in reversed(digits):
        rest = packed // digit.size
        ids += (packed - rest * digit.size) * digit.stride
        packed = rest
    return ids


def _other(ids: Ids, free: list[_Digit], seed: int, draw: int) -> Ids:
    """Draw other values for the free digits; as members ascend with their rank, one's own place is left out."""
    rank = _pack(ids, free)
    other = random_below(math.prod(digit.size for digit in free) - 1, ids, seed=seed, draw=draw)
    other += other >= rank
    return ids - _unpack(rank, free) + _unpack(other, free)
