from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from gated_vae.pairing import Groups, group_kmeans
from gated_vae.pairing.groups import kmeans
from gated_vae.pairing.groups.kmeans import merge_singletons
from gated_vae.preprocessing.errors import GatedVAEError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep faiss from spinning on processors that others use."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def poses(samples: int) -> np.ndarray:
    """Pitch and yaw with the long tails of real head poses."""
    rng = np.random.default_rng(0)
    return np.stack([0.1 * rng.standard_t(5, samples), 0.25 * rng.standard_t(5, samples)], axis=1)


def test_inertia_is_no_worse_than_scikit_learns() -> None:
    points = poses(4000)
    theirs = KMeans(50, init="k-means++", n_init=3, max_iter=25, random_state=0).fit(points).inertia_
    assert group_kmeans(points, 50).inertia <= 1.05 * theirs


def test_inertia_is_well_below_that_of_a_random_start() -> None:
    points = poses(20_000).astype(np.float32)
    random = faiss.Kmeans(2, 400, seed=0, min_points_per_centroid=1)
    random.train(points)
    assert group_kmeans(points, 400).inertia <= 0.6 * random.assign(points)[0].sum()


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_every_point_is_with_its_nearest_centroid(offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "BLOCK", 1024)  # four blocks, the last of what is left
    points = poses(5000) + offset
    groups = group_kmeans(points, 300)
    assert (groups.centroids.dtype, groups.group.dtype, groups.distance.dtype) == (np.float32, np.int32, np.float32)
    assert groups.centroids.shape == (300, 2)
    means = np.stack([points[groups.group == g].mean(axis=0) for g in range(300)])
    # The float32 centroids handed out are rounded at 1000; the grouping is not. Ties within rounding may go either way.
    rounding = 1e-6 + 2 * np.spacing(np.float32(offset))
    apart = cdist(points, groups.centroids.astype(np.float64))
    assert np.abs(apart[np.arange(5000), groups.group] - apart.min(axis=1)).max() <= 2 * rounding
    assert np.abs(groups.distance - apart.min(axis=1)).max() <= 2 * rounding
    assert np.abs(means - groups.centroids).max() < 0.1  # and centroids are about the means of their members


def test_an_offset_does_not_cost_inertia() -> None:
    points = poses(8000)
    assert group_kmeans(points + 100, 200).inertia == pytest.approx(group_kmeans(points, 200).inertia, rel=0.02)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads() -> None:
    points = poses(5000)
    found = []
    for count in (1, 2, 3):
        faiss.omp_set_num_threads(count)
        groups = group_kmeans(points, 300, seed=3)
        found.append((groups.centroids.tobytes(), groups.group.tobytes(), groups.distance.tobytes()))
    assert found[0] == found[1] == found[2]
    assert group_kmeans(points, 300, seed=4).centroids.tobytes() != found[0][0]


def test_more_points_than_are_sampled_are_all_assigned() -> None:
    points = np.repeat([[0.0], [9.0]], 2000, axis=0)
    groups = group_kmeans(points, 2)
    assert groups.sizes.tolist() == [2000, 2000]
    assert groups.inertia == pytest.approx(0, abs=1e-8)


def test_fewer_distinct_points_than_groups_leave_groups_empty() -> None:
    points = np.repeat([[0.0, 0.0], [1.0, 1.0], [5.0, 1.0]], 20, axis=0)
    groups = group_kmeans(points, 25)
    assert np.count_nonzero(groups.sizes) == 3
    assert sorted(groups.sizes[groups.sizes > 0]) == [20, 20, 20]
    assert groups.inertia == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("points", [np.zeros((10, 3)), np.full((10, 3), 1e30), poses(100) * 1e30, poses(100) * 1e-30])
def test_constant_huge_and_tiny_points_are_grouped(points: np.ndarray) -> None:
    groups = group_kmeans(points, 3)
    assert ((groups.group >= 0) & (groups.group < 3)).all()
    assert np.isfinite(groups.distance).all()
    nearest = cdist(points, groups.centroids.astype(float)).min(axis=1)
    assert np.allclose(groups.distance, nearest, rtol=1e-3, atol=1e-5 * np.abs(points).max())


