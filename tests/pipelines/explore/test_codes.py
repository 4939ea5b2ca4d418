from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from gated_vae.models.figures.sheet import MUTED, PALETTE
from gated_vae.pipelines.explore.codes import (
    classes_of,
    combinations,
    contrast,
    dimensions,
    labels_of,
    nearest,
    numbers_of,
    painted,
    plane,
    traversed,
)
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.pipelines.evaluation.test_probes_of_faces import label_store

PARTS = {"pose": slice(0, 2), "expression": slice(2, 5)}


def test_the_busiest_dimension_of_each_partition_comes_first_and_dead_ones_are_told() -> None:
    found = dimensions(PARTS, [0.01, 2.0, 0.3, 0.0, 0.9], 0.05)
    assert [it.number for it in found] == [1, 0, 4, 2, 3]
    assert [it.partition for it in found] == ["pose"] * 2 + ["expression"] * 3
    assert [it.number for it in found if it.dead] == [0, 3]
    unknown = dimensions(PARTS, None, 0.05)
    assert [it.number for it in unknown] == [0, 1, 2, 3, 4]
    assert not any(it.dead or it.kl is not None for it in unknown)


def test_a_traversal_moves_one_dimension_alone() -> None:
    moved = traversed(np.arange(5, dtype=np.float32), 3, np.array([-3, 0, 3], np.float32))
    np.testing.assert_array_equal(moved, [[0, 1, 2, -3, 4], [0, 1, 2, 0, 4], [0, 1, 2, 3, 4]])


def test_combinations_take_whole_partitions() -> None:
    found = combinations(np.zeros(5, np.float32), np.ones(5, np.float32), PARTS)
    assert {key: code.tolist() for key, code in found.items()} == {
        (False, False): [0, 0, 0, 0, 0],
        (True, False): [1, 1, 0, 0, 0],
        (False, True): [0, 0, 1, 1, 1],
        (True, True): [1, 1, 1, 1, 1],
    }


def test_the_plane_is_that_of_principal_components() -> None:
    codes = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * [3, 0.1, 2, 1, 0.5]
    expected = PCA(2).fit_transform(codes)
    found = plane(codes, "PCA")
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)
    assert (np.corrcoef(np.hstack([found, codes[:, [0, 2]]]).T)[[0, 1], [2, 3]] > 0).all()
    np.testing.assert_array_equal(plane(codes[:, :2], "PCA"), codes[:, :2])
    np.testing.assert_array_equal(plane(codes[:, :1], "PCA"), np.pad(codes[:, :1], ((0, 0), (0, 1))))


def test_labels_are_those_of_the_samples(store: Store) -> None:
    labelled, ids = label_store(store), np.array([3, 77, 298])
    table = labelled.samples.iloc[ids]
    assert labels_of(labelled, "image", ids).tolist() == table["image"].tolist()
    pd.testing.assert_frame_equal(
        numbers_of(labelled, ["pose_Rx", "identity"], ids),
        table[["pose_Rx", "identity"]].astype(np.float64).reset_index(drop=True),
    )
    with pytest.raises(GatedVAEError, match="no column nose"):
        labels_of(labelled, "nose", ids)


def test_rare_classes_share_a_colour() -> None:
    values = pd.Series(["a"] * 5 + ["b"] * 9 + [None] * 3 + [f"rare {i}" for i in range(20)])
    classes, names = classes_of(values)
    assert names[:3] == ["b", "a", "none"]
    assert len(names) == 8
    assert set(classes) == {*names, "other"}
    assert classes.count("other") == 15
    assert classes_of(pd.Series([b"\xff", None]))[0] == ["b'\\xff'", "none"]


def test_numbers_are_coloured_by_a_scale_and_few_values_as_classes() -> None:
    values = pd.Series(np.linspace(0.0, 100.0, 101))
    found = painted(values, as_classes=False)
    assert found.ends == pytest.approx((1, 99))
    assert (found.colours[0], found.colours[-1]) == ("#440154", "#fde725")  # the ends of viridis
    assert (len(found.colours), found.classes) == (101, {})
    missing = painted(values.where(values != 50), as_classes=False)
    assert missing.colours[50] == MUTED.lower()
    endless = painted(values.where(values < 95, np.inf), as_classes=False)
    assert endless.colours[-1] == "#fde725"
    assert endless.ends == pytest.approx((0.94, 93.06))
    widest = painted(pd.Series(np.linspace(-1.7, 1.7, 101) * 1e308), as_classes=False)
    assert widest.ends == pytest.approx((-1.666e308, 1.666e308))
    assert len({*widest.colours}) > 90
    ids = painted(pd.Series([10, 10, 10, 9, 9, 1]), as_classes=True)
    assert [*ids.classes.items()] == [("1", PALETTE[0]), ("9", PALETTE[1]), ("10", PALETTE[2])]
    assert ids.colours == [PALETTE[2]] * 3 + [PALETTE[1]] * 2 + [PALETTE[0]]
    assert [*painted(pd.Series([0.5, None, None, -2]), as_classes=False).classes] == ["-2.0", "0.5", "none"]
    assert [*painted(pd.Series([True, False, True]), as_classes=False).classes] == ["True", "False"]
    assert painted(pd.Series([*"abcdefghij"]), as_classes=False).classes["other"] == MUTED


def test_means_are_told_where_they_differ_most() -> None:
    table = pd.DataFrame({"a": [0.0, 0, 1, 1], "b": [1.0, 2, 3, 6], "same": [4.0] * 4, "hole": [1.0, None, None, 3]})
    found = contrast(table, np.array([2, 3]), 2)
    assert found == {"a": (1.0, 0.5), "hole": (3.0, 2.0)}
    assert contrast(table, np.array([2, 3]), 9).keys() == {"a", "hole", "b"}


def test_a_click_means_the_nearest_point() -> None:
    points = np.array([[0.0, 0], [10, 0], [0, 1000]])
    assert nearest(points, (6, 0)) == (1, pytest.approx(0.4))
    assert nearest(points, (0, 600)) == (2, pytest.approx(0.4))
    assert nearest(np.zeros((3, 2)), (1, 0)) == (0, 1.0)
    assert nearest(np.empty((0, 2)), (0, 0)) == (-1, np.inf)
