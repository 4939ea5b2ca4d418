"""Label columns of a store as points, read a shard at a time: grouping needs no more than a shard and a sample in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from gated_vae.pairing.groups.kmeans import Centroids, Groups, cut_blocks, fit_kmeans
from gated_vae.pairing.rules.base import Floats, Ids, random_below
from gated_vae.preprocessing.files import readable
from gated_vae.preprocessing.scheduler.dask import stream_tasks
from gated_vae.preprocessing.store import REBUILD, Store, check_numbers, samples_path

SHARD_ROWS = 1 << 20  # a row group of samples.parquet; a multiple of `kmeans.BLOCK`
TRAINING_ROWS = 1 << 20  # more than the 256 points a centroid that K-Means looks at, at 4,000 clusters
_SAMPLING = 2**32 - 1  # a draw of random numbers that no pairing uses

Points = npt.NDArray[Any]
Turns = Mapping[str, float | None]  # columns, and what a full turn is of each that has one


@dataclass(frozen=True)
class LabelColumns:
    """Some columns of a store's samples.parquet, every row a point, read in shards.

    They are read here, or by the workers of a Dask `scheduler`, who see the store under the same path. A column that has a full
    turn (see `Label.turns`) makes two coordinates, a place on a circle of that circumference.
    """

    store: Store
    names: list[str]
    scheduler: str | None = None
    turns: Mapping[str, float] = field(default_factory=dict)

    @property
    def vary(self) -> bool:
        """Whether any of the columns holds more than one value, or may do: the file's own statistics are asked."""
        return any(_varies(found) for found in self._statistics().values())

    @property
    def gaps(self) -> dict[str, int]:
        """How many samples have no value, of each column where some have none, as the file's own statistics say."""
        missing = {name: sum(part.null_count for part in parts if part) for name, parts in self._statistics().items()}
        return {name: count for name, count in missing.items() if count}

    def _statistics(self) -> dict[str, list[Any]]:
        """What the file says of each column, a row group at a time; None where it says nothing."""
        with self.store.open_samples() as opened:
            file = opened.metadata
            place = {file.schema.column(index).path: index for index in range(file.num_columns)}
            groups = [file.row_group(index) for index in range(file.num_row_groups)]
            return {  # lists have none
                name: [group.column(place[name]).statistics if name in place else None for group in groups]
                for name in self.names
            }

    def training(self) -> Points:
        """The rows of samples that train, (T, d)."""
        return np.concatenate([*self._stream(read_rows, self._shards(self.store.training))])

    def take(self, rows: Ids) -> Points:
        """Some rows, ascending, (n, d)."""
        shards = self._shards(len(self.store))
        parts = np.split(rows, np.searchsorted(rows, [start for start, _ in shards[1:]]))
        tasks = [(*shard, part) for shard, part in zip(shards, parts, strict=True) if len(part)]
        return np.concatenate([*self._stream(read_rows, tasks)])

    def group(self, k: int, *, seed: int, device: str, training: int = TRAINING_ROWS) -> Groups:
        """Group all rows by K-Means, in the columns' own units; those of samples that train decide the centroids.

        Of more than `training` rows (or 2 k, if that is more), so many decide the centroids (see `training_rows`); all are
        assigned, shard by shard, with the same bytes however many workers there are. Errors are those of `group_kmeans`.
        """
        samples, size = len(self.store), max(training, 2 * k)
        chosen = training_rows(self.store.training, size, seed) if self.store.training > size else None
        points = self.training() if chosen is None else self.take(chosen)
        centroids = fit_kmeans(points, k, seed=seed, device=device)
        group, distance = np.empty(samples, np.int32), np.empty(samples, np.float32)
        shards = self._shards(samples)
        found = self._stream(assign_rows, [(*shard, centroids, device) for shard in shards])
        for (start, stop), assigned in zip(shards, found, strict=True):
            group[start:stop], distance[start:stop] = assigned
        return Groups(centroids.positions, group, distance)

    def _shards(self, count: int) -> list[tuple[int, int]]:
        """Cut the first `count` rows into shards, (start, stop) each, where the table has a row for each sample."""
        with self.store.open_samples():
            return cut_blocks(count, SHARD_ROWS)

    def _stream(self, function: Any, tasks: Sequence[tuple[Any, ...]]) -> Any:
        path, turns = samples_path(self.store.path).absolute(), {name: self.turns.get(name) for name in self.names}
        return stream_tasks(function, [(path, turns, *task) for task in tasks], scheduler=self.scheduler)


def _varies(found: Sequence[Any]) -> bool:
    if any(it is None or not it.has_min_max for it in found):
        return True
    return bool(min(it.min for it in found) < max(it.max for it in found))


def training_rows(samples: int, size: int, seed: int) -> Ids:
    """Choose `size` of the samples, ascending: one at random of each of as many stretches of equal length."""
    ends = np.arange(size + 1) * samples // size
    return ends[:-1] + random_below(np.diff(ends), np.arange(size), seed=seed, draw=_SAMPLING)


def read_rows(path: Path, names: Turns, start: int, stop: int, chosen: Ids | None = None) -> Points:
    """Read rows start .. stop - 1 of some columns of a Parquet file, (stop - start, d), or those `chosen` of them, (n, d).

    Columns come with their full turns, or None.
    """
    with readable(path, REBUILD), pq.ParquetFile(path) as file:
        rows = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        ends = np.cumsum([0, *rows])
        first, last = int(np.searchsorted(ends, start, "right")) - 1, int(np.searchsorted(ends, stop))
        table = file.read_row_groups(range(first, last), columns=list(names))
    part = table.select(list(names)).slice(start - ends[first], stop - start)
    frame = part.to_pandas(ignore_metadata=True)
    check_numbers(frame, path, "Correct the labels and preprocess again, or choose other columns.", start)
    values: Points = frame.to_numpy()
    if chosen is not None:
        values = values[chosen - start]
    if not any(names.values()):
        return values
    return np.column_stack([unrolled(column, turn) for column, turn in zip(values.T, names.values(), strict=True)])


def unrolled(values: Points, turn: float | None) -> Points:
    """Coordinates (n, 1) of values (n,); or (n, 2), on a circle of that circumference, of those that begin anew after a turn."""
    if turn is None:
        return values[:, None]
    angle = values.astype(np.float64) * (2 * np.pi / turn)
    return turn / (2 * np.pi) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def assign_rows(
    path: Path, names: Turns, start: int, stop: int, centroids: Centroids, device: str
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Assign rows start .. stop - 1 to their nearest centroids: `Centroids.assign` of one shard."""
    return centroids.assign(read_rows(path, names, start, stop), device)
