"""What every pairing rule stands on: numbers drawn for samples, the members of groups, and what a rule is.

Everything here is a pure function of (seed, draw, sample id), computed element by element: any slice of the ids, in any
order and on any machine, gives the same partners, and resuming needs no state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from gated_vae.preprocessing.errors import GatedVAEError

Ids = npt.NDArray[np.int64]
Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float32]
Partners = Callable[[Ids, int], Ids]  # (ids, draw) -> one partner of each

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # shift, factor; at the end a shift of 31
_LOW = 2**64 - 1

BLOCK = 1 << 15  # ids worked on at a time


class PairingRule(Protocol):
    """Who is paired with whom: drawn from groups that were prepared once."""

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) another member of its group; element by element, in any order."""


def drawing(rule: PairingRule, seed: int) -> Partners:
    """The partners that a rule draws by a seed."""
    return lambda ids, draw: rule.partners(ids, seed=seed, draw=draw)


@dataclass(frozen=True, eq=False)
class Grouping:
    """What a rule may ask of the groups it draws in.

    Attributes
    ----------
    members:
        The groups; none has a single member.
    points:
        Gives what the groups were made of, float32 (N, d).
    strata:
        Cuts the samples by everything else they are labelled with into so many strata: the stratum of each, int32 (N,), and
        where each stratum lies, float32 (strata, d).
    """

    members: Members
    points: Callable[[], Floats]
    strata: Callable[[int], tuple[npt.NDArray[np.int32], Floats]]


def _mix(x: npt.NDArray[np.uint64]) -> None:
    """Finalise 64-bit counters in place (SplitMix64; Steele, Lea, Flood 2014): a bijection that passes for random."""
    shifted = np.empty_like(x)
    for shift, factor in _MIX:
        np.right_shift(x, np.uint64(shift), out=shifted)
        np.bitwise_xor(x, shifted, out=x)
        np.multiply(x, np.uint64(factor), out=x)
    np.right_shift(x, np.uint64(31), out=shifted)
    np.bitwise_xor(x, shifted, out=x)


def _mixed(x: int) -> int:
    """Do as `_mix` does with one number: calls of NumPy for each would take longer than a block of ids."""
    for shift, factor in _MIX:
        x = (x ^ x >> shift) * factor & _LOW
    return x ^ x >> 31


def _key(seed: int, draw: int) -> int:
    """Where the counters of a seed and draw begin."""
    return _mixed(_mixed(seed + _GOLDEN & _LOW) + draw * _GOLDEN & _LOW) + _GOLDEN & _LOW


def partition_stream(seed: int, partition: str) -> int:
    """Derive the seed of a partition's partners from the user's, below 2**53 (exact in any JSON reader).

    One seed for all would draw the same random numbers for a sample in every partition: its partners by pose and by expression
    would be alike in what neither shares.
    """
    return int.from_bytes(blake2b(f"{seed}/{partition}".encode(), digest_size=8).digest(), "little") >> 11


def random_below(bound: npt.ArrayLike, ids: Ints, *, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """Draw one integer in [0, bound) for every id, the same for the same (seed, draw, id).

    Parameters
    ----------
    bound:
        Exclusive upper bounds, one or one per id, each in 1 .. 2**32 - 1 (bias at most bound / 2**32).
    ids:
        Integers (n,), the counters of the generator.
    seed, draw:
        Non-negative integers below 2**64 and 2**32.
    """
    bits = ids.astype(np.uint64)
    np.multiply(bits, np.uint64(_GOLDEN), out=bits)
    np.add(bits, np.uint64(_key(seed, draw)), out=bits)
    _mix(bits)
    np.right_shift(bits, np.uint64(32), out=bits)
    np.multiply(bits, np.asarray(bound).astype(np.uint64, copy=False), out=bits)
    np.right_shift(bits, np.uint64(32), out=bits)
    return bits.view(np.int64)


def in_blocks(ids: Ints, draw_some: Callable[[Ints], Ints]) -> Ids:
    """What a function draws for ids (n,), a block at a time: its temporaries stay in the processor's cache."""
    drawn = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), BLOCK):
        drawn[start : start + BLOCK] = draw_some(ids[start : start + BLOCK])
    return drawn


@dataclass(frozen=True, eq=False)
class Members:
    """The members of every group in ascending order, as compressed rows, made once and drawn from often.

    Attributes
    ----------
    group:
        Group of each sample, int32 (N,).
    ids:
        Sample ids ordered by (group, id), int32 (N,) (int64 above 2**31).
    offsets:
        Group g is ``ids[offsets[g]:offsets[g + 1]]``, (groups + 1,).
    rank:
        Place of each sample among the members of its group, like `ids`.
    """

    group: Ints
    ids: Ints
    offsets: Ints
    rank: Ints

    @classmethod
    def of(cls, group: npt.ArrayLike) -> Members:
        """Sort the samples by group.

        Parameters
        ----------
        group:
            Integer labels (N,), any values; groups are numbered by ascending label unless the labels already
            lie in 0 .. N - 1, which are taken as they are.
        """
        labels = np.asarray(group)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            why = f"They are {labels.dtype} {labels.shape}; one integer per sample is needed."
            raise GatedVAEError("Groups cannot be read.", why)
        count = len(labels)
        index = np.int32 if count < 2**31 else np.int64
        if count and (labels.min() < 0 or labels.max() >= count):
            labels = np.unique(labels, return_inverse=True)[1]
        labels = labels.astype(index, copy=False)
        groups = int(labels.max()) + 1 if count else 0
        # A transposition of a sparse matrix is a counting sort, 12 times the speed of a stable argsort.
        rows = np.arange(count + 1, dtype=index)
        columns = sparse.csr_array((np.zeros(count, np.int8), labels, rows), shape=(count, groups)).tocsc()
        ids, offsets = columns.indices, columns.indptr
        rank: Ints = np.empty(count, index)
        rank[ids] = rows[:-1] - np.repeat(offsets[:-1], np.diff(offsets))
        return cls(labels, ids, offsets, rank)

    @cached_property
    def sizes(self) -> Ints:
        """Members per group, (groups,)."""
        sizes: Ints = np.diff(self.offsets)
        return sizes

    def check(self) -> None:
        """Raise `GatedVAEError` when a sample is alone in its group."""
        alone = int((self.sizes == 1).sum())
        if alone:
            remedy = "Merge them into other groups first (gated_vae.pairing.groups.kmeans.merge_singletons)."
            raise GatedVAEError("Partners cannot be drawn.", f"{alone} samples are alone in their group.", remedy)
