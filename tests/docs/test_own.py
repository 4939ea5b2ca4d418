"""The method and the rule that the guides show as a user's own do what the guides say, from the command line and from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gated_vae.pipelines.training.run import open_run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.base import make_store
from tests.docs.check import ROOT
from tests.docs.test_commands import blocks
from tests.stores import Given, random_images

LABELS = ("pose_Rx", "pose_Ry", "AU01_r", "AU12_r")


def shown(page: str) -> list[str]:
    """The blocks of a guide that are run here."""
    return [block.text for block in blocks((ROOT / "docs" / page).read_text()) if "test_own.py" in block.reason]


def run(words: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = words.replace("python", sys.executable, 1).split()
    told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{words}\n{told.stderr[-2000:]}"


def labelled_store(path: Path) -> None:
    """A store of 120 images with random labels."""
    random = np.random.default_rng(0)
    table = {"image": [f"{number}.png" for number in range(120)]} | {name: random.normal(size=120) for name in LABELS}
    make_store(Given(random_images(120), pa.table(table)), path)


def test_a_rule_of_ones_own_draws_pairs(tmp_path: Path) -> None:
    labelled_store(tmp_path / "store")
    (rule,) = shown("pairs.md")
    (tmp_path / "mine.py").write_text(rule)
    run("python mine.py cluster store --pose 4 --expression 4 --draws 3 --rule round-robin", tmp_path)
    pairs = pd.read_parquet(tmp_path / "store" / "pairs", columns=["input_id", "target_id", "group", "draw"])
    assert len(pairs) == 2 * 3 * 120
    assert (pairs.input_id != pairs.target_id).all()
    groups = pd.read_parquet(tmp_path / "store" / "groups")
    for name, group in groups.groupby("partition", observed=True):
        drawn = pd.read_parquet(tmp_path / "store" / "pairs" / f"partition={name}" / "pairs.parquet")
        of = group.set_index("sample_id").group
        assert (of[drawn.input_id].to_numpy() == of[drawn.target_id].to_numpy()).all()
        assert (drawn.groupby(["draw", "target_id"]).size() == 1).all()


@pytest.mark.slow
def test_a_method_of_ones_own_is_trained_opened_and_told_of(tmp_path: Path) -> None:
    labelled_store(tmp_path / "store")
    method, commands, python = shown("methods.md")
    (tmp_path / "mine.py").write_text(method)
    (tmp_path / "trains.py").write_text(f"{python.replace('steps=300', 'steps=3')}\nprint(run.encode(run.sample(2)))\n")
    train, evaluate = commands.splitlines()
    run("python mine.py cluster store --pose 4 --expression 4", tmp_path)
    run(f"{train} --steps 3", tmp_path)
    run(evaluate, tmp_path)
    run("python trains.py", tmp_path)
    for made in ("mine/0", "mine/1", "mine/2", "run"):
        with pytest.raises(GatedVAEError, match="cannot be opened") as refused:
            open_run(tmp_path / made)
        assert "leaky-gate" in refused.value.why
