"""Groups by K-Means (faiss), on a GPU where there is one.

The first centroids come from a Markov chain that stands in for k-means++ (AFK-MC2; Bachem, Lucic, Hassani, Krause 2016): its
inertia is k-means++'s at a tenth of its time, whereas centroids started at random points leave several times the inertia on
two-dimensional data with thin tails, such as head poses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import distributions
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from gated_vae.pairing.rules.base import Floats, Ids
from gated_vae.preprocessing.errors import GatedVAEError, check_seed

MAX_POINTS_PER_CENTROID = 256  # above k times this many points, centroids are fitted to a random sample of that size
BLOCK = 1 << 16  # points assigned at a time: a multiple of faiss's own blocks, so that cutting changes no rounding


@dataclass(frozen=True, eq=False)
class Groups:
    """Samples grouped around centroids.

    Attributes
    ----------
    centroids:
        float32 (k, d), in the units of the points. A centroid may have no members.
    group:
        Each sample's centroid, int32 (N,).
    distance:
        Euclidean distance to it, float32 (N,).
    """

    centroids: Floats
    group: npt.NDArray[np.int32]
    distance: Floats

    def first(self, count: int) -> Groups:
        """The groups of the first samples alone."""
        return replace(self, group=self.group[:count], distance=self.distance[:count])

    @property
    def inertia(self) -> float:
        """Sum of squared distances."""
        return float(np.square(self.distance, dtype=np.float64).sum())

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Members of each centroid, int64 (k,)."""
        return np.bincount(self.group, minlength=len(self.centroids))


@dataclass(frozen=True, eq=False)
class Centroids:
    """Fitted centroids, to which any points can be assigned, anywhere.

    Attributes
    ----------
    centred:
        float32 (k, d), in the units they were fitted in.
    centre, unit:
        What was taken from the points (d,) before they were divided by `unit`: float32 distances far from the origin
        misplace points.
    """

    centred: Floats
    centre: npt.NDArray[np.float64]
    unit: float

    @property
    def positions(self) -> Floats:
        """The centroids in the units of the points, float32 (k, d)."""
        return (self.centred * self.unit + self.centre).astype(np.float32)

    def assign(self, points: npt.NDArray[Any], device: str = "auto") -> tuple[npt.NDArray[np.int32], Floats]:
        """Find the nearest centroid of every point, int32 (N,), and the distance to it, float32 (N,).

        Points may be cut anywhere at multiples of `BLOCK`: the bytes are those of all points at once.

        Raises
        ------
        GatedVAEError
            When points are not finite, faiss is missing or has no GPU to offer.
        """
        _check_finite(points)
        faiss = _faiss()
        index = faiss.IndexFlatL2(self.centred.shape[1])
        if _use_gpu(faiss, device):
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(self.centred)
        group, distance = np.empty(len(points), np.int32), np.empty(len(points), np.float32)
        for start, stop in cut_blocks(len(points), BLOCK):
            centred = _scaled(points[start:stop], self.centre, self.unit)
            group[start:stop] = index.search(centred, 1)[1].ravel()
            apart = np.linalg.norm(centred - self.centred[group[start:stop]], axis=1)
            distance[start:stop] = apart * self.unit
        return group, distance


