"""The user's own pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.given import read_pairs
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, open_store, pairs_path
from tests.pairing.test_follow import store_of
from tests.pipelines.test_cli import pipe

PAIRS = [(0, 1), (1, 2), (3, 4), (4, 3), (5, 0), (0, 1)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_of(tmp_path / "store", light=[0.5] * 8, split=["train"] * 6 + ["valid", "test"])


def write(path: Path, pairs: list[tuple[object, object]], partition: str = "taste") -> Path:
    pd.DataFrame([(*pair, partition) for pair in pairs], columns=["input", "target", "partition"]).to_csv(
        path, index=False
    )
    return path


@pytest.mark.parametrize("names", ["images", "ids"])
def test_given_pairs_are_taken_in_both_directions_and_every_one_comes(tmp_path: Path, store: Store, names: str) -> None:
    named = [tuple(f"{i}.png" if names == "images" else i for i in pair) for pair in [*PAIRS, (2, 7), (6, 7)]]
    assert pipe("pair", store.path, "--pairs", write(tmp_path / "pairs.csv", named), "--draws", "6") == 0
    made = open_store(store.path).partitions["taste"]
    assert (made["groups"], made["pairs"], made["left_out"]) == (2, 4, 2)
    pairs = pd.read_parquet(pairs_path(store.path, "taste"))
    both = {pair for a, b in PAIRS for pair in ((a, b), (b, a))}
    assert {*zip(pairs["input_id"], pairs["target_id"], strict=True)} == both
    for own, found in pairs.groupby("input_id")["target_id"]:
        counts = found.value_counts()
        assert counts.max() - counts.min() <= 1, own  # each partner as often as the others
    assert not verify(store.path).problems


def test_partitions_of_a_table_are_made_in_their_order_and_tables_may_be_parquet(tmp_path: Path, store: Store) -> None:
    rows = [(f"{a}.png", f"{b}.png", name) for name in ("late", "early") for a, b in PAIRS]
    table = pd.DataFrame(rows, columns=["input", "target", "partition"]).assign(note="of no matter")
    table.to_parquet(tmp_path / "pairs.parquet")
    assert pipe("pair", store.path, "--pairs", tmp_path / "pairs.parquet") == 0
    assert [*open_store(store.path).partitions] == ["late", "early"]


def test_another_table_makes_other_pairs(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("pair", store.path, "--pairs", tmp_path / "pairs.csv")
    write(tmp_path / "pairs.csv", PAIRS)
    assert pipe(*words) == 0
    write(tmp_path / "pairs.csv", [(b, a) for a, b in reversed(PAIRS)])  # the same pairs
    assert pipe(*words) == 0
    assert "was there" in capsys.readouterr().out
    write(tmp_path / "pairs.csv", [*PAIRS, (2, 5)])
    assert pipe(*words) == 1
    assert "exists and differs" in capsys.readouterr().err
    assert pipe(*words, "--overwrite") == 0


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("0.png", "1.png"), ("2.png", "9.png")], r"Row 1 of .*pairs\.csv is no pair"),
        ([(0, 1), (2, 9)], r"Row 1 of .* is no pair\.\nIts target is '9'"),
        ([(0, 1), (2, 2)], r"Row 1 of .*\n?.*itself"),
        ([(0, 1), (2, "")], r"Row 1 of .* is no pair"),
        ([(0, 1), (2, 3)], r"2 of 6 samples that train are in no pair, 4\.png first"),
    ],
)
def test_tables_that_name_no_pairs_are_refused(
    tmp_path: Path, store: Store, pairs: list[tuple[object, object]], told: str
) -> None:
    path = write(tmp_path / "pairs.csv", pairs)
    with pytest.raises(GatedVAEError, match=told):
        pair_exactly(store, read_pairs(path, store))
    assert not (store.path / "pairs").exists()


def test_columns_that_lack_are_named(tmp_path: Path, store: Store) -> None:
    pd.DataFrame({"input": [0], "target": [1]}).to_csv(tmp_path / "pairs.csv")
    with pytest.raises(GatedVAEError, match="no column partition"):
        read_pairs(tmp_path / "pairs.csv", store)


def test_images_of_one_name_are_told_by_their_ids_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", light=np.zeros(4))
    assert read_pairs(write(tmp_path / "ids.csv", [(0, 1), (2, 3)]), store)["taste"].pairs.tolist() == [[0, 1], [2, 3]]
