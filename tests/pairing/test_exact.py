from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gated_vae.pairing.exact import Change, pair_exactly, parse_change, shareable
from gated_vae.pairing.stream.batches import pair_source
from gated_vae.pairing.tables import PairTable
from gated_vae.pairing.verify import verify_partitions
from gated_vae.preprocessing import store as layout
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import write_json, write_parquet
from gated_vae.preprocessing.store import Store, open_store
from tests.pairing.groups.test_grid import SMALL, digits


def make_store(folder: Path, samples: dict[str, object], factors: dict[str, int] | None = None) -> Store:
    table = pa.table(samples)
    write_parquet(layout.samples_path(folder), table, schema_version=layout.SCHEMA_VERSION)
    manifest = {
        "schema_version": layout.SCHEMA_VERSION,
        "kind": "test",
        "image_shape": [4, 4],
        "source_digest": "",
        "seen": len(table),
        "taken": len(table),
        "rejected": 0,
        "parameters": {},
        "partitions": {},
    }
    write_json(layout.manifest_path(folder), {**manifest, **({"factors": factors} if factors else {})})
    return open_store(folder)


@pytest.fixture
def grid_store(tmp_path: Path) -> Store:
    ids = np.arange(SMALL.size)
    factors = dict(zip(SMALL.names, SMALL.sizes, strict=True))
    return make_store(tmp_path / "grid", {"sample_id": ids, "image": ids.astype(str), **digits(SMALL, ids)}, factors)


@pytest.fixture
def label_store(tmp_path: Path) -> Store:
    identity = np.random.default_rng(0).integers(0, 30, 200)
    ids = np.arange(200)
    columns = {"sample_id": ids, "image": ids.astype(str), "identity": identity, "marks": [[0, 1]] * 200}
    return make_store(tmp_path / "faces", columns)


@pytest.mark.parametrize("odd", [0, 1])
def test_sharing_what_all_have_is_refused(tmp_path: Path, odd: int) -> None:
    """One sample that differs is alone, and would join all others."""
    ids = np.arange(200)
    columns = {"sample_id": ids, "light": (ids < odd).astype(int), "place": ids % 9}
    store = make_store(tmp_path, columns)
    with pytest.raises(GatedVAEError, match="cannot share light"):
        pair_exactly(store, {"place": ["place"], "light": ["light"]})
    assert not (store.path / "pairs").exists()
    assert pair_exactly(store, {"both": ["light", "place"]})[0].groups == 9


def test_sharing_a_factor_of_one_class_is_refused(tmp_path: Path) -> None:
    factors = {"colour": 1, "x": 4, "y": 5}
    store = make_store(tmp_path, {"sample_id": np.arange(20)}, factors)
    with pytest.raises(GatedVAEError, match="cannot share colour"):
        pair_exactly(store, {"colour": ["colour"]})


def check_pairs(store: Store, partition: str, label: pd.DataFrame, draws: int) -> pd.DataFrame:
    pairs = pd.read_parquet(store.path / "pairs").query("partition == @partition")
    assert {"partition", "draw", "group", "input_id", "target_id"} == set(pairs.columns)
    assert (pairs.input_id != pairs.target_id).all()
    for _, one in pairs.groupby("draw"):
        assert sorted(one.input_id) == list(range(len(store)))
    assert pairs.draw.nunique() == draws
    shared = label.to_numpy()
    assert (shared[pairs.input_id] == shared[pairs.target_id]).all()
    groups = pd.read_parquet(layout.groups_path(store.path, partition))
    assert (groups.distance == 0).all()
    assert (groups.group.to_numpy()[pairs.input_id] == pairs.group).all()
    assert (groups.group.to_numpy()[pairs.target_id] == pairs.group).all()
    return pairs


def test_the_tables_of_a_grid_hold_what_the_grid_computes(grid_store: Store) -> None:
    calls: list[tuple[int, int, str]] = []
    shares = {"second": ("d", "b"), "first": ("a",)}
    made = pair_exactly(grid_store, shares, draws=3, seed=4, progress=lambda *call: calls.append(call))
    assert [(p.name, p.shared, p.groups, p.merged, p.already_done) for p in made] == [
        ("second", ("b", "d"), 12, 0, False),
        ("first", ("a",), 2, 0, False),
    ]
    assert calls[-1][:2] == (144, 144)
    store = open_store(grid_store.path)
    assert list(store.partitions) == ["second", "first"]
    assert store.partitions["second"].items() >= {
        "method": "exact", "shared": ["b", "d"], "seed": 4, "draws": 3, "groups": 12,
    }.items()  # fmt: skip
    for name, shared in shares.items():
        pairs = check_pairs(store, name, store.samples[[*shared]], 3)
        for draw, one in pairs.groupby("draw"):
            expected = SMALL.partners(
                one.input_id.to_numpy(), shared, seed=store.partitions[name]["stream"], draw=int(draw)
            )  # type: ignore[call-overload]
            assert np.array_equal(one.target_id, expected)


