"""The script for a GPU, part by part, on a processor and at the smallest size: that it runs, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SMALLEST = {
    **{"DEVICE": "cpu", "SEEDS": "1", "STEPS": "2", "REPEATS": "1", "SIZES": "1,2", "POINTS": "2000", "FACES": "240"},
    **{"RIVALS": "shared-gate-beta1", "PYTHON": sys.executable},
}


@pytest.mark.slow
def test_every_part_leaves_its_table(tmp_path: Path) -> None:
    where = {"WORK": str(tmp_path / "work"), "OUT": str(tmp_path / "out")}
    subprocess.run(["bash", ROOT / "benchmarks" / "gpu.sh"], env=os.environ | SMALLEST | where, check=True)
    names = ("step", "plain", "kmeans", "table1", "apart", "rivals", "faces")
    tables = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in names}
    assert set(tables["step"]["models"]) == {1, 2}
    for name in ("step", "plain", "kmeans"):
        assert (tables[name]["value"] > 0).all()
    for name in ("table1", "apart", "rivals", "faces"):
        assert set(tables[name]["steps"]) == {2}
    assert set(tables["table1"]["method"]) == {"gated", "ungated"}
    assert set(tables["apart"]["method"]) == {"composed_apart"}
