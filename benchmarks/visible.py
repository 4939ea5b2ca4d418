"""How much each label shows in the pictures of a store: `python -m benchmarks.visible STORE [--images 10000]`.

For each label, the nats of reconstruction that a decoder gains by knowing it, were pixels straight lines in it: what it has to
earn against the KL divergence, before partners that agree in it only roughly make it less. One label alone each time, so that what
goes with another (smile and cheeks) counts for both.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gated_vae.pipelines.evaluation.labels import read_labels
from gated_vae.preprocessing.store import open_store

LEAST_VARIANCE = 0.05  # of a pixel's mean as a probability: where all pictures are black, a grey costs no infinity


def visible_nats(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nats that each label explains, summed over pixels, mean over images.

    To second order KL(Bernoulli(p) || Bernoulli(q)) is (p - q)^2 / (2 q (1 - q)); q is a pixel's mean, p its value on the line.

    Parameters
    ----------
    images:
        uint8 (N, H, W).
    labels:
        (N, K); every one varies.

    Returns
    -------
    (K,).
    """
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    mean = pixels.mean(axis=0)
    scores = ((labels - labels.mean(axis=0)) / labels.std(axis=0)).astype(np.float32)
    slopes = scores.T @ (pixels - mean) / len(pixels)  # per standard deviation of the label
    cost: npt.NDArray[np.float64] = (slopes**2 / (2 * np.maximum(mean * (1 - mean), LEAST_VARIANCE))).sum(axis=1)
    return cost


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--images", type=int, default=10_000, help="random ones, at most")
    options = parser.parse_args()
    store = open_store(options.store)
    labels = read_labels(store, options.images)
    nats = visible_nats(np.asarray(store.images)[labels.ids], labels.values)
    for name, value in zip(labels.factors, nats, strict=True):
        print(f"{name:<10} {value:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
