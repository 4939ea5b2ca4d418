"""Pairs of `pipe pair`: of samples that agree in labels, by a grid's arithmetic or by the values of columns; and of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from gated_vae.pairing.groups.equal import group_by_labels
from gated_vae.pairing.groups.grid import CHANGE, EXACT, FactorGrid
from gated_vae.pairing.labels import choose_columns
from gated_vae.pairing.partition import Grouped, Plan, Record, describe, make_partitions, pairs_made
from gated_vae.pairing.rules.base import Members, drawing
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import Store, open_store


class Pairing(Protocol):
    """What pairs of a partition are: `method` is what its record calls them."""

    method: ClassVar[str]

    def decides(self, store: Store) -> Record:
        """What decides the pairs, for the partition's record: `shared` and more. `GatedVAEError` where there can be none."""

    def group(self, store: Store, record: Record) -> Grouped:
        """Group the samples; `GatedVAEError` where they cannot be grouped so."""


@dataclass(frozen=True)
class ExactPartition:
    """What became of one partition.

    Attributes
    ----------
    name, shared, how:
        The partition, what its pairs share, in the order of the store's columns, and how they were made, in a few words.
    groups:
        Number of groups.
    merged:
        Samples that were alone and joined the group whose labels come nearest in sorted order.
    draws:
        How often every sample is an input.
    already_done:
        True when it was there already and nothing was written.
    """

    name: str
    shared: tuple[str, ...]
    how: str
    groups: int
    merged: int
    draws: int
    already_done: bool

    @classmethod
    def of(cls, name: str, record: Record, already_done: bool) -> ExactPartition:
        """Read it from a partition's record."""
        counts = {key: record[key] for key in ("groups", "merged", "draws")}
        return cls(name, tuple(record["shared"]), pairs_made(record), **counts, already_done=already_done)


def pair_exactly(
    store: Store,
    shares: Mapping[str, Sequence[str] | Pairing],
    *,
    draws: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> tuple[ExactPartition, ...]:
    """Write groups and pairs of samples that agree in label columns, or of another kind, and record them in the store.

    Partitions are recorded one by one, so an interrupted run goes on with the first that is missing.

    Parameters
    ----------
    shares:
        Partition -> the columns (of a grid: factors) its pairs share, or what else they are. New partitions join the store's in
        this order.
    draws:
        How often every sample is an input in the table; when None, as often as in the store's other partitions (once where
        there are none), and a partition that is there keeps its number.
    seed:
        Which of the possible pairings.
    overwrite:
        Replace partitions of these names that were made otherwise.
    progress:
        Told how many of the pairs are written.

    Raises
    ------
    GatedVAEError
        When a column does not exist or lacks values, when what is shared leaves most samples alone or is the same in all, or
        when a partition of that name was made otherwise. Nothing is written then.
    """
    with locked(store.path):
        store = open_store(store.path)
        plans = []
        for name, wanted in shares.items():
            pairing = Share(tuple(wanted)) if isinstance(wanted, Sequence) else wanted
            count = _draws(store, name, shares, overwrite) if draws is None else draws
            record = describe(name, pairing.method, draws=count, seed=seed, **pairing.decides(store))
            grouped = pairing.group(store, record)  # at once, as that refuses what cannot be grouped
            plans.append(Plan(name, record, lambda grouped=grouped: grouped))  # type: ignore[misc]
        made = make_partitions(store, plans, overwrite=overwrite, progress=progress)
    return tuple(ExactPartition.of(name, record, there) for name, (record, there) in made.items())


def shareable(store: Store) -> tuple[str, ...]:
    """What pairs of a store can share: the factors of a grid, else the columns that describe samples, each by one value."""
    if grid := FactorGrid.of(store):
        return grid.names
    return tuple(name for name in store.columns if name not in ("sample_id", "image"))


def _draws(store: Store, name: str, made_now: Mapping[str, object], overwrite: bool) -> int:
    """How many draws a partition has where nobody says."""
    partitions = store.partitions
    if name in partitions and not overwrite:
        return int(partitions[name]["draws"])
    return max((int(made["draws"]) for other, made in partitions.items() if other not in made_now), default=1)


@dataclass(frozen=True)
class Share:
    """Pairs that agree in columns, or in factors of a grid."""

    method: ClassVar[str] = EXACT
    columns: tuple[str, ...]

    def decides(self, store: Store) -> Record:
        """What is shared, in the store's order."""
        return {"shared": [*choose_columns(self.columns, shareable(store))]}

    def group(self, store: Store, record: Record) -> Grouped:
        """Group the samples by their values; refused where these are the same in all, unlike other pairs in a single group."""
        shared, merged = record["shared"], 0
        if grid := FactorGrid.of(store):
            group = grid.group(np.arange(grid.size), shared).astype(np.int32)
            partners = grid.drawing(record)
        else:
            group, merged = group_by_labels(store.sample_columns(shared), store.training)
            partners = drawing(UniformPartners(Members.of(group[: store.training])), record["stream"])
        results = {"groups": int(group[: store.training].max()) + 1, "merged": merged}
        if results["groups"] == 1:
            why = f"All {store.training} samples are in one group: partners would be random."
            raise GatedVAEError(f"Pairs cannot share {', '.join(shared)}.", why, "Share columns that differ.")
        return Grouped(group, partners, results)


@dataclass(frozen=True)
class Change:
    """Pairs of a grid that differ in exactly `k` factors, drawn for each pair, and agree in all others (Locatello et al. 2020)."""

    method: ClassVar[str] = CHANGE
    k: int

    def decides(self, store: Store) -> Record:
        """How many factors change. Nothing is shared by all pairs.

        `GatedVAEError` when there is no grid, or it has no more factors than change.
        """
        what = f"Pairs cannot differ in just {self.k} factors."
        grid = FactorGrid.of(store)
        if grid is None:
            why = f"{store.path} is no full grid of factors (dSprites, Shapes3D, MPI3D): partners need not be there."
            raise GatedVAEError(what, why, "Use --share, --follow or --pairs.")
        factors = [name for name, size in zip(grid.names, grid.sizes, strict=True) if size > 1]
        if not 0 < self.k < len(factors):
            why = (
                f"{len(factors)} vary ({', '.join(factors)}), of which one at least has to change and one to be shared."
            )
            remedy = f"Give a number from 1 to {len(factors) - 1}." if len(factors) > 1 else "Take a store with more."
            raise GatedVAEError(what, why, remedy)
        return {"shared": [], "k": self.k}

    def group(self, store: Store, record: Record) -> Grouped:
        """All samples are one group."""
        grid = FactorGrid.of(store)
        assert grid is not None
        return Grouped(np.zeros(len(store), np.int32), grid.drawing(record), {"groups": 1, "merged": 0})


def parse_change(text: str) -> tuple[str, Change]:
    """Read ``K`` or ``NAME=K``: the partition's name, ``changed`` if there is none, and what its pairs are.

    `UsageError` when it cannot be read.
    """
    name, equals, number = text.rpartition("=")
    if not number.strip().isdecimal() or bool(equals) != bool(name.strip()):
        why = "K is how many factors change, a whole number."
        raise UsageError(f"--change {text} cannot be read.", why, "Write --change K or --change NAME=K.")
    return name.strip() or "changed", Change(int(number))
