"""The sample ids of many steps at a time, for several seeds: what a stack of models is fed with.

Worker processes walk through the very batches that a run of one seed would see, so that order, partners and composed targets are
those of `PairLoader`, whoever trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gated_vae.models.methods.base import self_reconstruction_at
from gated_vae.pairing.stream.cut import Batch
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.training.config import TrainConfig


@dataclass(frozen=True)
class IdChunk:
    """The ids of K steps of S models, of batches of one size.

    Attributes
    ----------
    partition:
        Which partition's turn it is, int64 (K,), -1 where it is nobody's; the same for all models.
    input, target:
        int32 (S, K, B); targets of partitions together (S, K, P, B).
    sources:
        Of composed targets, int32 (S, K, P, B), else None.
    position:
        Each model's loader after the K steps.
    """

    partition: torch.Tensor
    input: torch.Tensor
    target: torch.Tensor
    sources: torch.Tensor | None
    position: list[dict[str, int]]

    @property
    def steps(self) -> int:
        """K."""
        return len(self.partition)


Columns = list[npt.NDArray[Any]]
Item = tuple[Columns, dict[str, int]]


class _Walk:
    """One member's batches of ids, from a position on."""

    def __init__(self, config: TrainConfig, position: dict[str, int] | None, first: int, last: int) -> None:
        method = config.model.method
        self._loader = PairLoader(
            config.store,
            config.batch_size,
            seed=config.seed,
            partitions=list(config.model.latent),
            batches=method.batches,
            prefetch=0,
        )
        self._loader.itself = lambda step: self_reconstruction_at(method, step, last)
        if position:
            self._loader.load_state_dict(position)
        self._places = {name: place for place, name in enumerate(config.model.latent)}
        self._left, self._batches = last - first, self._endless()
        self._next = next(self._batches)

    def _endless(self) -> Iterator[tuple[Batch, dict[str, int]]]:
        """Every batch that is large enough for batch statistics, and the loader's position after it."""
        while True:
            for batch in self._loader.ids():
                if len(batch.input_id) >= 2:
                    yield batch, self._loader.state_dict()

    def take(self, chunk: int) -> Item:
        """The next steps' partitions, inputs, targets and sources, all of one size, and the loader's position after them."""
        batches: list[Batch] = []
        size = len(self._next[0].input_id)
        while self._left and len(batches) < chunk and len(self._next[0].input_id) == size:
            batch, position = self._next
            batches.append(batch)
            self._left -= 1
            self._next = next(self._batches)
        columns: Columns = [np.array([self._places.get(batch.partition or "", -1) for batch in batches])]
        columns += [np.stack([batch.input_id for batch in batches]), np.stack([batch.target_id for batch in batches])]
        if batches[0].sources is not None:
            columns.append(np.stack([batch.sources for batch in batches if batch.sources is not None]))
        return [column.astype(np.int32) for column in columns], position

    @property
    def done(self) -> bool:
        """Whether the last step was taken."""
        return not self._left


@dataclass
class _Members(IterableDataset[Item]):
    """Chunks of every member in turn; a worker process has every so-many-th member."""

    configs: Sequence[TrainConfig]
    positions: Sequence[dict[str, int] | None]
    first: int
    last: int
    chunk: int

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        mine = range(worker.id, len(self.configs), worker.num_workers) if worker else range(len(self.configs))
        walks = [_Walk(self.configs[index], self.positions[index], self.first, self.last) for index in mine]
        while not walks[0].done:
            for walk in walks:
                yield walk.take(self.chunk)


def id_chunks(
    configs: Sequence[TrainConfig],
    positions: Sequence[dict[str, int] | None],
    first: int,
    last: int,
    *,
    chunk: int = 2048,
    workers: int = 0,
) -> Iterator[IdChunk]:
    """The ids of steps `first` + 1 .. `last`, at most `chunk` at a time, batches of one size in each.

    Parameters
    ----------
    configs:
        What each model is trained by: alike but for seed and objective.
    positions:
        Each loader's state after `first` steps; None at the start.
    workers:
        Processes that prepare them, at most; 0 prepares them here.
    """
    # Items come from the workers in turn, so each must have as many members as the others.
    equal = max((count for count in range(1, workers + 1) if len(configs) % count == 0), default=0)
    options: dict[str, Any] = {"prefetch_factor": 2, "multiprocessing_context": "spawn"} if equal else {}
    members = _Members(configs, positions, first, last, chunk)
    items = iter(DataLoader(members, batch_size=None, num_workers=equal, collate_fn=_as_it_is, **options))
    while first < last:
        taken = [next(items) for _ in configs]
        partition, *ids = (np.stack(column) for column in zip(*(columns for columns, _ in taken), strict=True))
        tensors = [torch.from_numpy(column) for column in ids]
        sources = tensors[2] if len(tensors) > 2 else None
        first += len(partition[0])
        yield IdChunk(torch.from_numpy(partition[0]), tensors[0], tensors[1], sources, [place for _, place in taken])


def _as_it_is(item: Any) -> Any:
    return item
