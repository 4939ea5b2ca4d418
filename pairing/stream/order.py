"""The order of an epoch: a pure function of (seed, epoch, partition), so resuming is arithmetic and needs no state.

Pairs lie on disk in blocks. An epoch visits the blocks in a random order, a window of several at a time, and the pairs of a
window in a random order: memory is bounded by the window whatever the size of the table, and a table that fits into one window
is shuffled as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Shuffle:
    """What decides the order of one partition in one epoch.

    Attributes
    ----------
    seed, epoch:
        The loader's seed and the epoch, both non-negative.
    stream:
        Number of the partition, so that partitions are shuffled independently.
    window:
        Number of blocks that are shuffled together.
    """

    seed: int
    epoch: int
    stream: int
    window: int

    def generator(self, *key: int) -> np.random.Generator:
        """A generator of its own for every key."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.epoch, self.stream, *key])))

    def windows(self, blocks: int) -> list[npt.NDArray[np.int64]]:
        """The numbers of all `blocks` in visiting order, cut into windows."""
        order = self.generator(0).permutation(blocks)
        return [order[start : start + self.window] for start in range(0, blocks, self.window)]

    def rows(self, window: int, size: int) -> npt.NDArray[np.int64]:
        """The visiting order (size,) of the rows of one window, counted through its blocks one after the other."""
        return self.generator(1, window).permutation(size)


def share_of_rank(size: int, rank: int, world_size: int) -> slice:
    """The part of a global batch of `size` pairs that one rank takes: contiguous, sizes differ by one at the most."""
    return slice(size * rank // world_size, size * (rank + 1) // world_size)


def partition_of_step(step: int, batches: list[int]) -> tuple[int, int]:
    """Which partition the step of an epoch takes, and which of its batches: (partition, batch).

    Partitions take turns; one that has run out (`batches` holds how many each has) is passed over.
    """
    left, done = step, 0
    for end in sorted(set(batches)):
        alive = [index for index, count in enumerate(batches) if count > done]
        if left < (end - done) * len(alive):
            return alive[left % len(alive)], done + left // len(alive)
        left -= (end - done) * len(alive)
        done = end
    raise IndexError(f"Step {step} is beyond the {sum(batches)} steps of the epoch.")
