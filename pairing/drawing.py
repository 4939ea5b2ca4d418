"""Drawing the partners of a pair table block by block, in this process or on a Dask cluster.

A cluster's workers map what they draw from (bytes a sample: 16; 36 where partners are independent, 24 where they are weighted, 12
and 4 K where they are among the K nearest) from files beside the pair tables: their own memory holds one block each whatever the
size of the store, and workers of one machine share the pages.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.rules.independent import IndependentPartners
from gated_vae.pairing.rules.nearest import NearestPartners
from gated_vae.pairing.rules.uniform import BLOCK, Ints, Members
from gated_vae.pairing.rules.weighted import WeightedPartners
from gated_vae.preprocessing.compute import stream_tasks
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import atomic_path

Ids = npt.NDArray[np.int64]
Partners = Callable[[Ids, int], Ids]  # (ids, draw) -> one partner of each
Bounds = tuple[int, int]  # first input of a block, and the one after its last


class Source(Protocol):
    """What partners are drawn from: one of `_KINDS`, or what pickles and is small."""

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Draw one partner for each of the ids."""


@dataclass(frozen=True)
class Drawing:
    """The partners of a partition: a source and the seed that decides."""

    source: Source
    seed: int

    def __call__(self, ids: Ids, draw: int) -> Ids:
        """One partner of each of the ids."""
        return self.source.partners(ids, seed=self.seed, draw=draw)


def draw_block(group: Ints, partners: Partners, draws: int, start: int, stop: int) -> Ints:
    """Draw partners of the inputs start .. stop - 1, (draws, stop - start), in the narrowest type for ids.

    Raises
    ------
    GatedVAEError
        When `partners` gives the input itself or a sample of another group.
    """
    targets = np.empty((draws, stop - start), index_type(len(group)))
    for first in range(start, stop, BLOCK):
        ids = np.arange(first, min(first + BLOCK, stop))
        own = group[first : first + len(ids)]
        for draw in range(draws):
            found = partners(ids, draw)
            broken = np.count_nonzero((found == ids) | (group.take(found) != own))
            if broken:
                raise GatedVAEError("Pairs cannot be written.", f"{broken} partners are the input or of another group.")
            targets[draw, first - start : first - start + len(ids)] = found
    return targets


def draw_blocks(
    store: Path, group: Ints, partners: Partners, draws: int, blocks: Sequence[Bounds], *, scheduler: str | None = None
) -> Generator[Ints, None, None]:
    """Yield what `draw_block` draws for each of the blocks, in their order.

    Parameters
    ----------
    store:
        The store's folder; every worker sees it under the same path.
    partners:
        For a scheduler, a `Drawing`.
    scheduler:
        Address of a Dask scheduler; None draws in this process.
    """
    if scheduler is None:
        for block in blocks:
            yield draw_block(group, partners, draws, *block)
        return
    if not isinstance(partners, Drawing):
        raise TypeError("A cluster draws from a Drawing.")
    with _spilled(store.absolute(), group, partners) as task:
        yield from stream_tasks(_draw_spilled, ((*task, draws, *block) for block in blocks), scheduler=scheduler)


def index_type(samples: int) -> type[np.int32] | type[np.int64]:
    """Choose the narrowest type for sample ids."""
    return np.int32 if samples <= 2**31 else np.int64


def discard_spilled(store: Path) -> None:
    """Remove what a command that was killed has left for its workers."""
    shutil.rmtree(_spill_path(store), ignore_errors=True)


def _draw_spilled(folder: str, drawing: Drawing | None, kind: str, seed: int, draws: int, *block: int) -> Ints:
    """Draw one block on a worker."""
    group = np.load(Path(folder, "group.npy"), mmap_mode="r", allow_pickle=False)
    return draw_block(group, drawing or Drawing(_recall(_KINDS[kind], Path(folder, kind)), seed), draws, *block)


_KINDS: dict[str, type[Source]] = {
    "members": Members,
    "independent": IndependentPartners,
    "nearest": NearestPartners,
    "weighted": WeightedPartners,
}


@contextmanager
def _spilled(store: Path, group: Ints, drawing: Drawing) -> Iterator[tuple[str, Drawing | None, str, int]]:
    """Lay down what workers map while the block runs; yields the first arguments of `_draw_spilled`."""
    folder = _spill_path(store)
    discard_spilled(store)
    kind = next((name for name, form in _KINDS.items() if isinstance(drawing.source, form)), "")
    try:
        _save(folder / "group.npy", group)
        if kind:
            _spill(drawing.source, folder / kind)
        yield str(folder), None if kind else drawing, kind, drawing.seed
    finally:
        discard_spilled(store)


def _spill_path(store: Path) -> Path:
    return store / ".drawing"


def _spill(source: Any, folder: Path) -> None:
    """Write the arrays of a source, each as a file; what it does not have gets none."""
    for field in fields(source):
        value = getattr(source, field.name)
        if isinstance(value, Members):
            _spill(value, folder / field.name)
        elif value is not None:
            _save(folder / f"{field.name}.npy", value)


def _recall(kind: type[Any], folder: Path) -> Any:
    """Map what `_spill` wrote."""
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(kind)):
        path = folder / f"{name}.npy"
        if path.exists():
            values[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            values[name] = _recall(Members, folder / name) if (folder / name).is_dir() else None
    return kind(**values)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as npy by plain writes, whose errors tell what is wrong."""
    array = np.ascontiguousarray(array)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
