"""The script for a GPU, part by part, on a processor and at the smallest size: that it runs, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SMALLEST = {"DEVICE": "cpu", "SEEDS": "1", "STEPS": "2", "SIZES": "1,2", "REPEATS": "1", "PYTHON": sys.executable}


@pytest.mark.slow
def test_its_parts_leave_their_tables(tmp_path: Path) -> None:
    where = {"WORK": str(tmp_path / "work"), "OUT": str(tmp_path / "out")}
    script = ["bash", ROOT / "benchmarks" / "gpu.sh", "store", "step", "apart"]
    subprocess.run(script, env=os.environ | SMALLEST | where, check=True)
    steps = pd.read_parquet(tmp_path / "out" / "step.parquet")
    assert set(steps["models"]) == {1, 2}
    assert (steps["value"] > 0).all()
    apart = pd.read_parquet(tmp_path / "out" / "apart.parquet")
    assert set(apart["method"]) == {"composed_apart"}
    assert set(apart["steps"]) == {2}
