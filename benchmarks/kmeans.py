"""Grouping beside bare faiss.Kmeans and scikit-learn: `python -m benchmarks.kmeans [--repeats 5] [--peers]`.

CelebA's size: 202,599 samples, 2 columns in 2,500 groups and 17 columns in 4,000. The floor is faiss.Kmeans itself, from
the same start, with the assignment of every sample: no checks, no centring, no distances. All runs alternate. With
--peers, scikit-learn's KMeans (25 iterations, one start) and MiniBatchKMeans follow once each; the former takes minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from pairing import group_kmeans

SAMPLES = 202_599
# (data, peer) -> most that ours may be of the peer's time and of its inertia.
BARS = {
    ("pose", "faiss, same start"): (1.2, 1.01),
    ("expression", "faiss, same start"): (1.2, 1.01),
    ("pose", "faiss, random start"): (3.0, 0.6),
    ("expression", "faiss, random start"): (3.0, 1.0),
    ("pose", "KMeans"): (0.25, 1.0),
    ("expression", "KMeans"): (0.25, 1.0),
}

Points = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[], float]  # -> inertia


def poses() -> Points:
    """Pitch and yaw spread like real faces': most near the middle, some far out."""
    rng = np.random.default_rng(0)
    return np.clip(rng.standard_t(5, (SAMPLES, 2)) * [0.12, 0.2], -1.2, 1.2).astype(np.float32)


def expressions() -> Points:
    """17 intensities in 0 .. 5, half of them 0, as real ones are."""
    rng = np.random.default_rng(0)
    return np.clip(rng.gamma(0.5, 1.0, (SAMPLES, 17)) - 0.2, 0, 5).astype(np.float32)


def bare_faiss(points: Points, k: int, start: int) -> Run:
    def run() -> float:
        kmeans = faiss.Kmeans(points.shape[1], k, seed=0, init_method=start, min_points_per_centroid=1)
        kmeans.train(points)
        return float(kmeans.assign(points)[0].sum(dtype=np.float64))

    return run


def scikit_learn(points: Points, k: int) -> dict[str, Run]:
    return {
        "MiniBatchKMeans": lambda: float(MiniBatchKMeans(k, n_init=1, random_state=0).fit(points).inertia_),
        "KMeans": lambda: float(KMeans(k, n_init=1, max_iter=25, tol=0, random_state=0).fit(points).inertia_),
    }


def timed(run: Run) -> tuple[float, float]:
    start = time.perf_counter()
    inertia = run()
    return time.perf_counter() - start, inertia


def compare(name: str, points: Points, k: int, repeats: int, peers: bool) -> list[dict[str, Any]]:
    runs: dict[str, Run] = {
        "ours": lambda: group_kmeans(points, k).inertia,
        "faiss, same start": bare_faiss(points, k, faiss.ClusteringInitMethod_AFK_MC2),
        "faiss, random start": bare_faiss(points, k, faiss.ClusteringInitMethod_RANDOM),
    }
    found = {run: [timed(work)] for run, work in runs.items()}  # warm up
    for run, work in [*runs.items()] * repeats:
        found[run].append(timed(work))
    if peers:
        found |= {run: [timed(work)] * (repeats + 1) for run, work in scikit_learn(points, k).items()}
    ours = np.array(found.pop("ours")[1:])
    return [record(name, peer, ours, np.array(theirs[1:])) for peer, theirs in found.items()]


def record(name: str, peer: str, ours: Points, theirs: Points) -> dict[str, Any]:
    """Sum up (time, inertia) of alternating runs as ratios; a peer that ran once is set against every run of ours."""
    times = ours[:, 0] / theirs[:, 0]
    inertia = np.median(ours[:, 1]) / np.median(theirs[:, 1])
    most = BARS.get((name, peer), (np.inf, np.inf))
    figures = {"time": np.median(times), "low": times.min(), "high": times.max(), "inertia": inertia}
    rounded = {key: round(float(value), 3) for key, value in figures.items()}
    met = bool(figures["time"] <= most[0] and inertia <= most[1])
    return {"stage": "kmeans", "data": name, "peer": peer, **rounded, "met": met}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    records = compare("pose", poses(), 2500, arguments.repeats, arguments.peers)
    records += compare("expression", expressions(), 4000, arguments.repeats, arguments.peers)
    print(*map(json.dumps, records), sep="\n")
    return int(not all(record["met"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
