"""Grouping beside bare faiss.Kmeans and scikit-learn: `python -m benchmarks.kmeans [--repeats 2]`.

CelebA's size: 202,599 samples, 2 columns in 2,500 groups and 17 columns in 4,000. The floor is faiss.Kmeans itself, from
the same start, with the assignment of every sample: no checks, no centring, no distances. scikit-learn's KMeans (25 iterations
as here, one start) and MiniBatchKMeans are set against ours once: for poses at this size, which takes three minutes, for
expressions at a quarter of the samples and groups. All runs alternate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from benchmarks.timing import Record, figure, show
from gated_vae.pairing import group_kmeans

SAMPLES = 202_599
SCIKIT_LEARN_SAMPLES = {"pose": SAMPLES, "expression": SAMPLES // 4}
# peer -> most that ours may be of its time, and of its inertia; None where there is no bar
FAISS_BARS = {"pose": (3.0, 0.6), "expression": (3.0, 1.0)}  # from its random start
SAME_START_BAR = (1.2, 1.01)
SCIKIT_LEARN_BARS = {"KMeans": (0.25, 1.0), "MiniBatchKMeans": (None, None)}

Points = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[], float]  # -> inertia


def poses(samples: int) -> Points:
    """Pitch and yaw spread like real faces': most near the middle, some far out."""
    rng = np.random.default_rng(0)
    return np.clip(rng.standard_t(5, (samples, 2)) * [0.12, 0.2], -1.2, 1.2).astype(np.float32)


def expressions(samples: int) -> Points:
    """17 intensities in 0 .. 5, half of them 0, as real ones are."""
    rng = np.random.default_rng(0)
    return np.clip(rng.gamma(0.5, 1.0, (samples, 17)) - 0.2, 0, 5).astype(np.float32)


def bare_faiss(points: Points, k: int, start: int) -> Run:
    def run() -> float:
        kmeans = faiss.Kmeans(points.shape[1], k, seed=0, init_method=start, min_points_per_centroid=1)
        kmeans.train(points)
        return float(kmeans.assign(points)[0].sum(dtype=np.float64))

    return run


def with_faiss(points: Points, k: int) -> dict[str, Run]:
    return {
        "ours": lambda: group_kmeans(points, k).inertia,
        "faiss, same start": bare_faiss(points, k, faiss.ClusteringInitMethod_AFK_MC2),
        "faiss, random start": bare_faiss(points, k, faiss.ClusteringInitMethod_RANDOM),
    }


def with_scikit_learn(points: Points, k: int) -> dict[str, Run]:
    return {
        "ours": lambda: group_kmeans(points, k).inertia,
        "KMeans": lambda: float(KMeans(k, n_init=1, max_iter=25, tol=0, random_state=0).fit(points).inertia_),
        "MiniBatchKMeans": lambda: float(MiniBatchKMeans(k, n_init=1, random_state=0).fit(points).inertia_),
    }


def timed(run: Run) -> tuple[float, float]:
    start = time.perf_counter()
    inertia = run()
    return time.perf_counter() - start, inertia


def measure(runs: dict[str, Run], repeats: int) -> dict[str, Points]:
    """Time and inertia (repeats, 2) of every run, in turn; ours first once to warm up."""
    runs["ours"]()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for name, run in [*runs.items()] * repeats:
        found[name].append(timed(run))
    return {name: np.array(figures) for name, figures in found.items()}


def records(
    stage: str, peer: str, ours: Points, theirs: Points, bars: tuple[float | None, float | None]
) -> Iterator[Record]:
    yield figure(stage, peer, ours[:, 0] / theirs[:, 0], "x the time", bars[0])
    yield figure(stage, f"{peer}: inertia", ours[:, 1] / theirs[:, 1], "x the inertia", bars[1])


def compare(name: str, points: Points, k: int, repeats: int) -> Iterator[Record]:
    stage = f"K-Means, {name}, {len(points):,} x {points.shape[1]}, {k:,} groups"
    times = measure(with_faiss(points, k), repeats)
    yield from records(stage, "faiss, same start", times["ours"], times["faiss, same start"], SAME_START_BAR)
    yield from records(stage, "faiss, random start", times["ours"], times["faiss, random start"], FAISS_BARS[name])
    fewer = points[: SCIKIT_LEARN_SAMPLES[name]]
    fewer_groups = k * len(fewer) // len(points)
    stage = f"K-Means, {name}, {len(fewer):,} x {points.shape[1]}, {fewer_groups:,} groups"
    times = measure(with_scikit_learn(fewer, fewer_groups), 1)
    for peer, bars in SCIKIT_LEARN_BARS.items():
        yield from records(stage, f"scikit-learn {peer}", times["ours"], times[peer], bars)


def all_records(repeats: int) -> Iterator[Record]:
    yield from compare("pose", poses(SAMPLES), 2500, repeats)
    yield from compare("expression", expressions(SAMPLES), 4000, repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    return show(all_records(parser.parse_args().repeats))


if __name__ == "__main__":
    sys.exit(main())
