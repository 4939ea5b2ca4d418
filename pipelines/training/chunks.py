"""The sample ids of many steps at a time, for several seeds: what a stack of models is fed with.

Worker processes walk through the very batches that a run of one seed would see, so that order, partners and composed targets are
those of `PairLoader`, whoever trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
    """The ids of K steps of S models, of batches of one size; what belongs to a step lies together.

    Attributes
    ----------
    partitions:
        Whose turn each step is, None where it is nobody's; the same for all models.
    input, target:
        int32 (K, S, B); targets of partitions together (K, S, P, B).
    sources:
        Of composed targets, int32 (K, S, P, B), else None.
    positions:
        Each model's loader after the K steps.
    """

    partitions: list[str | None]
    input: torch.Tensor
    target: torch.Tensor
    sources: torch.Tensor | None
    positions: list[dict[str, int]]


# One seed's part of a chunk: partitions; input, target and, of composed targets, sources; the loader's position.
Part = tuple[list[str | None], list[npt.NDArray[np.int32]], dict[str, int]]


@dataclass(frozen=True)
class Walk:
    """Which steps come, and how they are cut.

    Attributes
    ----------
    first, ends:
        The steps after `first` come, to the last of `ends`, which are those of the schedules (`TrainConfig.ends`).
    chunk, every:
        At most `chunk` steps come at a time, and a chunk ends with every so-many-th step.
    """

    first: int
    ends: tuple[int, ...]
    chunk: int = 2048
    every: int = 1 << 30


def _parts(config: TrainConfig, position: dict[str, int], walk: Walk) -> Iterator[Part]:
    """One seed's steps, those of a part of one size."""
    method = config.model.method
    loader = PairLoader(
        config.store,
        config.batch_size,
        seed=config.seed,
        partitions=list(config.model.latent),
        batches=method.batches,
        itself=lambda step: self_reconstruction_at(method, step, walk.ends[0]),
        prefetch=0,
    )
    if position:
        loader.load_state_dict(position)
    taken: list[Batch] = []
    for step, batch in enumerate(islice(_endless(loader), walk.ends[-1] - walk.first), walk.first):
        full = len(taken) == walk.chunk or step % walk.every == 0
        if taken and (full or len(batch.input_id) != len(taken[0].input_id)):
            yield _part(taken, position)
            taken = []
        taken.append(batch)
        position = loader.state_dict()
    yield _part(taken, position)


def _endless(loader: PairLoader) -> Iterator[Batch]:
    """Every batch that is large enough for batch statistics, epoch after epoch."""
    while True:
        yield from (batch for batch in loader.ids() if len(batch.input_id) >= 2)


def _part(batches: list[Batch], position: dict[str, int]) -> Part:
    columns = [[batch.input_id for batch in batches], [batch.target_id for batch in batches]]
    if batches[0].sources is not None:
        columns.append([batch.sources for batch in batches if batch.sources is not None])
    ids = [np.stack(column).astype(np.int32) for column in columns]
    return [batch.partition for batch in batches], ids, position


@dataclass
class _Seeds(IterableDataset[Part]):
    """Chunk by chunk, the part of every seed in turn; a worker process has every so-many-th seed."""

    configs: Sequence[TrainConfig]
    positions: Sequence[dict[str, int]]
    walk: Walk

    def __iter__(self) -> Iterator[Part]:
        worker = get_worker_info()
        mine = slice(worker.id, None, worker.num_workers) if worker else slice(None)
        seeds = zip(self.configs[mine], self.positions[mine], strict=True)
        parts = [_parts(*seed, self.walk) for seed in seeds]
        for together in zip(*parts, strict=True):
            yield from together


def id_chunks(
    configs: Sequence[TrainConfig],
    positions: Sequence[dict[str, int]],
    walk: Walk,
    *,
    workers: int = 0,
) -> Iterator[IdChunk]:
    """The ids of the steps of a walk, batches of one size in each chunk.

    Parameters
    ----------
    configs:
        What each model is trained by: alike but for seed and objective. Those of one seed see the same batches, listed once.
    positions:
        Each loader's state where the walk begins; empty at the start.
    workers:
        Processes that prepare them, at most; 0 prepares them here.
    """
    seeds = [*dict.fromkeys(config.seed for config in configs)]
    of_model = [seeds.index(config.seed) for config in configs]
    first = [of_model.index(place) for place in range(len(seeds))]
    # Parts come from the workers in turn, so each must have as many seeds as the others.
    equal = max((count for count in range(1, workers + 1) if len(seeds) % count == 0), default=0)
    options: dict[str, Any] = {"prefetch_factor": 2, "multiprocessing_context": "spawn"} if equal else {}
    listed = _Seeds([configs[place] for place in first], [positions[place] for place in first], walk)
    # Collated by `tuple`, a part stays as it is: as tensors it would come through shared memory, which may be small.
    parts = iter(DataLoader(listed, batch_size=None, num_workers=equal, collate_fn=tuple, **options))
    step = walk.first
    while step < walk.ends[-1]:
        partitions, ids, after = zip(*(next(parts) for _ in seeds), strict=True)
        tensors = [torch.from_numpy(np.stack(column, 1)[:, of_model]) for column in zip(*ids, strict=True)]
        sources = tensors[2] if len(tensors) > 2 else None
        yield IdChunk(partitions[0], tensors[0], tensors[1], sources, [after[place] for place in of_model])
        step += len(partitions[0])
