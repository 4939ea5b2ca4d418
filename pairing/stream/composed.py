"""Targets composed of the factors of several images: what a full factor grid allows beside pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.rules.base import Ids
from gated_vae.pairing.stream.batches import StoreBatches, partition_record
from gated_vae.pairing.stream.cut import Batch
from gated_vae.pairing.stream.together import Probability, never
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

_REMEDY = "Use --method partners, which needs pairs alone."


class Composition:
    """Finds the sample that has one sample's position, another's shape and so on.

    A code of each sample is then a partner for its target in one partition. Against partners drawn for every target apart, a
    step encodes one image for each one decoded instead of P.

    Parameters
    ----------
    store:
        A store of a full factor grid.
    partitions:
        Partitions in the order of the rows of `sources` below. Where one shares factors with an earlier one, samples are chosen
        that agree in them. What none of them shares comes from a target's own row.

    Raises
    ------
    GatedVAEError
        When the store has no grid, a partition is missing or not exact, or one shares factors with two that come before.
    """

    def __init__(self, store: Store, partitions: Sequence[str]) -> None:
        records = [partition_record(store, name) for name in partitions]
        grid = FactorGrid.of(store)
        if grid is None or any(record["method"] != "exact" for record in records):
            why = "Targets are composed of known factors, of which there must be every combination (dSprites)."
            raise GatedVAEError(f"Nothing can be composed in {store.path}.", why, _REMEDY)
        self._sizes = np.array(grid.sizes, np.int64)
        self._strides = grid.size // np.cumprod(self._sizes)
        self._columns = [[grid.names.index(factor) for factor in record["shared"]] for record in records]
        self._in_common = [self._earlier(place, partitions) for place in range(len(partitions))]

    def _earlier(self, place: int, partitions: Sequence[str]) -> list[int]:
        """The factors that a partition shares with an earlier one."""
        mine = self._columns[place]
        found = [other for other in range(place) if set(mine) & set(self._columns[other])]
        if len(found) > 1:
            others = " and ".join(partitions[other] for other in found)
            why = f"{partitions[place]} has factors in common with {others}."
            raise GatedVAEError("Targets cannot be composed: no image need have all of them.", why, _REMEDY)
        return [column for other in found for column in mine if column in self._columns[other]]

    def compose(self, ids: Ids, itself: float, random: np.random.Generator) -> tuple[Ids, Ids]:
        """Deal the factors of a batch out to targets.

        Parameters
        ----------
        ids:
            The batch's samples, int64 (B,).
        itself:
            How often a partition's factors stay where they are, 0 .. 1. (Where it must agree with an earlier partition, only if
            they do.)

        Returns
        -------
        The row of `ids` that gives each partition's factors to each target, int64 (P, B), and the targets, int64 (B,).
        """
        classes = ids[:, None] // self._strides % self._sizes
        composed = classes.copy()
        rows = np.arange(len(ids))
        sources = np.empty((len(self._columns), len(ids)), np.int64)
        for own, columns, in_common in zip(sources, self._columns, self._in_common, strict=True):
            keys, wanted = (table[:, in_common] @ self._strides[in_common] for table in (classes, composed))
            stays = (random.random(len(ids)) < itself) & (keys == wanted)
            own[:] = np.where(stays, rows, deal(keys, wanted, random))
            composed[:, columns] = classes[own][:, columns]
        return sources, composed @ self._strides


class ComposedBatches:
    """The inputs of a store's batches beside targets composed of their factors, which stay in place with probability `itself`."""

    def __init__(self, batches: StoreBatches, composition: Composition, itself: Probability = never) -> None:
        self._batches, self._composition, self._itself = batches, composition, itself

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(
        self, seed: int, epoch: int, first_step: int = 0, *, every: int = 1, images: bool = True
    ) -> Iterator[Batch]:
        """Yield the batch of every so-many-th step from `first_step` on; dealt by (seed, step over all epochs)."""
        gather = self._batches.gather
        batches = self._batches.epoch(seed, epoch, first_step, every=every, images=False)
        for step, batch in zip(count(first_step, every), batches, strict=False):
            number, ids = epoch * len(self) + step + 1, batch.input_id
            random = np.random.default_rng([seed, number])
            sources, target_id = self._composition.compose(ids, self._itself(number), random)
            composed = Batch(None, ids, target_id, batch.group, sources=sources)
            yield composed._replace(input=gather(ids), target=gather(target_id)) if images else composed


def deal(keys: Ids, wanted: Ids, random: np.random.Generator) -> Ids:
    """For each of `wanted` (B,) a row of `keys` (B,) that equals it, at random and each row as often as the others of its key.

    Where both are the same multiset, every row is dealt once: without keys (all equal) this is a permutation. Every wanted key
    must be there.
    """
    have, need = random.permutation(len(keys)), random.permutation(len(wanted))
    have, need = have[np.argsort(keys[have], kind="stable")], need[np.argsort(wanted[need], kind="stable")]
    ascending, asked = keys[have], wanted[need]
    start, stop = np.searchsorted(ascending, asked), np.searchsorted(ascending, asked, side="right")
    turn = np.arange(len(asked)) - np.searchsorted(asked, asked)
    dealt = np.empty(len(wanted), np.int64)
    dealt[need] = have[start + turn % (stop - start)]
    return dealt
