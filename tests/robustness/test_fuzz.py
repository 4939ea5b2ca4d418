"""Short runs of the fuzzing and the hostile folders that `make fuzz` and `make hostile` try at length."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("campaign", ["fuzz", "hostile"])
def test_nothing_that_is_read_breaks_anything(campaign: str) -> None:
    words = [sys.executable, "-m", f"tests.robustness.{campaign}", "--seconds", "20", "--seed", "7"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout.splitlines()[-1]
