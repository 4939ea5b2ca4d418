"""Groups and partners of a full factor grid (dSprites), by arithmetic.

A sample's id is a mixed-radix number whose digits are its factors' classes: nothing is looked up, and a loader can ask for one
batch. The partners are those that `gated_vae.pairing.rules.uniform` draws from the same groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from gated_vae.pairing.labels import choose_columns
from gated_vae.pairing.rules.base import Ids, Ints, Partners, in_blocks, random_below
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

EXACT, CHANGE = "exact", "change"  # what partitions are called whose pairs are arithmetic in a grid
Digits = list[tuple[int, int]]  # size and stride of digits of a mixed-radix number: (number // stride) % size


@dataclass(frozen=True)
class FactorGrid:
    """Every combination of factors' classes once, in row order: the last varies fastest. `sizes` are numbers of classes."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, store: Store) -> FactorGrid | None:
        """The grid of a store's samples; None where its manifest names no factors."""
        factors = store.manifest.get("factors")
        return None if factors is None else cls(tuple(factors), tuple(factors.values()))

    @property
    def size(self) -> int:
        """Number of samples."""
        return math.prod(self.sizes)

    def group(self, ids: Ids, shared: Sequence[str]) -> Ids:
        """Group of each sample, int64 (n,): its shared factors' classes as one number, in grid order."""
        return _pack(ids, self._digits(shared)[0])

    def partners(self, ids: Ids, shared: Sequence[str], *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids`, int64 (n,), another sample that agrees with it in the shared factors, element by element.

        These are the partners of `gated_vae.pairing.draw_partners`. `GatedVAEError` when `shared` names no factor, one that
        does not exist, or all of them.
        """
        _, free = self._digits(shared)
        others = math.prod(size for size, _ in free) - 1

        def draw_some(own: Ints) -> Ints:
            rank = _pack(own, free)
            other = random_below(others, own, seed=seed, draw=draw)
            other += other >= rank  # members ascend with their rank: one's own place is left out
            return own - _unpack(rank, free) + _unpack(other, free)

        return in_blocks(ids, draw_some)

    def changed(self, ids: Ids, k: int, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids`, int64 (n,), another sample that differs from it in exactly k factors, element by element.

        Every k factors are as likely as any others, whatever their numbers of classes, and so is each other class of a factor.
        Factors of one class, which cannot change, do not count.
        """
        strides = [math.prod(self.sizes[place + 1 :]) for place in range(len(self.sizes))]
        free = [(size, stride) for size, stride in zip(self.sizes, strides, strict=True) if size > 1]

        def draw_some(own: Ints) -> Ints:
            found, left = own.copy(), np.full(len(own), k)
            for place, (size, stride) in enumerate(free):
                counter = 2 * (draw * len(free) + place)
                # Selection sampling (Knuth, 3.4.2, algorithm S): with so many left to be chosen of the factors that are left.
                chosen = random_below(len(free) - place, own, seed=seed, draw=counter) < left
                step = 1 + random_below(size - 1, own, seed=seed, draw=counter + 1)
                digit = own // stride % size
                found += chosen * ((digit + step) % size - digit) * stride
                left -= chosen
            return found

        return in_blocks(ids, draw_some)

    def drawing(self, record: dict[str, Any]) -> Partners:
        """The partners of a partition of exact or changed pairs, by its record."""
        seed = record["stream"]
        if record["method"] == CHANGE:
            return lambda ids, draw: self.changed(ids, record["k"], seed=seed, draw=draw)
        return lambda ids, draw: self.partners(ids, record["shared"], seed=seed, draw=draw)

    def _digits(self, shared: Sequence[str]) -> tuple[Digits, Digits]:
        """Cut ids into shared and free digits; neighbours of one kind make one digit, which saves divisions."""
        wanted = choose_columns(shared, self.names)
        digits: dict[bool, Digits] = {True: [], False: []}
        stride = self.size
        for kind, run in groupby(zip(self.names, self.sizes, strict=True), key=lambda factor: factor[0] in wanted):
            size = math.prod(size for _, size in run)
            stride //= size
            digits[kind].append((size, stride))
        if math.prod(size for size, _ in digits[False]) == 1:
            why = f"No two samples agree in {', '.join(wanted)}: every one would be alone."
            raise GatedVAEError("Pairs cannot share everything.", why, "Leave out the factors that may differ.")
        return digits[True], digits[False]


def _pack(ids: Ints, digits: Digits) -> Ids:
    """Read some digits of the ids as a number of their own."""
    packed = np.zeros(len(ids), np.int64)
    for size, stride in digits:
        place = ids // stride
        packed = packed * size + place - place // size * size  # faster than %
    return packed


def _unpack(packed: Ids, digits: Digits) -> Ids:
    """Put a number back into some digits, the others 0."""
    ids = np.zeros(len(packed), np.int64)
    for size, stride in reversed(digits):
        rest = packed // size
        ids += (packed - rest * size) * stride
        packed = rest
    return ids
