"""The swap test: decode the pose of one face with the expression of another, encode the result again, and see whose is whose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import standardise
from gated_vae.models.metrics.regressors import fit_predict
from gated_vae.models.vae import GatedVAE
from gated_vae.pipelines.evaluation.encoding import Codes, decode_codes, encode_images
from gated_vae.pipelines.evaluation.labels import FaceLabels, owner_of

PAIRS = 2000
POSE, EXPRESSION = "pose", "expression"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Shares of pairs (A, B): nearer to A in pose, nearer to B in expression, both."""

    pose: float
    expression: float
    both: float


@dataclass(frozen=True)
class SwapScores:
    """What becomes of A's code with the expression partition of B, decoded and encoded again.

    Attributes
    ----------
    pairs:
        How many held-out pairs (A, B): every image is an A once and a B once.
    by_probe:
        Nearer to what the probe says of the real images A and B.
    by_labels, unswapped_by_labels:
        Nearer to the labels (or the truth) of A and of B; the same for A and B decoded and encoded as they are, which no swap
        can be expected to surpass.
    """

    pairs: int
    by_probe: Shares
    by_labels: Shares
    unswapped_by_labels: Shares


def swap_test(
    model: GatedVAE, codes: Codes, labels: FaceLabels, *, pairs: int = PAIRS, seed: int = 0
) -> SwapScores | None:
    """Swap expressions between held-out faces; None where the model or the labels lack pose or expression.

    What an image shows is read from its whole code by ridge regression, fitted on the codes of real images on the training
    side. Nearness is Euclidean over pitch and yaw, and over the action units, each in units of its std on the training side.
    Codes are posterior means; partitions other than the expression are A's.
    """
    owners = np.array([owner_of(factor) for factor in labels.factors])
    if not all(name in model.partitions and name in owners for name in (POSE, EXPRESSION)):
        return None
    rows = np.random.default_rng(seed).permutation(labels.split.test)[:pairs]  # B of each A is the one before it
    own = codes.mean[rows]
    mixed = own.copy()
    part = model.partitions[EXPRESSION]
    mixed[:, part] = np.roll(own, 1, axis=0)[:, part]
    encoded = [own] + [encode_images(model, decode_codes(model, code)).mean for code in (own, mixed)]
    original, unswapped, swapped = np.split(_probe(codes, labels, np.concatenate(encoded)), 3)
    _, truth = standardise(labels.values[labels.split.train], labels.values[rows])
    pose, expression = owners == POSE, owners == EXPRESSION

    def shares(of_a: Floats, of_b: Floats, known: Floats) -> Shares:
        other = np.roll(known, 1, axis=0)
        is_a = _nearer(of_a[:, pose], known[:, pose], other[:, pose])
        is_b = _nearer(of_b[:, expression], other[:, expression], known[:, expression])
        return Shares(float(is_a.mean()), float(is_b.mean()), float((is_a & is_b).mean()))

    return SwapScores(
        pairs=len(rows),
        by_probe=shares(swapped, swapped, original),
        by_labels=shares(swapped, swapped, truth),
        unswapped_by_labels=shares(unswapped, np.roll(unswapped, 1, axis=0), truth),
    )


def _probe(codes: Codes, labels: FaceLabels, others: npt.NDArray[np.float32]) -> Floats:
    """Predict the labels of other codes (n, M), in units of their std on the training side (n, K)."""
    train = labels.split.train
    x = standardise(codes.mean[train].astype(np.float64), others.astype(np.float64))
    y, _ = standardise(labels.values[train], labels.values[train])
    return fit_predict("ridge", x, y, seed=0).predicted


def _nearer(points: Floats, to: Floats, than: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.square(points - to).sum(axis=1) < np.square(points - than).sum(axis=1))
