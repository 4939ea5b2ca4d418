"""The scripts of examples/, where what they need is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gated_vae.preprocessing.store import Store, open_store

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_first_line_says_how_to_run_it() -> None:
    for path in EXAMPLES.glob("*.py"):
        first = path.read_text().partition("\n")[0]
        assert re.fullmatch(rf'"""pip install .*; python examples/{path.name} .*', first)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_from_pairs_and_goes_on(store: Store, tmp_path: Path, workers: int) -> None:
    pytest.importorskip("lightning", reason="lightning is no dependency: pip install lightning")

    def run(*words: object) -> str:
        script = [sys.executable, EXAMPLES / "lightning_loop.py", store.path, "--batch-size", 32, "--out", tmp_path]
        command = [*script, "--workers", workers, *words]
        return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout

    assert "epochs 2, steps 40, " in run("--epochs", 2)  # 20 steps an epoch
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert "epochs 3, steps 60, " in run("--epochs", 3, "--resume", checkpoint)


@pytest.mark.slow
def test_own_pictures_with_a_table_become_a_model_and_its_pictures(tmp_path: Path) -> None:
    script = [sys.executable, EXAMPLES / "own_pictures.py", tmp_path, "--pictures", 200, "--steps", 10]
    told = subprocess.run([*map(str, script)], check=True, capture_output=True, text=True).stdout
    assert "200 = 200 taken + 0 rejected" in told
    assert open_store(tmp_path / "store").images.shape == (200, 32, 32, 3)
    assert list(open_store(tmp_path / "store").partitions) == ["place", "colour", "ground"]
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} >= {"traversals.png"}