def test_partners_in_different_partitions_are_independent_of_each_other(grid_store: Store) -> None:
    pair_exactly(grid_store, {"left": ("a",), "right": ("b",)}, draws=200)
    store = open_store(grid_store.path)
    left, right = (
        store.sample_columns(["d"])["d"].to_numpy()[pairs.sort_values(["draw", "input_id"]).target_id]
        for pairs in (pd.read_parquet(layout.pairs_path(store.path, name)) for name in ("left", "right"))
    )
    assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(len(left))


def test_pairs_by_a_label_column(label_store: Store) -> None:
    (made,) = pair_exactly(label_store, {"identity": ["identity"]}, draws=2)
    assert made.groups == label_store.samples.identity.nunique()
    check_pairs(label_store, "identity", label_store.samples[["identity"]], 2)
    assert shareable(label_store) == ("identity",), "lists are no labels"


def test_pairing_again_does_nothing_unless_told_otherwise(grid_store: Store) -> None:
    shares = {"p": ("a",), "q": ("b",)}
    pair_exactly(grid_store, shares)
    before = {path: path.stat().st_mtime_ns for path in grid_store.path.rglob("*") if path.is_file()}
    assert all(partition.already_done for partition in pair_exactly(grid_store, shares))
    for changed in ({"seed": 1}, {"draws": 2}):
        with pytest.raises(GatedVAEError, match="exists and differs"):
            pair_exactly(grid_store, shares, **changed)  # type: ignore[arg-type]
    with pytest.raises(GatedVAEError, match="made with shared a; this command has d"):
        pair_exactly(grid_store, {"new": ("c", "d"), "p": ("d",)})
    assert before == {path: path.stat().st_mtime_ns for path in grid_store.path.rglob("*") if path.is_file()}
    made = pair_exactly(grid_store, {"p": ("d",)}, overwrite=True)
    assert (made[0].shared, made[0].already_done) == (("d",), False)
    assert list(open_store(grid_store.path).partitions) == ["q", "p"]


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(grid_store: Store, tmp_path: Path) -> None:
    shares = {"p": ("a",), "q": ("b",)}

    def die_in_q(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done > SMALL.size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_exactly(grid_store, shares, progress=die_in_q)
    assert list(open_store(grid_store.path).partitions) == ["p"]
    assert [partition.already_done for partition in pair_exactly(grid_store, shares)] == [True, False]
    ids = np.arange(SMALL.size)
    samples = {"sample_id": ids, "image": ids.astype(str), **digits(SMALL, ids)}
    whole = make_store(tmp_path / "whole", samples, dict(zip(SMALL.names, SMALL.sizes, strict=True)))
    pair_exactly(whole, shares)
    files = sorted(path.relative_to(whole.path) for path in whole.path.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(grid_store.path) for path in grid_store.path.rglob("*") if path.is_file())
    assert all((whole.path / file).read_bytes() == (grid_store.path / file).read_bytes() for file in files)


def test_a_partition_stays_until_what_replaces_it_is_complete(grid_store: Store) -> None:
    pair_exactly(grid_store, {"p": ("a",)})
    before = {path: path.read_bytes() for path in grid_store.path.rglob("*.*")}

    def die(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_exactly(grid_store, {"p": ("b",)}, overwrite=True, progress=die)
    assert before == {path: path.read_bytes() for path in before}


def test_nothing_is_replaced_behind_a_link(grid_store: Store, tmp_path: Path) -> None:
    """Pairs that were moved are read, and others are written beside them."""
    pair_exactly(grid_store, {"p": ("a",)})
    shutil.move(grid_store.path / "pairs", tmp_path / "disk")
    (grid_store.path / "pairs").symlink_to(tmp_path / "disk")
    before = (tmp_path / "disk" / "partition=p" / "pairs.parquet").read_bytes()
    pair_exactly(grid_store, {"q": ("a",)})
    assert (tmp_path / "disk" / "partition=q" / "pairs.parquet").exists()
    with pytest.raises(GatedVAEError, match="A link leads to where it lies"):
        pair_exactly(grid_store, {"p": ("b",)}, overwrite=True)
    assert (tmp_path / "disk" / "partition=p" / "pairs.parquet").read_bytes() == before
    assert not list(verify_partitions(open_store(grid_store.path)))


@pytest.mark.parametrize("name", ["full", "a b", "../a", ""])
def test_a_name_that_means_something_else_is_refused(name: str, grid_store: Store) -> None:
    """As ``full`` is the whole latent where scores are told."""
    with pytest.raises(UsageError, match=f"No partition can be called {name!r}"):
        pair_exactly(grid_store, {name: ("a",)})


def test_clusters_of_the_same_name_leave_no_centroids(grid_store: Store) -> None:
    stale = layout.centroids_path(grid_store.path, "shape")
    stale.parent.mkdir()
    interrupted = stale.with_name(f".{stale.name}.new")
    for path in (stale, interrupted):
        path.write_bytes(b"of clusters called shape")
    pair_exactly(grid_store, {"shape": ("a",)})
    assert not list(stale.parent.iterdir())


def test_nothing_is_written_when_one_share_is_wrong(grid_store: Store) -> None:
    for bad, message in [
        (("x",), "There are a, b, c, d"),
        (SMALL.names, "every one would be alone"),
        ((), "share something"),
    ]:
        with pytest.raises(GatedVAEError, match=message):
            pair_exactly(grid_store, {"good": ("a",), "bad": bad})
    assert open_store(grid_store.path).partitions == {}
    assert not (grid_store.path / "groups").exists()


def test_a_grid_that_does_not_fit_its_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match="4 combinations, it holds 3 samples"):
        make_store(tmp_path / "s", {"sample_id": [0, 1, 2], "image": ["0", "1", "2"]}, {"a": 2, "b": 2})


def test_there_are_as_many_draws_as_in_the_other_partitions(grid_store: Store) -> None:
    def paired(name: str, factor: str, draws: int | None = None, *, overwrite: bool = False) -> tuple[int, bool]:
        (made,) = pair_exactly(grid_store, {name: [factor]}, draws=draws, overwrite=overwrite)
        return made.draws, made.already_done

    assert paired("first", "a") == (1, False)
    assert paired("second", "b", 4) == (4, False)
    assert paired("third", "d") == (4, False)
    assert paired("first", "a") == (1, True)  # what is there keeps its own
    assert paired("first", "a", overwrite=True) == (4, False)
    both = pair_exactly(grid_store, {"first": ["a"], "fourth": ["b", "c"]})
    assert [made.draws for made in both] == [4, 4]
    check_pairs(open_store(grid_store.path), "third", grid_store.samples[["d"]], 4)


def test_pairs_that_differ_in_k_factors_are_arithmetic_and_in_tables(grid_store: Store) -> None:
    made = pair_exactly(
        grid_store, {"left": ("a",), **dict([parse_change("2"), parse_change("one=1")])}, draws=3, seed=4
    )
    assert [(it.name, it.shared, it.how, it.groups) for it in made[1:]] == [
        ("changed", (), "different in 2 factors, draws 3", 1),
        ("one", (), "different in 1 factor, draws 3", 1),
    ]
    store = open_store(grid_store.path)
    assert not [*verify_partitions(store)]
    for name, k in (("changed", 2), ("one", 1)):
        pairs = check_pairs(store, name, pd.DataFrame(np.zeros((len(store), 1))), 3)
        classes = store.samples[[*SMALL.names]].to_numpy()
        assert ((classes[pairs.input_id] != classes[pairs.target_id]).sum(1) == k).all()
        for source in (pair_source(store, name), PairTable.of(store, name)):
            ids, target, group = source.block(0, 2)
            expected = SMALL.changed(ids, k, seed=store.partitions[name]["stream"], draw=2)
            assert np.array_equal(target, expected)
            assert not group.any()
        assert np.array_equal(pairs.query("draw == 2").sort_values("input_id").target_id, expected)
    with pytest.raises(GatedVAEError, match="made with k 2; this command has 1"):
        pair_exactly(grid_store, {"changed": Change(1)})


@pytest.mark.parametrize("k", [0, 3, 4, 10**12])
def test_pairs_that_share_nothing_or_all_are_refused(grid_store: Store, k: int) -> None:
    """One of the four factors has one class."""
    with pytest.raises(GatedVAEError, match=r"3 vary \(a, b, d\)") as refused:
        pair_exactly(grid_store, {"changed": Change(k)})
    assert str(refused.value.remedy) == "Give a number from 1 to 2."
    assert not (grid_store.path / "pairs").exists()


def test_only_a_grid_has_every_sample_that_differs_in_few_factors(label_store: Store) -> None:
    with pytest.raises(GatedVAEError, match="is no full grid of factors"):
        pair_exactly(label_store, {"changed": Change(1)})


@pytest.mark.parametrize("text", ["", "x", "=1", "a=", "1.5", "-1", "a=b=", "a=1,2"])
def test_changes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(GatedVAEError, match="cannot be read"):
        parse_change(text)
