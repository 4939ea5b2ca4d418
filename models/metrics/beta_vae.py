"""The beta-VAE metric (Higgins et al. 2017, "beta-VAE", section 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from gated_vae.models.metrics.arrays import Array, check_arrays, derived_seed, standardise
from gated_vae.models.metrics.groups import SameValue, varying_columns


def beta_vae(
    codes: npt.ArrayLike, factors: npt.ArrayLike, *, seed: int = 0, points: int = 1000, pairs: int = 64
) -> float:
    """Accuracy of a linear classifier that tells which factor pairs of rows share, from how their codes differ.

    For each factor `points` points are made for fitting and as many for judging. A point is the mean of \\|z - z'\\| over
    `pairs` pairs of different rows that share the factor's value, drawn from the arrays (see `groups`). Codes
    are scaled to std 1 first. Constant factors are left out. In [0, 1], higher is better, chance is 1 / K; known to be
    lenient: codes that mix factors linearly can score 1.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors, values shared by at least two rows.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, all factors constant, or values no two rows share.
    """
    codes, factors = check_arrays(codes, factors)
    scaled, columns = standardise(codes, codes)[0], varying_columns(factors)
    if len(columns) == 1:
        return 1.0
    halves = [_points(scaled, factors, columns, (points, pairs), derived_seed(seed, part)) for part in range(2)]
    label = np.repeat(columns, points)
    model = LogisticRegression(max_iter=1000).fit(halves[0], label)
    return float(model.score(halves[1], label))


def _points(codes: Array, factors: Array, columns: npt.NDArray[np.int64], shape: tuple[int, int], seed: int) -> Array:
    points = []
    for k in columns:
        rng = np.random.default_rng(derived_seed(seed, int(k)))
        first, second = SameValue.of(factors[:, k], 2).draw_pairs(shape[0] * shape[1], rng)
        points.append(np.abs(codes[first] - codes[second]).reshape(*shape, -1).mean(axis=1))
    return np.concatenate(points)
