from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from gated_vae.pairing.exact import FactorGrid, factor_names, group_by_labels, pair_exactly, parse_share, parse_shares
from gated_vae.pairing.rules.uniform import draw_partners
from gated_vae.pairing.stream.batches import pair_source
from gated_vae.preprocessing import store as layout
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import write_json, write_parquet
from gated_vae.preprocessing.store import Store, open_store

DSPRITES = FactorGrid(("shape", "scale", "orientation", "posX", "posY"), (3, 6, 40, 32, 32))
SMALL = FactorGrid(("a", "b", "c", "d"), (2, 3, 1, 4))
SUBSETS = [("a",), ("b",), ("d",), ("c",), ("a", "d"), ("b", "c"), ("a", "b", "c"), ("c", "d"), ("b", "d")]


def digits(grid: FactorGrid, ids: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(grid.names, np.unravel_index(ids, grid.sizes), strict=True))


# --- the grid ---


@pytest.mark.parametrize("shared", SUBSETS)
def test_partners_are_those_of_scanned_groups_on_a_small_grid(shared: Sequence[str]) -> None:
    ids = np.arange(SMALL.size)
    classes = digits(SMALL, ids)
    label = list(zip(*(classes[name] for name in shared), strict=True))
    scanned = np.array([sorted(set(label)).index(key) for key in label])
    assert np.array_equal(SMALL.group(ids, shared), scanned)
    for seed, draw in [(0, 0), (0, 1), (7, 0)]:
        expected = draw_partners(scanned, seed=seed, draw=draw)
        assert np.array_equal(SMALL.partners(ids, shared, seed=seed, draw=draw), expected)


@pytest.mark.parametrize(
    "shared", [("posX", "posY"), ("orientation",), ("shape",), ("scale",), ("shape", "orientation", "posY")]
)
def test_partners_share_just_what_they_should_on_the_full_grid(shared: Sequence[str]) -> None:
    ids = np.random.default_rng(0).integers(0, DSPRITES.size, 20_000)
    targets = DSPRITES.partners(ids, shared, seed=3, draw=5)
    assert ((targets >= 0) & (targets < DSPRITES.size) & (targets != ids)).all()
    own, others = digits(DSPRITES, ids), digits(DSPRITES, targets)
    for name, size in zip(DSPRITES.names, DSPRITES.sizes, strict=True):
        agreeing = np.mean(own[name] == others[name])
        assert agreeing == 1 if name in shared else abs(agreeing - 1 / size) < 0.02
    whole = draw_partners(DSPRITES.group(np.arange(DSPRITES.size), shared), seed=3, draw=5)
    assert np.array_equal(targets, whole[ids])


