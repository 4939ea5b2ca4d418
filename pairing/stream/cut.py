"""What a batch is, and how an epoch is cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.rules.base import Ids
from gated_vae.preprocessing.errors import GatedVAEError

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cut:
    """How an epoch is cut into batches.

    Attributes
    ----------
    partitions:
        The partitions that take turns, in this order.
    batch_size:
        Pairs per batch and rank.
    rank, world_size:
        Which part of every batch is taken, of how many.

    Raises
    ------
    GatedVAEError
        When no batch can be cut so.
    """

    partitions: tuple[str, ...]
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if len(set(self.partitions)) < len(self.partitions):
            raise GatedVAEError("The loader cannot cut such batches.", "A partition is named twice.", "Name each once.")
        if self.batch_size < 1 or not 0 <= self.rank < self.world_size:
            why = f"Got batch_size {self.batch_size}, rank {self.rank} of {self.world_size}."
            remedy = "Give a positive size and 0 <= rank < world."
            raise GatedVAEError("The loader cannot cut such batches.", why, remedy)

    @property
    def global_batch(self) -> int:
        """Pairs per batch over all ranks."""
        return self.batch_size * self.world_size

    def steps(self, pairs: int) -> int:
        """Batches that so many pairs of one partition make; the last may be smaller."""
        return -(-pairs // self.global_batch)


class Batch(NamedTuple):
    """One training batch as arrays: ids int64 (B,), images uint8 (B, H, W) where they come along.

    Where partitions come together, `partition` is None, and `target_id`, `group` and `target` have one more dimension in front.
    Where targets are composed, it is None, too, and `sources`, int64 (P, B), says which row gives each partition to each target.
    """

    partition: str | None
    input_id: Ids
    target_id: Ids
    group: Ids
    input: Images | None = None
    target: Images | None = None
    sources: Ids | None = None


class Batches(Protocol):
    """Where a loader's batches come from: `StoreBatches`, `ServiceBatches`, or made of them: `Together`, `ComposedBatches`."""

    def __len__(self) -> int:
        """Steps in an epoch."""

    def epoch(
        self, seed: int, epoch: int, first_step: int = 0, *, every: int = 1, images: bool = True
    ) -> Iterator[Batch]:
        """The batches of `first_step` and every so-many-th step after it in the epoch, with their images or without."""
