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
@pytest.mark.parametrize(
    ("script", "size", "images", "partitions"),
    [
        ("own_pictures.py", "--pictures 200", (200, 32, 32, 3), ["place", "colour", "ground"]),
        ("sequences.py", "--films 10", (400, 32, 32), ["film", "place"]),
        ("colour_grid.py", "", (2160, 32, 32, 3), ["ground", "hue", "size", "x"]),
    ],
)
def test_data_of_each_kind_become_a_model_and_its_pictures(
    tmp_path: Path, script: str, size: str, images: tuple[int, ...], partitions: list[str]
) -> None:
    words = [sys.executable, EXAMPLES / script, tmp_path, *size.split(), "--steps", 10]
    told = subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout
    assert told.count("$ pipe") >= 3
    store = open_store(tmp_path / "store")
    assert store.images.shape == images
    assert [*store.partitions] == partitions
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} >= {"traversals.png", "reconstructions.png"}
