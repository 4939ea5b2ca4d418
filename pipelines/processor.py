"""How this process uses its processor: threads, memory, device."""

from __future__ import annotations

import ctypes

import torch

from preprocessing.errors import GatedVAEError, UsageError

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


def choose_device(name: str) -> str:
    """``auto`` is CUDA where there is one; CUDA where there is none is an error, and so is any other name than these and cpu."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"There is no device {name}.", "", "Use --device auto, cpu or cuda.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise GatedVAEError("There is no CUDA device.", f"--device {name} was asked for.", "Use --device auto or cpu.")
    return name


def choose_precision(name: str, device: str) -> str:
    """``auto`` is bf16 where the processor multiplies bfloat16 in hardware, else fp32."""
    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
