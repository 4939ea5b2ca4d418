"""Exact pairs: samples that agree in labels.

In a full factor grid (dSprites) a sample's id is a mixed-radix number whose digits are its factors' classes, so groups and
partners are arithmetic on ids: nothing is looked up, and a loader can ask for one batch. Elsewhere the groups come from the
values of label columns, and partners from `gated_vae.pairing.rules.uniform`. Both draw the same partners from the same groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from gated_vae.pairing.drawing import Drawing, discard_spilled
from gated_vae.pairing.records import already_made, strike
from gated_vae.pairing.rules.uniform import BLOCK, Members, partition_stream, random_below
from gated_vae.pairing.tables import write_groups, write_pairs
from gated_vae.preprocessing.compute import dashboard
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.store import REBUILD, Store, centroids_path, open_store, samples_path

Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]  # (pairs written, pairs in all)

_FORM = "Write --share NAME=FACTOR[,FACTOR...], for example --share position=posX,posY."


def ignore(done: int, total: int) -> None:
    """Progress hook that does nothing."""


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
            As in `gated_vae.pairing.rules.uniform.draw_partners`, whose partners these are.

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
        wanted = choose_factors(shared, self.names)
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


def parse_share(text: str) -> tuple[str, tuple[str, ...]]:
    """Read ``position=posX,posY`` as a partition's name and its shared factors."""
    name, equals, listed = text.partition("=")
    name, factors = name.strip(), tuple(factor.strip() for factor in listed.split(","))
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not all(factors):
        why = "A name of letters, digits, _ or - and at least one factor are needed."
        raise UsageError(f"--share {text} cannot be read.", why, _FORM)
    if len(set(factors)) < len(factors):
        raise UsageError(f"--share {text} cannot be read.", "It names a factor twice.", _FORM)
    return name, factors


def parse_shares(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read several, in their order: name -> shared factors. Partitions may have factors in common, but not a name."""
    shares: dict[str, tuple[str, ...]] = {}
    for name, factors in map(parse_share, texts):
        if name in shares:
            raise UsageError(f"Two partitions are called {name}.", "", "Give each --share a name of its own.")
        shares[name] = factors
    return shares


def choose_factors(shared: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Bring shared factors into the order of the available ones; refuse none, and those that do not exist."""
    unknown = [name for name in shared if name not in available]
    if unknown:
        raise GatedVAEError(f"There is no factor {unknown[0]}.", f"There are {', '.join(available)}.", _FORM)
    if not shared:
        raise GatedVAEError("Pairs must share something.", "No factor is named.", _FORM)
    return tuple(name for name in available if name in shared)


@dataclass(frozen=True)
class ExactPartition:
    """What became of one partition.

    Attributes
    ----------
    name, factors:
        The partition and what its pairs share, in the order of the store's columns.
    groups:
        Number of groups.
    merged:
        Samples that were alone and joined the group whose labels come nearest in sorted order.
    already_done:
        True when it was there already and nothing was written.
    """

    name: str
    factors: tuple[str, ...]
    groups: int
    merged: int
    already_done: bool


def pair_exactly(
    store: Store,
    shares: Mapping[str, Sequence[str]],
    *,
    draws: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress = ignore,
) -> tuple[ExactPartition, ...]:
    """Write groups and pairs of samples that agree in label columns, and record them in the store.

    Partitions are recorded one by one, so an interrupted run goes on with the first that is missing.

    Parameters
    ----------
    shares:
        Partition -> the factors its pairs share. New partitions join the store's in this order.
    draws:
        How often every sample is an input in the table.
    seed:
        Which of the possible pairings.
    overwrite:
        Replace partitions of these names that were made otherwise.
    scheduler:
        Address of a Dask scheduler, whose workers see the store under the same path and draw the partners; None draws here.
        The bytes are the same.
    progress:
        Called with the pairs written so far and the number to write.

    Raises
    ------
    GatedVAEError
        When a factor does not exist or lacks values, when the shared factors leave most samples alone, when a partition of
        that name was made otherwise, when the scheduler does not answer. Nothing is written then.
    """
    if draws < 1 or seed < 0:
        raise GatedVAEError(
            "Pairs cannot be drawn.", f"Got draws {draws} and seed {seed}.", "Give draws >= 1, seed >= 0."
        )
    if scheduler is not None:
        dashboard(scheduler)  # before anything changes
    with locked(store.path):
        store = open_store(store.path)
        available = factor_names(store)
        records: dict[str, dict[str, Any]] = {
            name: {
                "method": "exact",
                "factors": [*choose_factors(shared, available)],
                "seed": seed,
                "stream": partition_stream(seed, name),
                "draws": draws,
            }
            for name, shared in shares.items()
        }
        made = already_made(store, records, overwrite)
        groupings = {name: _grouping(store, record) for name, record in records.items() if name not in made}
        discard_spilled(store.path)
        store = strike(store, groupings)  # no record may describe tables that are being replaced
        for place, (name, grouping) in enumerate(groupings.items()):
            centroids_path(store.path, name).unlink(missing_ok=True)  # of clusters that had this name
            write_groups(store.path, name, grouping.group, np.zeros(len(store), np.float32))
            table = len(store) * draws
            moved = partial(_move, progress, place * table, len(groupings) * table)
            write_pairs(store.path, name, grouping.group, grouping.drawing, draws, scheduler=scheduler, progress=moved)
            counts = {"groups": int(grouping.group.max()) + 1, "merged": grouping.merged}
            store = store.with_partitions({**store.partitions, name: {**records[name], **counts}})
    return tuple(_report(name, store.partitions[name], name in made) for name in shares)


def factor_names(store: Store) -> tuple[str, ...]:
    """What pairs of a store can share: the factors of a grid, else the columns that describe samples."""
    if "factors" in store.manifest:
        return tuple(store.manifest["factors"])
    columns = pq.read_schema(samples_path(store.path)).names
    return tuple(name for name in columns if name not in ("sample_id", "image"))


@dataclass(frozen=True)
class GridPartners:
    """The partners of a grid's samples for some shared factors: arithmetic, so it needs no arrays."""

    grid: FactorGrid
    shared: tuple[str, ...]

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) another sample that agrees in the shared factors."""
        return self.grid.partners(ids, self.shared, seed=seed, draw=draw)


@dataclass(frozen=True)
class _Grouping:
    group: npt.NDArray[np.int32]
    drawing: Drawing
    merged: int = 0


def _grouping(store: Store, record: Mapping[str, Any]) -> _Grouping:
    """Group the samples of a store by a partition's factors."""
    factors, stream = record["factors"], record["stream"]
    if "factors" not in store.manifest:
        group, merged = group_by_labels(store.sample_columns(factors))
        return _Grouping(group, Drawing(Members.of(group), stream), merged)
    grid = FactorGrid.of(store.manifest["factors"])
    if grid.size != len(store):
        why = f"Its factors have {grid.size} combinations, it holds {len(store)} samples."
        raise GatedVAEError(f"{store.path} is not a full factor grid.", why, REBUILD)
    group = grid.group(np.arange(grid.size), factors).astype(np.int32)
    return _Grouping(group, Drawing(GridPartners(grid, tuple(factors)), stream))


