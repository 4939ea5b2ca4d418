"""How this process runs: on which device, in which precision, as which of several ranks, and until it is told to stop."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from gated_vae.pairing.stream.address import is_loopback
from gated_vae.preprocessing.compute import RunTasks, count_workers, processes
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


def set_up(precision: str, device: str) -> None:
    """Make this process train fast and to the same bits each time.

    Products of float32 are made in TF32 on CUDA where the precision is ``tf32``, and in full everywhere else.
    """
    keep_freed_memory()
    torch.backends.cudnn.deterministic = True
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


def is_gpu_failure(error: RuntimeError) -> bool:
    """Whether it is a GPU's that has failed or was taken away: every later call of CUDA fails, too. Want of memory is none."""
    text = str(error)
    named = isinstance(error, torch.AcceleratorError) or re.search("CUDA (driver )?error|cuDNN error", text)
    return bool(named) and "out of memory" not in text


def why_not_compile(device: str) -> str:
    """What PyTorch lacks to compile for a device, in a line; empty where it lacks nothing. Tried on a sum, for some seconds."""
    try:
        torch.compile(torch.add)(torch.ones(2, device=device), 1)
    except Exception as error:  # whatever the compilers behind it say
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ""


class InterruptedTrainingError(GatedVAEError):
    """Training was told to stop and has saved its state."""

    @classmethod
    def at(cls, step: int, steps: int) -> InterruptedTrainingError:
        """After so many of the steps."""
        why = f"The state after {step} of {steps} steps is saved." if step else "It had not begun."
        return cls("Training was interrupted.", why, "Run the same command again to go on (without --overwrite).")


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
def one_core_each(tasks: int, device: str, workers: int | None = None) -> Iterator[RunTasks]:
    """Processes that train so many runs with one thread each: one per core unless told, a single one on a GPU."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    at_a_time = workers or (1 if device.startswith("cuda") else count_workers())
    with processes(min(at_a_time, max(tasks, 1)), interruptible=True) as run_tasks:
        yield run_tasks


def is_a_rank() -> bool:
    """Whether torchrun, or whoever sets RANK and WORLD_SIZE, has started this process as one of several."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Belong to the group that RANK and WORLD_SIZE tell of while the block runs: gloo, nccl on CUDA. Without them there is none.

    Ranks meet where torchrun says. Without it the first listens at MASTER_ADDR (127.0.0.1) and MASTER_PORT (29500), and there
    alone. Yields whether this is the first rank, which reports.

    `GatedVAEError` when another rank has gone or does not come, there are too few CUDA devices, or the first cannot listen.
    """
    if not is_a_rank():
        yield True
        return
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    backend = "gloo"
    if choose_device(device).startswith("cuda"):
        backend = "cpu:gloo,cuda:nccl"
        if local_rank >= torch.cuda.device_count():
            why = f"There are {torch.cuda.device_count()} of them."
            raise GatedVAEError("Every rank needs a CUDA device of its own.", why, "Use fewer, or --device cpu.")
        torch.cuda.set_device(local_rank)
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    if is_loopback(host) or os.environ.get("LOCAL_WORLD_SIZE") == str(ranks):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    meeting = None if by_torchrun else _meet(host, int(os.environ.get("MASTER_PORT", "29500")), rank, ranks)
    dist.init_process_group(backend, store=meeting, rank=rank, world_size=ranks)
    try:
        yield rank == 0
    except RuntimeError as error:  # mostly a lost connection
        why = str(error).splitlines()[0]
        raise GatedVAEError(f"Rank {rank} has stopped.", why, "Another rank's message may say more.") from error
    finally:
        dist.destroy_process_group()


def _meet(host: str, port: int, rank: int, ranks: int) -> Any:
    """The store by which ranks meet, on a socket of ours: torch would listen at every address of the machine, for whoever comes."""
    if rank:
        return dist.TCPStore(host, port, ranks, is_master=False)  # type: ignore[attr-defined]
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        remedy = "Let MASTER_ADDR be an address of this machine, and MASTER_PORT a free port."
        raise GatedVAEError(f"Ranks cannot meet at {host}:{port}.", f"{error.strerror or error}.", remedy) from None
    return dist.TCPStore(host, port, ranks, is_master=True, master_listen_fd=listening.detach())  # type: ignore[attr-defined]


def leave(code: int) -> NoReturn:
    """End this process at once.

    A thread of gloo lets go of the last message's tensors a little later than it says that it is done; when that is during the
    interpreter's shutdown, it aborts the process (seen with PyTorch 2.13; pytorch/pytorch pull request 179291 describes it).
    """
    os._exit(code)
