"""What tells pairs from others: everything that decided them, in whichever way they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from gated_vae.pairing.cluster import ClusterOptions, cluster_store, parse_near
from gated_vae.pairing.exact import Change, pair_exactly
from gated_vae.pairing.follow import Follow
from gated_vae.pairing.given import read_pairs
from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.rules import Rule
from gated_vae.pairing.stream.batches import pairs_digest
from gated_vae.preprocessing.store import Store, open_store
from tests.pairing import test_cluster, test_follow
from tests.stores import make_grid_store

FOUND = {"empty", "further", "groups", "inertia", "left_out", "merged", "pairs", "quality", "same", "sizes"}


def paired(folder: Path) -> Iterator[Store]:
    """Stores with pairs of every kind."""
    faces = test_cluster.store_of(folder / "faces", test_cluster.faces())
    near, clusters = parse_near(["roll=pose_Rz@6.3:4"])
    cluster_store(
        faces, ClusterOptions({"pose": 9, "expression": 9, **clusters}, near, rule=Rule("independent", 3), draws=1)
    )
    pair_exactly(open_store(faces), {"identity": ["identity"]})
    grid = make_grid_store(folder / "grid", FactorGrid(("a", "b"), (3, 4)))
    pair_exactly(grid, {"a": ["a"], "changed": Change(1)})
    frames = test_follow.frames(folder / "frames")
    pair_exactly(frames, {"time": Follow(("video",), "frame", 3)})
    ids = range(len(frames))
    pd.DataFrame({"input": ids, "target": [*ids[1:], 0], "partition": "taste"}).to_csv(
        folder / "pairs.csv", index=False
    )
    pair_exactly(open_store(frames.path), read_pairs(folder / "pairs.csv", frames))
    yield from map(open_store, (faces, grid.path, frames.path))


def test_pairs_are_others_where_anything_that_decided_them_is_and_not_where_what_was_measured_is(
    tmp_path: Path,
) -> None:
    for store in paired(tmp_path):
        for name, record in store.partitions.items():
            for key in record:
                other = replace(store, manifest={**store.manifest, "partitions": {name: {**record, key: "another"}}})
                assert (pairs_digest(other, [name]) == pairs_digest(store, [name])) == (key in FOUND), (name, key)
