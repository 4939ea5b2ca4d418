"""Training on several ranks: where torchrun has started this process as one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
import torch.distributed as dist

from gated_vae.pipelines.training.processor import choose_device
from gated_vae.preprocessing.errors import GatedVAEError


def started_by_torchrun() -> bool:
    """Whether this process is one rank of several."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Belong to torchrun's group while the block runs: gloo, nccl on CUDA. Without torchrun there is none.

    Yields whether this is the first rank, which reports.

    Raises
    ------
    GatedVAEError
        When another rank has gone, or there are too few CUDA devices.
    """
    if not started_by_torchrun():
        yield True
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    backend = "gloo"
    if choose_device(device).startswith("cuda"):
        backend = "cpu:gloo,cuda:nccl"
        if local_rank >= torch.cuda.device_count():
            why = f"There are {torch.cuda.device_count()} of them."
            raise GatedVAEError("Every rank needs a CUDA device of its own.", why, "Use fewer, or --device cpu.")
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend)
    try:
        yield rank == 0
    except RuntimeError as error:  # mostly a lost connection
        why = str(error).splitlines()[0]
        raise GatedVAEError(f"Rank {rank} has stopped.", why, "Another rank's message may say more.") from error
    finally:
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process at once.

    A thread of gloo lets go of the last message's tensors a little later than it says that it is done; when that is during the
    interpreter's shutdown, it aborts the process (seen with PyTorch 2.13; pytorch/pytorch pull request 179291 describes it).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
