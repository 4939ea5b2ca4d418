"""What libjpeg and libpng print while they decode, heard instead of shown.

Where data are damaged they go on with invented pixels, and tell of it only by a line on C's `stderr`. While pictures are
decoded that variable points to memory, which Python's own standard error does not pass through. All threads share it: when
something was heard that matters, each that was decoding does so once more, alone.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

# The rest is about what is not in the pixels.
_MATTERS = re.compile("Corrupt JPEG data|libpng error|incorrect data check")
_UNBUFFERED = 2  # _IONBF of stdio.h
_BYTES = 4096  # what comes later is not heard


class _Ear:
    """Pictures are decoded `_inside`; whoever holds the `_door` lets nobody in."""

    def __init__(self, c: ctypes.CDLL) -> None:
        c.fmemopen.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        c.fmemopen.restype = ctypes.c_void_p
        c.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        c.rewind.argtypes, c.rewind.restype = [ctypes.c_void_p], None
        self._heard = ctypes.create_string_buffer(_BYTES)
        self._file, self._rewind = c.fmemopen(self._heard, _BYTES, b"w"), c.rewind
        c.setvbuf(self._file, None, _UNBUFFERED, 0)
        self._stderr = ctypes.c_void_p.in_dll(c, "stderr")
        self._shown = self._stderr.value
        self._door, self._lock, self._inside = threading.Lock(), threading.Lock(), 0
        self._quiet = threading.Condition(self._lock)

    def listen(self, call: Callable[[], Result]) -> tuple[Result, str]:
        with self._door, self._lock:
            self._inside += 1
            self._stderr.value = self._file
        try:
            result = call()
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._stderr.value = self._shown
                    self._quiet.notify_all()
        if not (heard := self._heard.value) or (len(heard) < _BYTES // 2 and not _MATTERS.search(_text(heard))):
            return result, ""
        return self._listen_alone(call)

    def _listen_alone(self, call: Callable[[], Result]) -> tuple[Result, str]:
        with self._door, self._quiet:
            self._quiet.wait_for(lambda: not self._inside)
            self._forget()
            self._stderr.value = self._file
            try:
                result, heard = call(), _text(self._heard.value)
            finally:
                self._stderr.value = self._shown
                self._forget()
        return result, heard if _MATTERS.search(heard) else ""

    def _forget(self) -> None:
        ctypes.memset(self._heard, 0, _BYTES)
        self._rewind(self._file)


def _text(heard: bytes) -> str:
    return heard.decode(errors="replace")


def _make_ear() -> _Ear | None:
    """Only the GNU C library lets `stderr` be set."""
    c = ctypes.CDLL(None)
    return _Ear(c) if hasattr(c, "gnu_get_libc_version") else None


_ear = _make_ear()


def overhear(call: Callable[[], Result]) -> tuple[Result, str]:
    """Call something that does the same however often it is called; return its result and what it printed about damage.

    With another C library than GNU's it is printed as ever, and not heard.
    """
    return _ear.listen(call) if _ear else (call(), "")