def group_by_labels(labels: pd.DataFrame) -> tuple[npt.NDArray[np.int32], int]:
    """Group rows that agree in every column; rows that agree with no other join the nearest group in sorted order.

    Returns
    -------
    Group of each row, int32 (N,), numbered in the sorted order of the labels, and how many rows joined another group.

    Raises
    ------
    GatedVAEError
        When a value is missing, or most rows agree with no other.
    """
    names = ", ".join(labels.columns)
    missing = int(labels.isna().any(axis=1).sum())
    if missing:
        why = f"{missing} of {len(labels)} samples have no value."
        raise GatedVAEError(f"Pairs cannot share {names}.", why, "Preprocess again with a source that labels them all.")
    code = labels.groupby(list(labels.columns), sort=True).ngroup().to_numpy()
    sizes = np.bincount(code)
    alone = int((sizes == 1).sum())
    if 2 * alone > len(code):
        why = f"{alone} of {len(code)} samples agree with no other."
        raise GatedVAEError(
            f"Pairs cannot share {names}.", why, "Share fewer factors, or group by likeness: `pipe cluster`."
        )
    return _nearest_shared(sizes)[code].astype(np.int32), alone


def _nearest_shared(sizes: npt.NDArray[np.int64]) -> Ids:
    """Renumber groups so that each of one member takes the number of the nearest that has more (the earlier of two)."""
    shared = np.flatnonzero(sizes > 1)
    after = np.searchsorted(shared, np.arange(len(sizes))).clip(max=len(shared) - 1)
    before = (after - 1).clip(min=0)
    distance = np.abs(shared[[before, after]] - np.arange(len(sizes)))
    return np.where(distance[0] <= distance[1], before, after)


def _move(progress: Progress, before: int, total: int, done: int) -> None:
    """Report `done` rows of one table, with those `before` it."""
    progress(before + done, total)


def _report(name: str, record: Mapping[str, Any], already_done: bool) -> ExactPartition:
    return ExactPartition(name, tuple(record["factors"]), record["groups"], record["merged"], already_done)
