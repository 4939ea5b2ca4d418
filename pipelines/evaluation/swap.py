"""The swap test: decode the pose of one face with the expression of another, encode the result again, and see whose is whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import standardise
from gated_vae.models.metrics.regressors import fit_predict
from gated_vae.pipelines.evaluation.labels import FaceLabels, owner_of
from gated_vae.pipelines.evaluation.opened import Codes, OpenRun

PAIRS = 2000
POSE, EXPRESSION = "pose", "expression"

Floats = npt.NDArray[np.float64]


def swap_test(run: OpenRun, codes: Codes, labels: FaceLabels, *, seed: int = 0) -> dict[str, Any] | None:
    """Swap expressions between held-out faces A and B: A's code with the expression of B is decoded and encoded again.

    What an image shows is read from its whole code by ridge regression, fitted on the codes of real images on the training
    side. Nearness is Euclidean over pitch and yaw, and over the action units, each in units of its std on the training side.
    Codes are posterior means; partitions other than the expression are A's.

    Returns
    -------
    `pairs`, how many held-out pairs (A, B): every image is an A once and a B once. Then shares of the pairs that are nearer to A
    in `pose`, nearer to B in `expression`, and `both`: `by_probe`, to what the probe says of the real images; `by_labels`, to the
    labels (or the truth); `unswapped_by_labels`, the same of A and B decoded and encoded as they are, which no swap can be
    expected to surpass. None where the model or the labels lack pose or expression.
    """
    owners = np.array([owner_of(factor) for factor in labels.factors])
    if not all(name in run.partitions and name in owners for name in (POSE, EXPRESSION)):
        return None
    rows = np.random.default_rng(seed).permutation(labels.split.test)[:PAIRS]  # B of each A is the one before it
    own = codes.mean[rows]
    mixed = own.copy()
    part = run.partitions[EXPRESSION]
    mixed[:, part] = np.roll(own, 1, axis=0)[:, part]
    encoded = [own] + [run.encode(run.decode(code)).mean for code in (own, mixed)]
    original, unswapped, swapped = np.split(_probe(codes, labels, np.concatenate(encoded)), 3)
    _, truth = standardise(labels.values[labels.split.train], labels.values[rows])
    pose, expression = owners == POSE, owners == EXPRESSION

    def shares(of_a: Floats, of_b: Floats, known: Floats) -> dict[str, float]:
        other = np.roll(known, 1, axis=0)
        is_a = _nearer(of_a[:, pose], known[:, pose], other[:, pose])
        is_b = _nearer(of_b[:, expression], other[:, expression], known[:, expression])
        return {"pose": float(is_a.mean()), "expression": float(is_b.mean()), "both": float((is_a & is_b).mean())}

    return {
        "pairs": len(rows),
        "by_probe": shares(swapped, swapped, original),
        "by_labels": shares(swapped, swapped, truth),
        "unswapped_by_labels": shares(unswapped, np.roll(unswapped, 1, axis=0), truth),
    }


def _probe(codes: Codes, labels: FaceLabels, others: npt.NDArray[np.float32]) -> Floats:
    """Predict the labels of other codes (n, M), in units of their std on the training side (n, K)."""
    train = labels.split.train
    x = standardise(codes.mean[train].astype(np.float64), others.astype(np.float64))
    y, _ = standardise(labels.values[train], labels.values[train])
    return fit_predict("ridge", x, y, seed=0).predicted


def _nearer(points: Floats, to: Floats, than: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.square(points - to).sum(axis=1) < np.square(points - than).sum(axis=1))
