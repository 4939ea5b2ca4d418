"""C's own standard error is heard while something listens, and only then."""

from __future__ import annotations

import ctypes
import sys
import threading

import pytest

from gated_vae.preprocessing.decoding.complaints import overhear
from tests.machine import HANG

C = ctypes.CDLL(None)


def say(text: str) -> int:
    """Print a line as libjpeg does, with the C library's `fprintf(stderr, ...)`."""
    stderr = ctypes.c_void_p.in_dll(C, "stderr")
    C.fprintf(stderr, b"%s\n", text.encode())
    return len(text)


def test_what_matters_is_returned_and_nothing_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    assert overhear(lambda: say("Corrupt JPEG data: bad Huffman code")) == (35, "Corrupt JPEG data: bad Huffman code\n")
    assert overhear(lambda: say("libpng warning: iCCP: known incorrect sRGB profile")) == (50, "")
    assert overhear(lambda: 7) == (7, "")
    assert capfd.readouterr().err == ""


def test_all_else_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    def both() -> None:
        print("from Python", file=sys.stderr, flush=True)
        say("libpng error: bad")

    assert overhear(both)[1] == "libpng error: bad\n"
    say("from C, later")
    assert set(capfd.readouterr().err.splitlines()) == {"from Python", "from C, later"}
    with pytest.raises(KeyError):
        overhear(lambda: {}[say("libpng error: before it fails")])
    say("after a failure")
    assert capfd.readouterr().err == "after a failure\n"
    assert overhear(lambda: 7) == (7, "")


def test_so_much_that_it_does_not_fit() -> None:
    for _ in range(200):
        assert overhear(lambda: say("libpng warning: " + "x" * 99)) == (115, "")
    assert overhear(lambda: say("libpng error: " + "y" * 9000))[1].startswith("libpng error: yyy")
    assert overhear(lambda: say("libpng error: still heard"))[1] == "libpng error: still heard\n"


def test_who_speaks_is_told_from_who_speaks_beside() -> None:
    """One is in the middle of its work while another complains: it is asked again and is found to be silent."""
    begun, spoken, calls = threading.Event(), threading.Event(), []

    def silent() -> None:
        calls.append(None)
        begun.set()
        assert spoken.wait(HANG)

    results: list[object] = []
    beside = threading.Thread(target=lambda: results.append(overhear(silent)))
    beside.start()
    assert begun.wait(HANG)
    say("libpng error: from elsewhere")
    spoken.set()
    beside.join(HANG)
    assert (results, len(calls)) == ([(None, "")], 2)