def cut_blocks(count: int, size: int) -> list[tuple[int, int]]:
    """Cut 0 .. count - 1 into blocks of `size`, (start, stop) each; the last takes what is left and is never smaller.

    (faiss computes the distances of fewer than 20 points in another way, with other rounding.)
    """
    starts = range(0, max(1, count // size) * size, size)
    return [(start, start + size) for start in starts[:-1]] + [(starts[-1], count)]


def fit_kmeans(points: npt.ArrayLike, k: int, *, seed: int = 0, device: str = "auto") -> Centroids:
    """Fit k centroids; parameters and errors as in `group_kmeans`."""
    points, k, seed = np.asarray(points), index(k), check_seed(seed)
    if points.ndim != 2 or not points.size:
        raise GatedVAEError("Samples cannot be grouped.", f"They are {points.shape}; (N, d) numbers are needed.")
    _check_finite(points)
    most = len(points) // 2
    if not 1 <= k <= most:
        why = f"{len(points)} samples make at most {most}, so that every one has a partner."
        raise GatedVAEError(f"{k} groups are not possible.", why, f"Ask for {most} groups or fewer." if most else "")
    faiss = _faiss()
    kmeans = faiss.Kmeans(
        points.shape[1],
        k,
        gpu=_use_gpu(faiss, device),
        seed=seed % 2**31,
        init_method=faiss.ClusteringInitMethod_AFK_MC2,
        max_points_per_centroid=MAX_POINTS_PER_CENTROID,
        min_points_per_centroid=1,  # only a warning, which the report's histogram replaces
    )
    centre = points.mean(axis=0, dtype=np.float64)
    unit = float(np.maximum(points.max(axis=0) - centre, centre - points.min(axis=0)).max()) or 1.0
    kmeans.train(_scaled(points, centre, unit))
    return Centroids(kmeans.centroids, centre, unit)


def group_kmeans(points: npt.ArrayLike, k: int, *, seed: int = 0, device: str = "auto") -> Groups:
    """Group points around k centroids; every point belongs to its nearest.

    The same arguments on the same kind of processor give the same bytes, with any number of threads. Of more than 256 k
    points, a random sample of that size (by `seed`) decides the centroids; all are assigned.

    Parameters
    ----------
    points:
        Finite numbers (N, d).
    k:
        Number of centroids, 1 .. N / 2. Fewer distinct points than k leave centroids without members.
    device:
        ``auto`` (all GPUs if there are any, else the processor), ``cpu`` or ``cuda``.

    Raises
    ------
    GatedVAEError
        When k does not fit, points are not finite, faiss is missing or has no GPU to offer.
    """
    fitted = fit_kmeans(points, k, seed=seed, device=device)
    return Groups(fitted.positions, *fitted.assign(np.asarray(points), device))


def merge_singletons(groups: Groups, points_of: Callable[[Ids], npt.NDArray[Any]]) -> tuple[Groups, int]:
    """Move samples that are alone in their group to the nearest group of two or more; return how many were moved.

    Parameters
    ----------
    points_of:
        Gives the points (n, d) of samples (n,).

    Raises
    ------
    GatedVAEError
        When every sample is alone.
    """
    sizes = groups.sizes
    alone = np.flatnonzero(sizes[groups.group] == 1)
    if not len(alone):
        return groups, 0
    hosts = np.flatnonzero(sizes > 1)
    if not len(hosts):
        raise GatedVAEError("Samples cannot be paired.", "Every sample is alone in its group.", "Use fewer groups.")
    distance, nearest = cKDTree(groups.centroids[hosts]).query(points_of(alone))
    group, distances = groups.group.copy(), groups.distance.copy()
    group[alone], distances[alone] = hosts[nearest], distance
    return replace(groups, group=group, distance=distances), len(alone)


def _check_finite(points: npt.NDArray[Any]) -> None:
    bad = np.count_nonzero(~np.isfinite(points).all(axis=1))
    if bad:
        raise GatedVAEError("Samples cannot be grouped.", f"{bad} of {len(points)} hold values that are not finite.")


def _scaled(points: npt.NDArray[Any], centre: npt.NDArray[np.float64], unit: float) -> Floats:
    """The points around `centre` in a unit, a block at a time, as what is computed on the way is twice as wide."""
    scaled = np.empty(points.shape, np.float32)
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        scaled[block] = (points[block] - centre) / unit
    return scaled


_PACKAGES = ("faiss", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-cuda")  # of one module
_INSTALL = "Install faiss-cpu or, for a GPU, 'faiss-gpu>=1.14.3', and no other."
_DEVICES = "Use auto, cpu or cuda; CUDA_VISIBLE_DEVICES chooses among GPUs."


def _use_gpu(faiss: Any, device: str) -> bool:
    if device not in ("auto", "cpu", "cuda"):
        raise GatedVAEError(f"There is no device {device} for K-Means.", "It takes all GPUs or none.", _DEVICES)
    found = device != "cpu" and faiss.get_num_gpus() > 0
    if device == "cuda" and not found:
        why = "faiss finds none."
        remedy = "See whether `nvidia-smi` lists one and CUDA_VISIBLE_DEVICES hides it; or use --device cpu."
        if not hasattr(faiss, "StandardGpuResources"):
            why = "The faiss that is installed computes on processors alone."
            remedy = "Run `pip uninstall faiss-cpu`, then `pip install 'faiss-gpu>=1.14.3'`; or use --device cpu."
        raise GatedVAEError("K-Means cannot run on a GPU.", why, remedy)
    return found


@cache
def _faiss() -> Any:
    """The module, unless two packages have it: each overwrites files of the other, and what is left may do anything."""
    found = [name for name in _PACKAGES if any(distributions(name=name))]
    remedy = f"Run `pip uninstall {' '.join(found)}`. {_INSTALL}" if found else _INSTALL
    if len(found) > 1:
        raise GatedVAEError(f"{' and '.join(found)} are both installed.", "They overwrite each other.", remedy)
    try:
        import faiss
    except ImportError as error:
        why = f"{found[0]} is damaged ({error})." if found else "It is not installed."
        raise GatedVAEError("K-Means needs faiss.", why, remedy) from None
    if not hasattr(faiss, "ClusteringInitMethod_AFK_MC2"):
        raise GatedVAEError("K-Means needs faiss 1.12 or newer.", f"{faiss.__version__} is installed.", remedy)
    return faiss
