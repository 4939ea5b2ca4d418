"""The batches of an epoch as plain arrays: what the loader hands to a trainer and the service sends over the wire.

A batch is a pure function of (store, cut, seed, epoch, step), so whoever computes it gets the same bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from gated_vae.pairing.groups.grid import CHANGE, EXACT, FactorGrid
from gated_vae.pairing.rules.base import Ids, Partners
from gated_vae.pairing.stream.cut import Batch, Cut, Images
from gated_vae.pairing.stream.order import Shuffle, partition_of_step, share_of_rank
from gated_vae.pairing.tables import PairTable, Rows
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.store import Store, samples_path

# What decides a partition, of its record.
_DECIDES = ("method", "shared", "turns", "apart", "given", "k", "rule", "independent_of", "seed", "stream", "draws")
WINDOW_ROWS = 2**20  # pairs shuffled together: about 24 MB a partition


@dataclass(frozen=True)
class GridPairs:
    """Pairs of a full factor grid, computed rather than read: every epoch has fresh ones.

    They are those that the table on disk would hold had it that many draws. `shared` factors make the groups, one where there are
    none.
    """

    grid: FactorGrid
    shared: Sequence[str]
    partners: Partners
    block_rows: int = 2**18

    @property
    def block_sizes(self) -> list[int]:
        """Pairs of one draw in each block."""
        size = self.grid.size
        return [min(self.block_rows, size - start) for start in range(0, size, self.block_rows)]

    def block(self, index: int, draw: int) -> Rows:
        """The pairs of one block and draw."""
        start = index * self.block_rows
        ids = np.arange(start, min(start + self.block_rows, self.grid.size), dtype=np.int64)
        group = self.grid.group(ids, self.shared) if self.shared else np.zeros_like(ids)
        return ids, self.partners(ids, draw), group.astype(np.int64)


PairSource = PairTable | GridPairs


def partition_record(store: Store, partition: str) -> dict[str, Any]:
    """How a partition was made; an error that lists the others where there is no such one."""
    made = store.partitions.get(partition)
    if made is None:
        why = f"It has {', '.join(store.partitions) or 'none yet'}."
        raise GatedVAEError(f"{store.path} has no partition {partition}.", why, "Run `pipe cluster` or `pipe pair`.")
    return made


def decided(record: dict[str, Any]) -> dict[str, Any]:
    """What decided a partition, of its record: not what came out and was measured, whose last digits differ by processor."""
    return {key: record[key] for key in _DECIDES if key in record}


def pairs_digest(store: Store, partitions: Iterable[str]) -> str:
    """SHA-256 of what decides the pairs of partitions: the samples' labels, and how each partition was made."""
    records = (json.dumps([name, decided(store.partitions.get(name, {}))]) for name in partitions)
    return digest(store.digest_of(samples_path), *records)


def pair_source(store: Store, partition: str) -> PairSource:
    """Open the pairs of one partition of a store."""
    made = partition_record(store, partition)
    if made["method"] in (EXACT, CHANGE) and (grid := FactorGrid.of(store)):
        return GridPairs(grid, made["shared"], grid.drawing(made))
    return PairTable.of(store, partition)


class PairStream:
    """The pairs of one partition in one epoch, in visiting order; holds one window at a time."""

    def __init__(self, source: PairSource, shuffle: Shuffle) -> None:
        self._source, self._shuffle = source, shuffle
        sizes = np.asarray(source.block_sizes, np.int64)
        self._windows = shuffle.windows(len(sizes))
        self._starts = [0, *accumulate(int(sizes[blocks].sum()) for blocks in self._windows)]
        self._window: tuple[int, Rows] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, start: int, stop: int) -> Rows:
        """The pairs at positions start .. stop - 1 of the epoch."""
        parts = [[np.empty(0, np.int64)] * 3]
        for window in range(bisect_right(self._starts, start) - 1, bisect_left(self._starts, stop)):
            base = self._starts[window]
            parts.append([column[max(start - base, 0) : stop - base] for column in self._load(window)])
        input_id, target_id, group = (np.concatenate(column) for column in zip(*parts, strict=True))
        return input_id, target_id, group

    def _load(self, window: int) -> Rows:
        if self._window is None or self._window[0] != window:
            self._window = None  # before the next is read, so that only one is held
            draw = self._shuffle.epoch
            blocks = [self._source.block(int(block), draw) for block in self._windows[window]]
            order = self._shuffle.rows(window, sum(len(block[0]) for block in blocks))
            input_id, target_id, group = (np.concatenate(column)[order] for column in zip(*blocks, strict=True))
            self._window = window, (input_id, target_id, group)
        return self._window[1]


class StoreBatches:
    """The batches of a local store; its length is the steps of an epoch, over all partitions."""

    def __init__(self, store: Store, cut: Cut) -> None:
        self._cut = cut
        self._sources = [pair_source(store, name) for name in cut.partitions]
        self._images = np.asarray(store.images)
        self._steps = [cut.steps(sum(source.block_sizes)) for source in self._sources]

    def __len__(self) -> int:
        return sum(self._steps)

    def epoch(
        self, seed: int, epoch: int, first_step: int = 0, *, every: int = 1, images: bool = True
    ) -> Iterator[Batch]:
        """Yield this rank's batch of every so-many-th step from `first_step` to the end of the epoch."""
        streams = [
            PairStream(source, Shuffle(seed, epoch, index, max(1, WINDOW_ROWS // max(source.block_sizes))))
            for index, source in enumerate(self._sources)
        ]
        for step in range(first_step, len(self), every):
            index, batch = partition_of_step(step, self._steps)
            rows = self._rows(streams[index], batch)
            pixels = (self.gather(rows[0]), self.gather(rows[1])) if images else (None, None)
            yield Batch(self._cut.partitions[index], *rows, *pixels)

    def _rows(self, stream: PairStream, batch: int) -> Rows:
        start = batch * self._cut.global_batch
        stop = min(start + self._cut.global_batch, len(stream))
        share = share_of_rank(stop - start, self._cut.rank, self._cut.world_size)
        return stream.rows(start + share.start, start + share.stop)

    def gather(self, ids: Ids) -> Images:
        """Images of samples, uint8 (n, H, W) for ids (n,)."""
        return self._images.take(ids, axis=0)
