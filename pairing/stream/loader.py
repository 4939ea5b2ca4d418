"""Batches of pairs for a trainer: streamed from a store in bounded memory, resumable from a few integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.stream.batches import StoreBatches, pairs_digest
from gated_vae.pairing.stream.composed import ComposedBatches, Composition
from gated_vae.pairing.stream.cut import Batch, Batches, Cut
from gated_vae.pairing.stream.together import Probability, Together, never
from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.errors import GatedVAEError, check_seed
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.store import Store, images_path, open_store

Handed = TypeVar("Handed", Batch, "PairBatch")
Kind = Literal["turns", "together", "composed"]
MAX_WORKERS = 1024  # of a DataLoader, whose epochs are followed
_WHOSE = {  # in a position: what has to be the same
    "seed": "seed {}",
    "global_batch": "batches of {} pairs over all ranks",
    "pairs": "another source, other partitions or another kind of batches",
}


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


class PairBatch(NamedTuple):
    """One training batch.

    Attributes
    ----------
    partition:
        The partition whose factors the pairs share; None where partitions come together or targets are composed.
    input_id, target_id, group:
        int64 (B,); of all partitions together the latter two (P, B).
    input, target:
        Images, uint8 (B, H, W), or (B, H, W, 3) in colour; of all partitions together the targets (P, B, H, W[, 3]).
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


class _Share(NamedTuple):
    """Which steps of an epoch are made here: all, or those of one worker of a DataLoader.

    Attributes
    ----------
    first, every:
        The first of them, counted from where the epoch goes on, and each so-many-th after it.
    turned:
        Shared by the loader and its workers: the epoch that each worker has come to.
    """

    first: int = 0
    every: int = 1
    turned: torch.Tensor | None = None

    def tell(self, epoch: int) -> None:
        """Note an epoch that is come to. All places have changed when all workers have, however many there were before."""
        if self.turned is not None:
            self.turned[self.first :: self.every] = epoch


