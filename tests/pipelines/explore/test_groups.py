from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gated_vae.pairing.tables import write_groups
from gated_vae.pipelines.explore import groups
from gated_vae.pipelines.explore.groups import GroupView, partners_of, pictures_of
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.simulate.faces import simulate_faces
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.store import Store, groups_path


def test_groups_are_those_of_the_table(store: Store) -> None:
    rng = np.random.default_rng(1)
    group = (rng.integers(0, 12, 300) ** 2 % 20).astype(np.int32)
    distance = rng.random(300).astype(np.float32)
    write_groups(groups_path(store.path, "pose"), group, distance)
    table = pd.read_parquet(groups_path(store.path, "pose"))
    view = GroupView.of(store, "pose")
    for number, own in table.groupby("group"):
        assert view.sizes[number] == len(own)
        assert view.spread[number] == pytest.approx(own["distance"].mean())
        assert view.members(int(number)).tolist() == own.sort_values("distance", kind="stable")["sample_id"].tolist()
    assert view.spread[view.sizes == 0].tolist() == [0.0] * int((view.sizes == 0).sum())
    assert sorted(view.shown()) == sorted(table["group"].unique())
    assert np.diff(view.sizes[view.shown()]).min() >= 0
    for wrong in (-1, 20):
        with pytest.raises(GatedVAEError, match=f"no group {wrong}"):
            view.members(wrong)
    with pytest.raises(GatedVAEError, match="no partition nose"):
        GroupView.of(store, "nose")


def test_of_many_groups_some_of_every_size_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 5)
    sizes = np.arange(1, 41)
    view = GroupView(np.repeat(np.arange(40, dtype=np.int32), sizes), np.zeros(sizes.sum(), np.float32))
    assert view.sizes[view.shown()].tolist() == [1, 11, 21, 30, 40]


def test_partners_are_those_of_every_draw(store: Store) -> None:
    pairs = pd.read_parquet(store.path / "pairs")
    own = pairs[(pairs["partition"] == "expression") & (pairs["input_id"] == 123)].sort_values("draw")
    assert partners_of(store, "expression", 123).tolist() == own["target_id"].tolist()
    assert partners_of(store, "expression", 300).tolist() == []


def test_rejected_rows_by_reason() -> None:
    rows = {"source": list("abcd"), "row": [0, None, 1, 2], "reason": ["x", "y", "y", "y"], "detail": [""] * 4}
    table = pa.table(rows)
    assert groups.reasons(table) == {"y": 3, "x": 1}
    assert [(it["source"], it["row"]) for it in groups.rejected_rows(table, "y", 2)] == [("b", None), ("c", 1)]


def test_pictures_of_what_was_rejected_lie_in_the_folder(tmp_path: Path) -> None:
    simulate_faces(FaceSimulation(n=3, seed=1), tmp_path / "faces")
    folder = tmp_path / "faces" / "processed"
    (found,) = pictures_of(folder, "000002.csv", 0)
    assert found.parent.name == "000002_aligned"
    assert found.is_file()
    assert [*pictures_of(folder, "sub/face.png", None)] == [folder / "sub" / "face.png"]
    for outside in ("../../secret.png", "/etc/passwd", "../truth.csv"):
        assert [*pictures_of(folder, outside, 0)] == []
