"""How this process runs: on which device, in which precision, as which of several ranks, and until it is told to stop."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
import torch.distributed as dist

from gated_vae.preprocessing.errors import GatedVAEError, UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks, however large, for the next allocation.

    By default blocks of megabytes, such as the gradients of a wide layer, go back to the kernel when freed and are cleared page
    by page when asked for again, in every step: 7 ms of the 22 ms that a step of width 512 took. Elsewhere this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 2**30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str, before: str | None = None) -> str:
    """``auto`` is CUDA where there is one and the run was not begun elsewhere (`before`); CUDA where there is none is an error."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() and before != "cpu" else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"There is no device {name}.", "", "Use --device auto, cpu or cuda.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise GatedVAEError("There is no CUDA device.", f"--device {name} was asked for.", "Use --device auto or cpu.")
    return name


def choose_precision(name: str, device: str, before: str | None = None) -> str:
    """``auto`` is what the run was begun in (`before`), else the fastest: tf32 on CUDA from Ampere on (docs/gpu.md), bf16 on
    processors that multiply it faster, else fp32.
    """
    if name != "auto":
        return name
    if before is not None:
        return before
    if device.startswith("cuda"):
        return "tf32" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if _multiplies_bfloat16_faster() else "fp32"


def choose_products(precision: str, device: str) -> None:
    """Let products of float32 be made in TF32 on CUDA where the precision is ``tf32``, and in full everywhere else."""
    fast = precision == "tf32" and device.startswith("cuda")
    torch.set_float32_matmul_precision("high" if fast else "highest")
    torch.backends.cudnn.allow_tf32 = fast


def _multiplies_bfloat16_faster() -> bool:
    """Whether this processor has AMX tiles, or AVX-512 BF16 as AMD makes it.

    By rule, not by a stopwatch, so that a machine always chooses the same. Intel's AVX-512 BF16 without tiles (which virtual
    machines may hide) is slower than its float32: `python -m benchmarks.step` compares the two.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    """The processor's vendor as it says itself; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def why_not_compile(device: str) -> str:
    """What PyTorch lacks to compile for a device, in a line; empty where it lacks nothing. Tried on a sum, for some seconds."""
    try:
        torch.compile(torch.add)(torch.ones(2, device=device), 1)
    except Exception as error:  # whatever the compilers behind it say
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one is obeyed at once. (Only in the main thread.)"""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: leave signals to whoever is
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Belong to torchrun's group while the block runs: gloo, nccl on CUDA. Without torchrun there is none.

    Yields whether this is the first rank, which reports.

    Raises
    ------
    GatedVAEError
        When another rank has gone, or there are too few CUDA devices.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
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