class PairLoader(IterableDataset[PairBatch]):
    """Iterate over the batches of an epoch; partitions take turns from step to step, or come together.

    Every pair of the epoch comes exactly once, to exactly one rank. The last batch of a partition is smaller where the pairs
    do not divide evenly. Iterating again goes on with the next epoch; after `load_state_dict`, with the next step.

    It makes whole batches: a `torch.utils.data.DataLoader` takes it with ``batch_size=None``. Each of its workers makes a share of
    the steps, and the order stays that of plain iteration; of a service, they need ``multiprocessing_context="spawn"``.

    Without workers, `state_dict` counts what has been handed out under a DataLoader, too. Workers are copies of the loader: this
    one is at the next epoch when they all have handed one out, and within an epoch stays at its start, where a pass that was broken
    off begins again (persistent workers go on after what they had prepared). To go on from the middle, count the batches received
    and, before the DataLoader is iterated anew, ``load_state_dict({**state, "step": state["step"] + received})``; torchdata's
    StatefulDataLoader, which keeps the state of every worker, needs no counting within an epoch.

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

    Attributes
    ----------
    stop:
        Asked while a batch keeps away (not without `prefetch`): where it says so, iterating ends with an `InterruptedError`.

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
        batches: Kind = "turns",
        itself: Probability = never,
        prefetch: int = 2,
    ) -> None:
        self.store = source if isinstance(source, Store) else open_source(source)
        self._source = source.path if isinstance(source, Store) else source
        self.partitions = partitions or list(self.store.partitions)
        if not self.partitions:
            raise GatedVAEError(
                f"{self._source} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first."
            )
        self.seed, self.epoch = check_seed(seed), check_seed(epoch, "epoch")
        self.step, self._over = 0, False
        self.itself, self._prefetch, self._kind = itself, prefetch, batches
        self.stop: Callable[[], bool] = bool  # never
        self._cut = Cut(tuple(self.partitions), batch_size, rank, world_size)
        self._batches = self._open()
        whose = digest(self.store.digest_of(images_path), pairs_digest(self.store, self.partitions), batches)
        self._pairs = int(whose.rpartition(":")[2][:12], 16)
        self._turned = torch.zeros(MAX_WORKERS, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def _open(self) -> Batches:
        source, cut = self._source, self._cut
        if self._kind == "turns":
            return _open_batches(source, self.store, cut)
        if self._kind == "together":
            cuts = [replace(cut, partitions=(name,)) for name in cut.partitions]
            sources = [_open_batches(source, self.store, one) for one in cuts]
            return Together(sources, cut, self.store.training, lambda step: self.itself(step))
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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled is how it was made and where it is: a copy opens store or service itself."""
        options = {"rank": self._cut.rank, "world_size": self._cut.world_size, "partitions": self.partitions}
        options |= {"batches": self._kind, "itself": self.itself, "prefetch": self._prefetch, "seed": self.seed}
        return _reopened, (type(self), self._source, self._cut.batch_size, options, self.state_dict(), self._turned)

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self._batches)

    def state_dict(self) -> dict[str, int]:
        """The position as five integers: the batches handed out so far, not those prepared ahead, and whose they are."""
        self._follow_workers()
        position = {"seed": self.seed, "epoch": self.epoch, "step": self.step}
        return {**position, "global_batch": self._cut.global_batch, "pairs": self._pairs}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position; the number of ranks may differ from the saved one's, the batch over all of them may not.

        Raises
        ------
        GatedVAEError
            When it is a position among other pairs or batches, or of another seed, or none at all.
        """
        own = self.state_dict()
        other = [told.format(state.get(name)) for name, told in _WHOSE.items() if state.get(name) != own[name]]
        if other:
            why = f"It is one of {', '.join(other)}."
            here = f"this one has seed {self.seed} and batches of {self._cut.global_batch} pairs"
            remedy = f"Make the loader as it was made then; {here}."
            raise GatedVAEError("The position is another loader's.", why, remedy)
        epoch, step = state.get("epoch", -1), state.get("step", -1)
        if epoch < 0 or not 0 <= step <= len(self):
            why = f"It is step {step} of epoch {epoch}; an epoch has {len(self)} steps."
            raise GatedVAEError("There is no such position.", why, "Give one that `state_dict` returned.")
        self.epoch, self.step, self._over = epoch, step, False
        self._turned.zero_()

    def _follow_workers(self) -> None:
        """Turn to the epoch that all workers of a DataLoader have come to, if they are ahead."""
        if (turned := int(self._turned.min())) > self.epoch:
            self._turn(turned)

    def _begin(self) -> None:
        """Turn to the next epoch where this one has been handed out, though nobody asked for its end."""
        self._follow_workers()
        if self._over:
            self._turn(self.epoch + 1)

    def _turn(self, epoch: int) -> None:
        self.epoch, self.step, self._over = epoch, 0, False

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield the remaining batches of the epoch, then turn to the next epoch; in a DataLoader's worker, its share of them."""
        self._begin()
        worker = get_worker_info()
        share = _Share(worker.id, worker.num_workers, self._turned) if worker else _Share()
        batches = self._batches.epoch(self.seed, self.epoch, self.step + share.first, every=share.every)
        made = map(_as_tensors, batches)
        return self._handed_out(read_ahead(made, self._prefetch, self.stop) if self._prefetch else made, share)

    def ids(self) -> Iterator[Batch]:
        """As iterating, but the batches' ids alone, as arrays, and all of them in a DataLoader's worker, too."""
        self._begin()
        return self._handed_out(self._batches.epoch(self.seed, self.epoch, self.step, images=False), _Share())

    def _handed_out(self, batches: Iterator[Handed], share: _Share) -> Iterator[Handed]:
        for batch in batches:
            self.step += share.every  # counted as they are handed out, not as they are prepared
            if self.step + share.first >= len(self):
                self._over = True
                share.tell(self.epoch + 1)  # now: whoever has the last one may end the worker
            yield batch
        self._turn(self.epoch + 1)
        share.tell(self.epoch)


def _reopened(
    kind: type[PairLoader],
    source: str | Path,
    batch_size: int,
    options: dict[str, Any],
    state: dict[str, int],
    turned: torch.Tensor,
) -> PairLoader:
    loader = kind(source, batch_size, **options)
    loader.load_state_dict(state)
    if turned.is_shared():  # type: ignore[no-untyped-call]  # by the process that has started this one
        loader._turned = turned
    return loader


def _as_tensors(batch: Batch) -> PairBatch:
    input_id, target_id, group, input_images, target = map(torch.from_numpy, batch[1:6])
    sources = None if batch.sources is None else torch.from_numpy(batch.sources)
    return PairBatch(batch.partition, input_id, target_id, group, input_images, target, sources)


def _collate(batches: list[PairBatch], *, collate_fn_map: Any = None) -> PairBatch:  # noqa: ARG001
    """A DataLoader's batch of one batch is that."""
    if len(batches) > 1:
        raise GatedVAEError(
            "Batches cannot be put together.", "A PairLoader makes whole ones.", "Give batch_size=None."
        )
    return batches[0]


default_collate_fn_map[PairBatch] = _collate
