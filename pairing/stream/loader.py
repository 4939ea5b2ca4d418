"""Batches of pairs for a trainer: streamed from a store in bounded memory, resumable from a few integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch

from gated_vae.pairing.stream.batches import StoreBatches
from gated_vae.pairing.stream.composed import ComposedBatches, Composition
from gated_vae.pairing.stream.cut import Batch, Batches, Cut
from gated_vae.pairing.stream.together import Probability, Together, never
from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.errors import GatedVAEError, check_seed
from gated_vae.preprocessing.store import Store, open_store

Handed = TypeVar("Handed", Batch, "PairBatch")


def is_address(source: str | Path) -> bool:
    """Whether a store is named by the address of a pairing service instead of its folder."""
    return str(source).startswith(("grpc://", "grpc+tls://"))


def open_source(source: str | Path) -> Store:
    """Open a store's folder or, of a store behind a pairing service, what its manifest says (images stay there)."""
    if not is_address(source):
        return open_store(source)
    from gated_vae.pairing.stream.remote import Service  # gRPC is loaded where it is used

    return Service(str(source)).store


def _open_batches(source: str | Path, store: Store, cut: Cut) -> Batches:
    if not is_address(source):
        return StoreBatches(store, cut)
    from gated_vae.pairing.stream.remote import Service, ServiceBatches

    return ServiceBatches(Service(str(source), store), cut)


@dataclass(frozen=True)
class PairBatch:
    """One training batch.

    Attributes
    ----------
    partition:
        The partition whose factors the pairs share; None where partitions come together or targets are composed.
    input_id, target_id, group:
        int64 (B,); of all partitions together the latter two (P, B).
    input, target:
        Images, uint8 (B, H, W); of all partitions together the targets (P, B, H, W).
    sources:
        Of composed targets: the row that gives each partition's factors to each target, int64 (P, B).
    """

    partition: str | None
    input_id: torch.Tensor
    target_id: torch.Tensor
    group: torch.Tensor
    input: torch.Tensor
    target: torch.Tensor
    sources: torch.Tensor | None = None


class PairLoader:
    """Iterate over the batches of an epoch; partitions take turns from step to step, or come together.

    Every pair of the epoch comes exactly once, to exactly one rank. The last batch of a partition is smaller where the pairs
    do not divide evenly. Iterating again goes on with the next epoch; after `load_state_dict`, with the next step.

    Parameters
    ----------
    source:
        A store or its folder, or the address of a pairing service.
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
    batches:
        ``turns``: partitions take turns. ``together``: every batch has, for each of its inputs, a target in every partition, and
        an epoch visits each sample once. ``composed``: targets are composed of the factors of the batch's inputs.
    itself:
        In batches of the latter kinds, how probable it is that a sample stands in for its own partner, by step over all epochs
        from 1. May be set later, before iterating.
    prefetch:
        Batches prepared ahead in a background thread; 0 prepares them when asked. The batches are the same.

    Raises
    ------
    GatedVAEError
        When the store has no pairs, or the service does not answer (while iterating: not within a minute).
    """

    def __init__(
        self,
        source: str | Path | Store,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        partitions: list[str] | None = None,
        batches: Literal["turns", "together", "composed"] = "turns",
        itself: Probability = never,
        prefetch: int = 2,
    ) -> None:
        self.store = source if isinstance(source, Store) else open_source(source)
        source = source.path if isinstance(source, Store) else source
        self.partitions = partitions or list(self.store.partitions)
        if not self.partitions:
            raise GatedVAEError(f"{source} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
        self.seed, self.epoch, self.step = check_seed(seed), check_seed(epoch, "epoch"), 0
        self.itself, self._prefetch = itself, prefetch
        cut = Cut(tuple(self.partitions), batch_size, rank, world_size)
        self._global_batch = cut.global_batch
        self._batches = self._open(source, cut, batches)

    def _open(self, source: str | Path, cut: Cut, kind: str) -> Batches:
        if kind == "turns":
            return _open_batches(source, self.store, cut)
        if kind == "together":
            cuts = [replace(cut, partitions=(name,)) for name in cut.partitions]
            sources = [_open_batches(source, self.store, one) for one in cuts]
            return Together(sources, cut, len(self.store), lambda step: self.itself(step))
        if is_address(source):
            why = f"The images of {source} come in pairs, not on request."
            remedy = "Train from the store's folder, or use --method partners."
            raise GatedVAEError("Targets cannot be composed.", why, remedy)
        if cut.world_size > 1:
            why = "Targets are composed of the images of a batch, which must be in one place."
            what = f"{cut.world_size} ranks cannot share a batch."
            raise GatedVAEError(what, why, "Use one rank, or --method partners.")
        composition = Composition(self.store, cut.partitions)
        return ComposedBatches(StoreBatches(self.store, cut), composition, lambda step: self.itself(step))

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self._batches)

    def state_dict(self) -> dict[str, int]:
        """The position as four integers: the batches handed out so far, not those prepared ahead."""
        return {"seed": self.seed, "epoch": self.epoch, "step": self.step, "global_batch": self._global_batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position; the number of ranks may differ from the saved one's, the global batch may not."""
        if state["global_batch"] != self._global_batch:
            found = state["global_batch"]
            why = f"The position counts batches of {found} pairs, this loader makes {self._global_batch}."
            raise GatedVAEError("The loader's position does not fit.", why, "Use the batch size it was saved with.")
        self.seed, self.epoch, self.step = state["seed"], state["epoch"], state["step"]

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the remaining batches of the epoch, then turn to the next epoch."""
        batches = map(_as_tensors, self._batches.epoch(self.seed, self.epoch, self.step))
        return self._handed_out(read_ahead(batches, self._prefetch) if self._prefetch else batches)

    def ids(self) -> Iterator[Batch]:
        """As iterating, but the batches' ids alone, as arrays."""
        return self._handed_out(self._batches.epoch(self.seed, self.epoch, self.step, images=False))

    def _handed_out(self, batches: Iterator[Handed]) -> Iterator[Handed]:
        for batch in batches:
            self.step += 1  # counted as they are handed out, not as they are prepared
            yield batch
        self.epoch, self.step = self.epoch + 1, 0


def _as_tensors(batch: Batch) -> PairBatch:
    input_id, target_id, group, input_images, target = map(torch.from_numpy, batch[1:6])
    sources = None if batch.sources is None else torch.from_numpy(batch.sources)
    return PairBatch(batch.partition, input_id, target_id, group, input_images, target, sources)