def test_too_many_groups_are_refused_with_the_count_that_would_do() -> None:
    assert group_kmeans(poses(9), 4).sizes.sum() == 9
    with pytest.raises(GatedVAEError, match="Ask for 4 groups or fewer"):
        group_kmeans(poses(9), 5)
    with pytest.raises(GatedVAEError, match="0 groups are not possible"):
        group_kmeans(poses(9), 0)


def test_points_that_are_not_finite_are_counted() -> None:
    points = poses(20)
    points[3, 0], points[7], points[9, 1] = np.nan, np.inf, -np.inf
    with pytest.raises(GatedVAEError, match="3 of 20 hold values that are not finite"):
        group_kmeans(points, 5)


@pytest.mark.parametrize("points", [np.zeros(5), np.zeros((0, 2)), np.zeros((5, 0))])
def test_points_of_another_shape_are_refused(points: np.ndarray) -> None:
    with pytest.raises(GatedVAEError, match="are needed"):
        group_kmeans(points, 1)


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(GatedVAEError, match="no device tpu"):
        group_kmeans(poses(9), 2, device="tpu")
    if not hasattr(faiss, "StandardGpuResources"):
        with pytest.raises(
            GatedVAEError, match=r"processors alone.\n.*install 'faiss-gpu>=1.14.3'`; or use --device cpu"
        ):
            group_kmeans(poses(9), 2, device="cuda")


def test_a_faiss_for_gpus_that_finds_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(GatedVAEError, match=r"faiss finds none.\n.*nvidia-smi.*--device cpu"):
        group_kmeans(poses(9), 2, device="cuda")


@pytest.fixture
def no_faiss_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, and faiss to be looked for anew."""
    kmeans._faiss.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    kmeans._faiss.cache_clear()


@pytest.mark.parametrize("name", ["faiss-gpu", "faiss_gpu_cu12", "faiss"])
def test_two_packages_of_faiss_are_refused(no_faiss_yet: Path, name: str) -> None:
    (no_faiss_yet / f"{name.replace('-', '_')}-1.15.1.dist-info").mkdir()
    both = " and ".join(sorted(["faiss-cpu", name.replace("_", "-")]))
    with pytest.raises(GatedVAEError, match=f"{both} are both installed") as refused:
        group_kmeans(poses(9), 2)
    assert "pip uninstall faiss" in refused.value.remedy


@pytest.mark.usefixtures("no_faiss_yet")
def test_a_faiss_that_lost_its_files_or_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(GatedVAEError, match="faiss-cpu is damaged"):
        group_kmeans(poses(9), 2)
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(__version__="1.7.2"))
    with pytest.raises(GatedVAEError, match=r"1\.7\.2 is installed"):
        group_kmeans(poses(9), 2)
    monkeypatch.setattr(kmeans, "distributions", lambda **_: ())
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(GatedVAEError, match="It is not installed"):
        group_kmeans(poses(9), 2)


def test_samples_alone_join_the_nearest_group_with_more_members() -> None:
    points = np.array([[0.0], [0.2], [1.0], [9.0], [9.2], [1.5], [6.0]])
    centroids = np.array([[0.1], [1.0], [9.1], [1.5], [50.0], [6.0]], np.float32)
    group = np.array([0, 0, 1, 2, 2, 3, 5], np.int32)
    distance = np.abs(points - centroids[group])[:, 0].astype(np.float32)
    merged, count = merge_singletons(Groups(centroids, group, distance), points.__getitem__)
    assert count == 3
    assert merged.group.tolist() == [0, 0, 0, 2, 2, 0, 2]
    assert merged.distance == pytest.approx([0.1, 0.1, 0.9, 0.1, 0.1, 1.4, 3.1], abs=1e-6)
    assert group.tolist() == [0, 0, 1, 2, 2, 3, 5]  # the argument is left alone
    assert merge_singletons(merged, points.__getitem__)[1] == 0


def test_a_grouping_of_single_samples_is_refused() -> None:
    points = np.arange(4.0)[:, None]
    with pytest.raises(GatedVAEError, match="Every sample is alone"):
        merge_singletons(
            Groups(points.astype(np.float32), np.arange(4, dtype=np.int32), np.zeros(4, np.float32)), points.__getitem__
        )
