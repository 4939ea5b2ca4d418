"""A short run of the fuzzing that `make fuzz` does at length."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_nothing_that_is_read_breaks_anything() -> None:
    words = [sys.executable, "-m", "tests.robustness.fuzz", "--seconds", "20", "--seed", "7"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout.splitlines()[-1]
