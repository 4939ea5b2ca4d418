"""Batches of pairs for a trainer: streamed from a store in bounded memory, resumable from a few integers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pairing.exact import FactorGrid
from pairing.order import Shuffle, partition_of_step, share_of_rank
from pairing.tables import PairTable
from preprocessing.errors import GatedVAEError
from preprocessing.store import Store, open_store, pairs_path

WINDOW_ROWS = 2**20  # pairs shuffled together: about 24 MB a partition

Ids = npt.NDArray[np.int64]
Rows = tuple[Ids, Ids, Ids]  # input_id, target_id, group: (n,) each


class PairSource(Protocol):
    """Where one partition's pairs come from, block by block."""

    @property
    def block_sizes(self) -> list[int]:
        """Pairs of one draw in each block."""

    def block(self, index: int, draw: int) -> Rows:
        """The pairs of one block and draw."""


@dataclass(frozen=True)
class ExactPairs:
    """Pairs of a full factor grid, computed rather than read: every epoch has fresh ones.

    They are those that the table on disk would hold had it that many draws.
    """

    grid: FactorGrid
    factors: tuple[str, ...]
    seed: int
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
        target = self.grid.partners(ids, self.factors, seed=self.seed, draw=draw)
        return ids, target, self.grid.group(ids, self.factors).astype(np.int64)


def pair_source(store: Store, partition: str) -> PairSource:
    """Open the pairs of one partition of a store."""
    made = store.partitions.get(partition)
    if made is None:
        why = f"It has {', '.join(store.partitions) or 'none yet'}."
        raise GatedVAEError(f"{store.path} has no partition {partition}.", why, "Run `pipe cluster` or `pipe pair`.")
    if made["method"] == "exact" and "factors" in store.manifest:
        grid = FactorGrid.of(store.manifest["factors"])
        return ExactPairs(grid, tuple(made["factors"]), int(made["seed"]))
    return PairTable(pairs_path(store.path, partition))


class PairStream:
    """The pairs of one partition in one epoch, in visiting order; holds one window at a time."""

    def __init__(self, source: PairSource, shuffle: Shuffle) -> None:
        self._source, self._shuffle = source, shuffle
        sizes = np.asarray(source.block_sizes, np.int64)
        self._windows = shuffle.windows(len(sizes))
        self._starts = np.cumsum([0, *(int(sizes[blocks].sum()) for blocks in self._windows)])
        self._window: tuple[int, Rows] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, start: int, stop: int) -> Rows:
        """The pairs at positions start .. stop - 1 of the epoch."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for window in range(first, len(self._windows)):
            base = int(self._starts[window])
            if base >= stop:
                break
            columns = self._load(window)
            parts.append([column[max(start - base, 0) : stop - base] for column in columns])
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


@dataclass(frozen=True)
class PairBatch:
    """One training batch.

    Attributes
    ----------
    partition:
        The partition whose factors the pairs share.
    input_id, target_id, group:
        int64 (B,).
    input, target:
        Images, uint8 (B, H, W).
    """

    partition: str
    input_id: torch.Tensor
    target_id: torch.Tensor
    group: torch.Tensor
    input: torch.Tensor
    target: torch.Tensor


class PairLoader:
    """Iterate over the batches of an epoch; partitions take turns from step to step.

    Every pair of the epoch comes exactly once, to exactly one rank. The last batch of a partition is smaller where the pairs
    do not divide evenly. Iterating again goes on with the next epoch; after `load_state_dict`, with the next step.

    Parameters
    ----------
    source:
        A store's folder, or the address of a pairing service.
    batch_size:
        Pairs per batch and rank.
    seed:
        Decides the order, together with the epoch. (Which pairs there are was decided when they were made.)
    epoch:
        The first epoch. Epoch e visits the pairs of draw e; a table that holds K draws repeats after K epochs.
    rank, world_size:
        This process and the number of processes that share the pairs.
    partitions:
        The partitions to visit, in this order; all of the store's by default.
    prefetch:
        Batches prepared ahead in a background thread; 0 prepares them when asked. The batches are the same.

    Raises
    ------
    GatedVAEError
        When the store has no pairs.
    """

    def __init__(
        self,
        source: str | Path,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        partitions: list[str] | None = None,
        prefetch: int = 2,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            why = f"Got batch_size {batch_size}, rank {rank} of {world_size}."
            raise GatedVAEError(
                "The loader cannot cut such batches.", why, "Give a positive size and 0 <= rank < world."
            )
        self.store = open_store(source)
        self.partitions = partitions or list(self.store.partitions)
        if not self.partitions:
            raise GatedVAEError(f"{source} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.epoch, self.step, self._prefetch = epoch, 0, prefetch
        self._sources = [pair_source(self.store, name) for name in self.partitions]
        self._images = np.asarray(self.store.images)
        self._batches = [-(-sum(source.block_sizes) // self._global_batch) for source in self._sources]

    @property
    def _global_batch(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Steps in an epoch, over all partitions."""
        return sum(self._batches)

    def state_dict(self) -> dict[str, int]:
        """The position as four integers: the batches handed out so far, not those prepared ahead."""
        return {"seed": self.seed, "epoch": self.epoch, "step": self.step, "global_batch": self._global_batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position; the number of ranks may differ from the saved one's, the global batch may not."""
        if state["global_batch"] != self._global_batch:
            why = (
                f"The position counts batches of {state['global_batch']} pairs, this loader makes {self._global_batch}."
            )
            raise GatedVAEError("The loader's position does not fit.", why, "Use the batch size it was saved with.")
        self.seed, self.epoch, self.step = state["seed"], state["epoch"], state["step"]

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the remaining batches of the epoch, then turn to the next epoch."""
        batches = self._epoch(self.epoch, self.step)
        for batch in prefetched(batches, self._prefetch) if self._prefetch else batches:
            self.step += 1
            yield batch
        self.epoch, self.step = self.epoch + 1, 0

    def _epoch(self, epoch: int, first_step: int) -> Iterator[PairBatch]:
        streams = [
            PairStream(source, Shuffle(self.seed, epoch, index, max(1, WINDOW_ROWS // max(source.block_sizes))))
            for index, source in enumerate(self._sources)
        ]
        for step in range(first_step, len(self)):
            index, batch = partition_of_step(step, self._batches)
            yield self._batch(self.partitions[index], streams[index], batch)

    def _batch(self, partition: str, stream: PairStream, batch: int) -> PairBatch:
        start = batch * self._global_batch
        stop = min(start + self._global_batch, len(stream))
        share = share_of_rank(stop - start, self.rank, self.world_size)
        ids = stream.rows(start + share.start, start + share.stop) if share.start < share.stop else _no_rows()
        input_id, target_id, group = (torch.from_numpy(column) for column in ids)
        return PairBatch(partition, input_id, target_id, group, self._gather(ids[0]), self._gather(ids[1]))

    def _gather(self, ids: Ids) -> torch.Tensor:
        return torch.from_numpy(self._images.take(ids, axis=0))


def _no_rows() -> Rows:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)


def prefetched(items: Iterator[Any], depth: int) -> Iterator[Any]:
    """Yield `items` in their order, produced up to `depth` ahead in a thread that ends with the iteration."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # handed to the consumer, who raises it
            put(("error", error))

    thread = threading.Thread(target=produce, name="pair-loader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        thread.join()