def test_a_sample_s_partner_does_not_depend_on_the_batch_or_the_order_of_factors() -> None:
    ids = np.random.default_rng(1).permutation(DSPRITES.size)[:50_000]
    whole = DSPRITES.partners(ids, ("posX", "posY"), seed=0, draw=0)
    parts = [DSPRITES.partners(part, ("posY", "posX"), seed=0, draw=0) for part in np.array_split(ids, 37)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(DSPRITES.partners(ids, ("posX", "posY"), seed=1, draw=0), whole)
    assert not np.array_equal(DSPRITES.partners(ids, ("posX", "posY"), seed=0, draw=1), whole)
    assert len(DSPRITES.partners(ids[:0], ("shape",), seed=0, draw=0)) == 0


def test_partners_are_uniform_over_the_others() -> None:
    grid = FactorGrid(("a", "b"), (3, 8))
    draws = np.stack([grid.partners(np.arange(24), ("a",), seed=11, draw=draw) for draw in range(4000)])
    for sample in range(24):
        counts = np.bincount(draws[:, sample], minlength=24)
        members = np.arange(sample // 8 * 8, sample // 8 * 8 + 8)
        others = members[members != sample]
        assert counts[others].sum() == 4000
        assert stats.chisquare(counts[others]).pvalue > 1e-4


def test_impossible_sharing_is_refused() -> None:
    ids = np.arange(4)
    with pytest.raises(GatedVAEError, match="every one would be alone"):
        SMALL.partners(ids, ("d", "c", "b", "a"), seed=0, draw=0)
    with pytest.raises(GatedVAEError, match="every one would be alone"):  # what is left out has one class only
        SMALL.partners(ids, ("a", "b", "d"), seed=0, draw=0)
    with pytest.raises(GatedVAEError, match="must share something"):
        SMALL.group(ids, ())
    with pytest.raises(GatedVAEError, match=r"no factor e\.\nThere are a, b, c, d\."):
        SMALL.group(ids, ("a", "e"))


# --- shares ---


def test_shares_are_read_in_order_and_may_overlap() -> None:
    assert parse_share("position=posX,posY") == ("position", ("posX", "posY"))
    assert parse_share(" a = b , c ") == ("a", ("b", "c"))
    shares = parse_shares(["z=posX,posY", "a=posY,shape"])
    assert list(shares.items()) == [("z", ("posX", "posY")), ("a", ("posY", "shape"))]


@pytest.mark.parametrize(
    "text", ["position", "=posX", "position=", "p=posX,", "p=posX,,posY", "a/b=posX", "..=posX", "p=posX,posX"]
)
def test_unreadable_shares_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(GatedVAEError, match="--share position=posX,posY") as caught:
        parse_share(text)
    assert text in caught.value.what


def test_two_partitions_cannot_have_one_name() -> None:
    with pytest.raises(GatedVAEError, match="Two partitions are called p"):
        parse_shares(["p=posX", "p=posY"])


# --- groups from labels ---


def test_rows_are_grouped_by_all_labels_in_sorted_order() -> None:
    labels = pd.DataFrame({"x": [2, 1, 2, 1, 1, 1], "y": ["b", "a", "b", "b", "a", "b"]})
    group, merged = group_by_labels(labels)
    assert (group.tolist(), merged) == ([2, 0, 2, 1, 0, 1], 0)


def test_rows_that_are_alone_join_the_nearest_group_and_are_counted() -> None:
    group, merged = group_by_labels(pd.DataFrame({"identity": [1, 2, 2, 3, 5, 6, 6, 6, 7]}))
    assert (group.tolist(), merged) == ([0, 0, 0, 0, 1, 1, 1, 1, 1], 4)
    group, merged = group_by_labels(pd.DataFrame({"identity": [2, 2, 3, 6, 6]}))  # as near to either: the earlier
    assert (group.tolist(), merged) == ([0, 0, 0, 1, 1], 1)


def test_missing_labels_and_continuous_ones_are_refused() -> None:
    with pytest.raises(GatedVAEError, match=r"share identity\.\n1 of 3 samples have no value"):
        group_by_labels(pd.DataFrame({"identity": [1, None, 1]}))
    with pytest.raises(GatedVAEError, match=r"6 of 8 samples agree with no other.*\n.*pipe cluster"):
        group_by_labels(pd.DataFrame({"pose_Rx": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]}))


# --- stores ---


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
    return make_store(tmp_path / "faces", {"sample_id": ids, "image": ids.astype(str), "identity": identity})


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
    calls: list[tuple[int, int]] = []
    shares = {"second": ("d", "b"), "first": ("a",)}
    made = pair_exactly(grid_store, shares, draws=3, seed=4, progress=lambda *call: calls.append(call))
    assert [(p.name, p.factors, p.groups, p.merged, p.already_done) for p in made] == [
        ("second", ("b", "d"), 12, 0, False),
        ("first", ("a",), 2, 0, False),
    ]
    assert calls[-1] == (144, 144)
    store = open_store(grid_store.path)
    assert list(store.partitions) == ["second", "first"]
    assert store.partitions["second"].items() >= {
        "method": "exact", "factors": ["b", "d"], "seed": 4, "draws": 3, "groups": 12,
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


def test_a_partition_of_before_streams_keeps_its_pairs(grid_store: Store) -> None:
    pair_exactly(grid_store, {"p": ("a",)}, seed=3)
    store = open_store(grid_store.path)
    record = {key: value for key, value in store.partitions["p"].items() if key != "stream"}
    store = store.with_partitions({"p": record})
    _, target, _ = pair_source(store, "p").block(0, 0)
    assert np.array_equal(target, SMALL.partners(np.arange(SMALL.size), ("a",), seed=3, draw=0))
    with pytest.raises(GatedVAEError, match="An earlier version made it"):
        pair_exactly(store, {"p": ("a",)}, seed=3)


def test_pairs_by_a_label_column(label_store: Store) -> None:
    (made,) = pair_exactly(label_store, {"identity": ["identity"]}, draws=2)
    assert made.groups == label_store.samples.identity.nunique()
    check_pairs(label_store, "identity", label_store.samples[["identity"]], 2)
    assert factor_names(label_store) == ("identity",)


def test_pairing_again_does_nothing_unless_told_otherwise(grid_store: Store) -> None:
    shares = {"p": ("a",), "q": ("b",)}
    pair_exactly(grid_store, shares)
    before = {path: path.stat().st_mtime_ns for path in grid_store.path.rglob("*") if path.is_file()}
    assert all(partition.already_done for partition in pair_exactly(grid_store, shares))
    for changed in ({"seed": 1}, {"draws": 2}):
        with pytest.raises(GatedVAEError, match="exists and differs"):
            pair_exactly(grid_store, shares, **changed)  # type: ignore[arg-type]
    with pytest.raises(GatedVAEError, match=r"Its factors is \['a'\], this command's is \['d'\]"):
        pair_exactly(grid_store, {"new": ("c", "d"), "p": ("d",)})
    assert before == {path: path.stat().st_mtime_ns for path in grid_store.path.rglob("*") if path.is_file()}
    made = pair_exactly(grid_store, {"p": ("d",)}, overwrite=True)
    assert (made[0].factors, made[0].already_done) == (("d",), False)
    assert list(open_store(grid_store.path).partitions) == ["q", "p"]


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(grid_store: Store, tmp_path: Path) -> None:
    shares = {"p": ("a",), "q": ("b",)}

    def die_in_q(done: int, _: int) -> None:
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


def test_replacing_a_partition_never_leaves_a_record_of_what_is_gone(grid_store: Store) -> None:
    pair_exactly(grid_store, {"p": ("a",)})

    def die(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_exactly(grid_store, {"p": ("b",)}, overwrite=True, progress=die)
    assert open_store(grid_store.path).partitions == {}


def test_clusters_of_the_same_name_leave_no_centroids(grid_store: Store) -> None:
    stale = layout.centroids_path(grid_store.path, "shape")
    stale.parent.mkdir()
    stale.write_bytes(b"of clusters called shape")
    pair_exactly(grid_store, {"shape": ("a",)})
    assert not stale.exists()


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
    store = make_store(tmp_path / "s", {"sample_id": [0, 1, 2], "image": ["0", "1", "2"]}, {"a": 2, "b": 2})
    with pytest.raises(GatedVAEError, match="4 combinations, it holds 3 samples"):
        pair_exactly(store, {"p": ("a",)})
