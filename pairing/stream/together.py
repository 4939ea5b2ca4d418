"""Batches of several partitions at once: every input beside its partner in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt
import torch

from gated_vae.pairing.stream.cut import Batch, Batches, Cut, Images
from gated_vae.pairing.stream.order import share_of_rank
from gated_vae.preprocessing.errors import GatedVAEError

Probability = Callable[[int], float]  # of a step, counted over all epochs from 1


def never(step: int) -> float:  # noqa: ARG001
    """No sample is its own partner."""
    return 0.0


class Together:
    """Batches of several partitions with the same inputs: `sources` has those of each, `pairs` an epoch, cut alike.

    A sample stands in for its own partner with probability `itself`, drawn for each partition and sample.

    `GatedVAEError` when the partitions visit their inputs in different orders (while iterating, too).
    """

    def __init__(self, sources: Sequence[Batches], cut: Cut, pairs: int, itself: Probability = never) -> None:
        self._sources, self._cut, self._pairs, self._itself = sources, cut, pairs, itself
        if len({len(source) for source in sources}) > 1:
            raise _apart()

    def __len__(self) -> int:
        return len(self._sources[0])

    def epoch(
        self, seed: int, epoch: int, first_step: int = 0, *, every: int = 1, images: bool = True
    ) -> Iterator[Batch]:
        """Yield the batch of every so-many-th step from `first_step` to the end of the epoch."""
        sources = (source.epoch(seed, epoch, first_step, every=every, images=images) for source in self._sources)
        for step, batches in zip(count(first_step, every), zip(*sources, strict=True), strict=False):
            _, input_id, target_id, group, _, target, _ = map(list, zip(*batches, strict=True))
            if any(not np.array_equal(input_id[0], other) for other in input_id[1:]):
                raise _apart()
            own = self._own(seed, epoch, step)
            partners = np.where(own, input_id[0], np.stack(target_id))
            pixels = np.where(_over(own, batches[0].input), batches[0].input, np.stack(target)) if images else None
            yield Batch(None, input_id[0], partners, np.stack(group), batches[0].input, pixels)

    def _own(self, seed: int, epoch: int, step: int) -> npt.NDArray[np.bool_]:
        """Which samples are their own partner, (P, B): a pure function of (seed, step over all epochs), cut like the batch."""
        cut, number = self._cut, epoch * len(self) + step + 1
        rows = min(cut.global_batch, self._pairs - step * cut.global_batch)
        generator = torch.Generator().manual_seed((seed * 0x94D049BB133111EB + number * 0x9E3779B97F4A7C15 + 2) % 2**63)
        own = torch.rand(len(self._sources), rows, generator=generator) < self._itself(number)
        return own.numpy()[:, share_of_rank(rows, cut.rank, cut.world_size)]


def _over(own: npt.NDArray[np.bool_], images: Images) -> npt.NDArray[np.bool_]:
    """What holds of samples (P, B) as (P, B, 1, ...), to be broadcast over their images (B, ...)."""
    return own.reshape(*own.shape, *[1] * (images.ndim - 1))


def _apart() -> GatedVAEError:
    why = "Their tables are cut into different blocks, as they were made with different --draws."
    remedy = "Make them with the same --draws: `pipe cluster` or `pipe pair` with --overwrite."
    return GatedVAEError("The partitions' pairs do not come together.", why, remedy)
