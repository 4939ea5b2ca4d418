"""Standard output and standard error, whatever they are: full, closed, or a terminal that obeys what is printed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gated_vae.preprocessing.errors import GatedVAEError

# What terminals obey, and what turns the direction of writing: names and manifests are somebody else's.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text with every control character but tabs and ends of lines replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class _Messages:
    """Standard error: what cannot be written there is left out, as work is worth more than messages."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


_CUT = b"""A file was cut while it was read, or its disk fails.
Images of a store are mapped, not copied: the system ends a command that reads beyond what is left of them.
Run `pipe verify` on the store, then the same command again: it goes on where it stopped.
"""


def _tell_of_cut(_signal: int) -> None:
    try:
        os.write(2, _CUT)
    finally:
        os._exit(1)


_ON_BUS_ERROR = ctypes.CFUNCTYPE(None, ctypes.c_int)(_tell_of_cut)  # kept for as long as it may be called


def prepare() -> None:
    """Open the channels that are closed, lest a file gets their number and is printed into; and let nothing fail for a message.

    Nor end without one where a mapped file is cut: Python's own handlers would run after the reading, which never ends.
    """
    ctypes.CDLL(None).signal(signal.SIGBUS, _ON_BUS_ERROR)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for channel in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            channel.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names need not be UTF-8
    if not isinstance(sys.stderr, _Messages):
        sys.stderr = _Messages(sys.stderr)


@contextmanager
def printing() -> Iterator[None]:
    """While a result is written to standard output: at once, and `GatedVAEError` where it cannot be."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "It is closed")
        yield
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # or Python would try again when it ends
        remedy = "What the command makes is made: run it again with another standard output to see the result."
        raise GatedVAEError("The result cannot be printed.", f"{error.strerror}.", remedy) from None


def finish() -> None:
    """Write what is still to be written; what cannot be is forgotten, or Python would fail with it when it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        sys.stdout = None
    sys.stderr.flush()


def explain(error: Exception) -> str:
    """A failure in at most three lines: what, why, what to do."""
    if isinstance(error, GatedVAEError):
        return str(error)
    if isinstance(error, OSError):
        remedies = {
            errno.ENOSPC: "Free some space, then run the same command again: it goes on where it stopped.",
            errno.EACCES: "Choose a place you may write to and read from.",
            errno.EROFS: "Choose a place you may write to.",
            errno.EMFILE: "Allow more open files (`ulimit -n`), then run the same command again.",
        }
        remedy = remedies.get(error.errno or 0, "Check the path, then run the same command again.")
        reason = os.strerror(error.errno) if error.errno else error.strerror or error
        return f"{os.fsdecode(error.filename or 'The operating system')}: {reason}.\n{remedy}"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        remedy = "Ask for less at a time (sizes, --batch-size, --stack, --workers), or use a machine with more."
        return f"Memory does not suffice.\n{' '.join(str(error).split())[:200]}\n{remedy}"
    if isinstance(error, ValueError):
        return f"{' '.join(str(error).split())}\nCheck the options; --debug shows where it was found."
    lines = f"Unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return f"{lines}\nRun it again with --debug for the traceback, and please report it."
