"""Training on several ranks: started here on one machine, or joined where torchrun has started this process as one of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from gated_vae.pipelines.training.processor import choose_device
from gated_vae.preprocessing.errors import GatedVAEError

HOST = "127.0.0.1"
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One rank's place: its number of how many, its number on this machine, and the device asked for."""

    rank: int
    ranks: int
    local_rank: int
    device: str

    @contextmanager
    def joined(self, store: TCPStore | None = None) -> Iterator[None]:
        """Belong to the group that meets at `store` (or where torchrun says) while the block runs: gloo, nccl on CUDA."""
        backend = "gloo"
        if choose_device(self.device).startswith("cuda"):
            backend = "cpu:gloo,cuda:nccl"
            _check_devices(self.local_rank + 1)
            torch.cuda.set_device(self.local_rank)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.ranks)
        try:
            yield
        finally:
            dist.destroy_process_group()


def _check_devices(ranks: int) -> None:
    """Refuse more ranks on this machine than it has CUDA devices."""
    if ranks > torch.cuda.device_count():
        why = f"There are {torch.cuda.device_count()} of them."
        raise GatedVAEError("Every rank needs a CUDA device of its own.", why, "Use fewer, or --device cpu.")


def on_ranks(
    everywhere: Callable[[], Any], first: Callable[[], T], *, workers: int = 1, device: str = "auto"
) -> T | None:
    """Call `first` on rank 0 and `everywhere` on the others, as members of one group.

    Under torchrun this process is one rank. Else it is rank 0 and starts `workers` - 1 others, for which `everywhere` must be
    picklable; with one worker nothing is started and there is no group.

    Returns
    -------
    What `first` returned; None on the other ranks.

    Raises
    ------
    GatedVAEError
        Also when another rank failed: with its message, where it is on this machine.
    """
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        if workers > 1:
            raise GatedVAEError("--workers starts ranks, torchrun has done so.", "", "Leave out --workers.")
        return _under_torchrun(everywhere, first, device)
    return first() if workers == 1 else _here(everywhere, first, workers, device)


def _under_torchrun(everywhere: Callable[[], Any], first: Callable[[], T], device: str) -> T | None:
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        with Member(rank, ranks, int(os.environ.get("LOCAL_RANK", rank)), device).joined():
            if rank == 0:
                return first()
            everywhere()
            return None
    except RuntimeError as error:  # mostly a lost connection
        why = str(error).splitlines()[0]
        raise GatedVAEError(f"Rank {rank} has stopped.", why, "Another rank's message may say more.") from error


def _here(everywhere: Callable[[], Any], first: Callable[[], T], workers: int, device: str) -> T:
    if choose_device(device).startswith("cuda"):
        _check_devices(workers)  # before any starts: the others would wait for one that cannot join
    store = TCPStore(HOST, 0, workers, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    all_threads = torch.get_num_threads()
    threads = max(1, all_threads // workers)
    children = [
        context.Process(
            target=_other,
            args=(everywhere, Member(rank, workers, rank, device), store.port, threads, failures),
            daemon=True,
        )
        for rank in range(1, workers)
    ]
    torch.set_num_threads(threads)
    try:
        for child in children:
            child.start()
        _wait_for(children, store)
        with Member(0, workers, 0, device).joined(store):
            return first()
    except RuntimeError:  # mostly a lost connection: say why the other rank has gone
        _end(children)
        if failures.empty():
            raise
        raise failures.get() from None
    finally:
        torch.set_num_threads(all_threads)
        _end(children)


def _other(
    everywhere: Callable[[], Any], member: Member, port: int, threads: int, failures: SimpleQueue[GatedVAEError]
) -> None:
    torch.set_num_threads(threads)
    store = TCPStore(HOST, port, member.ranks, is_master=False)
    store.add("there", 1)
    try:
        with member.joined(store):
            try:
                everywhere()
            except GatedVAEError as error:
                failures.put(error)  # before the connection is closed, which ends rank 0
    except RuntimeError as error:  # mostly a lost connection
        sys.stderr.write(f"Rank {member.rank} has stopped: {str(error).splitlines()[0]}\n")
    leave(0)


def leave(code: int) -> NoReturn:
    """End this process at once.

    A thread of gloo lets go of the last message's tensors a little later than it says that it is done; when that is during the
    interpreter's shutdown, it aborts the process (seen with PyTorch 2.13; pytorch/pytorch pull request 179291 describes it).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait_for(children: Sequence[BaseProcess], store: TCPStore) -> None:
    """Until all have started; without this, one that died at once would be waited for by the half hour."""
    while store.add("there", 0) < len(children):
        if any(child.exitcode is not None for child in children):
            raise GatedVAEError("A rank has ended before it could join.", "", "Its own message is above.")
        time.sleep(0.05)


def _end(children: Sequence[BaseProcess]) -> None:
    """All have said that they are done, or one has failed: wait a little, then end them."""
    for child in children:
        if child.pid is not None:
            child.join(5)
            child.terminate()
            child.join()
