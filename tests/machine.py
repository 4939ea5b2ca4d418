"""Of a machine on which others work, too: ports that nobody takes meanwhile, and waiting for what may come late."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable

HANG = 120.0  # seconds: what takes longer has stopped for good, however busy the machine


def own_host() -> str:
    """An address of this machine for this process alone, so that no other gets a port of it that is let go and taken again."""
    number = os.getpid()  # 22 bits, on Linux
    return f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}" if sys.platform == "linux" else "127.0.0.1"


def free_place() -> tuple[str, int]:
    """That address, and a port of it at which nothing listens."""
    with socket.socket() as free:
        free.bind((own_host(), 0))
        host, port = free.getsockname()
        return host, port


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + HANG
    while not true():
        assert time.monotonic() < end, "It never comes about."
        time.sleep(0.02)
