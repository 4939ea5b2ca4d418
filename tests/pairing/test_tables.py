from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gated_vae.pairing import tables
from gated_vae.pairing.rules.base import Members, Partners
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import PairTable, read_groups, write_groups, write_pairs
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import groups_path, pairs_path
from tests.stores import make_store


def grouping(samples: int, groups: int, seed: int = 0) -> np.ndarray:
    """Random groups of uneven sizes, none of a single member."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(2.0, size=groups)
    group = rng.choice(groups, samples, p=share / share.sum()).astype(np.int32)
    sizes = np.bincount(group, minlength=groups)
    group[sizes[group] < 2] = sizes.argmax()
    return group


def uniform(group: np.ndarray) -> Partners:
    rule = UniformPartners(Members.of(group))
    return lambda ids, draw: rule.partners(ids, seed=0, draw=draw)


@pytest.fixture
def group() -> np.ndarray:
    return grouping(1000, 30)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_ROWS", 900)  # with 3 draws: blocks of 300 inputs, the last of 100


def written(store: Path, group: np.ndarray, draws: int = 3) -> Path:
    write_pairs(pairs_path(store, "pose"), group, uniform(group), draws)
    return pairs_path(store, "pose")


@pytest.mark.usefixtures("small_blocks")
def test_pandas_reads_every_sample_as_an_input_once_per_draw(tmp_path: Path, group: np.ndarray) -> None:
    assert write_pairs(pairs_path(tmp_path, "pose"), group, uniform(group), 3) == 3000
    write_pairs(pairs_path(tmp_path, "expression"), group, uniform(group), 2)
    pairs = pd.read_parquet(tmp_path / "pairs")
    assert {"partition", "draw", "group", "input_id", "target_id"} == set(pairs)
    assert {str(pairs[name].dtype) for name in ("draw", "group", "input_id", "target_id")} == {"int32"}
    for (partition, draw), rows in pairs.groupby(["partition", "draw"], observed=True):
        assert sorted(rows.input_id) == list(range(1000)), (partition, draw)
    assert pairs.groupby("partition", observed=True).draw.nunique().to_dict() == {"pose": 3, "expression": 2}
    assert (pairs.input_id != pairs.target_id).all()
    assert (group[pairs.input_id] == pairs.group).all()
    assert (group[pairs.target_id] == pairs.group).all()


@pytest.mark.usefixtures("small_blocks")
def test_blocks_give_back_every_draw(tmp_path: Path, group: np.ndarray) -> None:
    table = PairTable(written(tmp_path, group))
    assert (table.rows, table.draws, table.block_size) == (1000, 3, 300)
    assert table.block_sizes == [300, 300, 300, 100]
    partners = uniform(group)
    for draw in range(5):
        blocks = [table.block(index, draw) for index in range(len(table.block_sizes))]
        input_id, target_id, found = (np.concatenate(column) for column in zip(*blocks, strict=True))
        assert np.array_equal(input_id, np.arange(1000))
        assert np.array_equal(target_id, partners(np.arange(1000), draw % 3))  # draws beyond the table repeat it
        assert np.array_equal(found, group)


@pytest.mark.usefixtures("small_blocks")
def test_rows_lie_by_block_then_draw_then_input(tmp_path: Path, group: np.ndarray) -> None:
    pairs = pd.read_parquet(written(tmp_path, group), partitioning=None)
    blocks = [range(start, min(start + 300, 1000)) for start in range(0, 1000, 300)]
    places = [(draw, sample) for block in blocks for draw in range(3) for sample in block]
    assert list(zip(pairs.draw, pairs.input_id, strict=True)) == places


def test_the_same_pairs_are_the_same_bytes(tmp_path: Path, group: np.ndarray) -> None:
    assert written(tmp_path / "a", group).read_bytes() == written(tmp_path / "b", group).read_bytes()


@pytest.mark.parametrize("groups", [2500, 4000])
def test_a_row_takes_at_most_three_bytes(tmp_path: Path, groups: int) -> None:
    group = grouping(202_599, groups)
    rows = write_pairs(pairs_path(tmp_path, "pose"), group, uniform(group), tables.DRAWS)
    assert pairs_path(tmp_path, "pose").stat().st_size <= 3 * rows


def test_a_table_saved_again_by_pandas_is_refused(tmp_path: Path, group: np.ndarray) -> None:
    path = written(tmp_path, group)
    pd.read_parquet(path, partitioning=None).to_parquet(path)
    with pytest.raises(GatedVAEError, match="another program may have saved it again"):
        PairTable(path)


def test_a_table_with_other_row_groups_is_refused(tmp_path: Path, group: np.ndarray) -> None:
    path = written(tmp_path, group)
    pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=500)
    with pytest.raises(GatedVAEError, match="row groups are not those"):
        PairTable(path)


def test_a_table_in_another_order_is_refused(tmp_path: Path, group: np.ndarray) -> None:
    path = written(tmp_path, group)
    pq.write_table(pq.read_table(path, partitioning=None).sort_by("target_id"), path)
    with pytest.raises(GatedVAEError, match="not in the order"):
        PairTable(path).block(0, 0)


def test_a_damaged_table_is_refused(tmp_path: Path, group: np.ndarray) -> None:
    path = written(tmp_path, group)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(GatedVAEError, match="CRC checksum verification failed"):
        PairTable(path).block(0, 0)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(GatedVAEError, match="cannot be read"):
        PairTable(path)


@pytest.mark.parametrize("key", ["inputs", "draws", "block"])
@pytest.mark.parametrize("value", ["0", "-1", "many", str(2**60)])
def test_a_layout_that_cannot_be_is_refused(tmp_path: Path, group: np.ndarray, key: str, value: str) -> None:
    path = written(tmp_path, group)
    table = pq.read_table(path, partitioning=None)
    layout = {**table.schema.metadata, f"gated_vae.{key}".encode(): value}
    pq.write_table(table.replace_schema_metadata(layout), path)
    if (key, value) == ("block", str(2**60)):  # all in one block, as they are
        assert len(PairTable(path).block(0, 0)[0]) == 1000
        return
    with pytest.raises(GatedVAEError, match=r"cannot be (used|read)"):
        PairTable(path)


def test_pairs_of_another_store_are_refused(tmp_path: Path, group: np.ndarray) -> None:
    store = make_store(tmp_path / "store", 90)
    write_pairs(pairs_path(store.path, "pose"), group, uniform(group), 3)
    with pytest.raises(GatedVAEError, match="3 draws of 1000 inputs, not 3 of 90"):
        PairTable.of(store, "pose")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match=r"pairs\.parquet does not exist"):
        PairTable(pairs_path(tmp_path, "pose"))


@pytest.mark.parametrize("wrong", [lambda ids, draw: ids, lambda ids, draw: (ids + 1) % 1000])  # noqa: ARG005
def test_partners_that_break_their_promise_leave_the_old_table(
    tmp_path: Path, group: np.ndarray, wrong: Partners
) -> None:
    path = written(tmp_path, group)
    before = path.read_bytes()
    with pytest.raises(GatedVAEError, match="partners are the input or of another group"):
        write_pairs(pairs_path(tmp_path, "pose"), group, wrong, 3)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_groups_come_back(tmp_path: Path, group: np.ndarray) -> None:
    distance = np.random.default_rng(0).random(1000, np.float32)
    write_groups(groups_path(tmp_path, "pose"), group, distance)
    found = read_groups(tmp_path, "pose")
    assert np.array_equal(found[0], group)
    assert np.array_equal(found[1], distance)
    frame = pd.read_parquet(tmp_path / "groups")
    assert (frame.sample_id == np.arange(1000)).all()
    assert (frame.partition == "pose").all()


def test_groups_in_another_order_are_refused(tmp_path: Path, group: np.ndarray) -> None:
    write_groups(groups_path(tmp_path, "pose"), group, np.zeros(1000, np.float32))
    path = groups_path(tmp_path, "pose")
    pd.read_parquet(path, partitioning=None).sort_values("group").to_parquet(path)
    with pytest.raises(GatedVAEError, match="not in sample order"):
        read_groups(tmp_path, "pose")
