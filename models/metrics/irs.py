"""The interventional robustness score (Suter, Miladinovic, Schoelkopf, Bauer 2019, "Robustly disentangled causal mechanisms")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, check_arrays, varies
from gated_vae.models.metrics.information import bin_factors


@dataclass(frozen=True)
class IRS:
    """How little each code moves while one factor is held.

    Attributes
    ----------
    score:
        In [0, 1], higher is better: the mean of `per_code`, each weighed with the farthest that the code goes from its mean; 0.0
        when no code or no factor varies.
    per_code:
        float64 (M,): the robustness of a code for the factor that it is most robust for; 0 for a dead one.
    matrix:
        float64 (M, K): 1 - how far code i goes from its mean while factor j is held, relative to how far it goes at all; 0
        for dead codes and constant factors.
    """

    score: float
    per_code: Array
    matrix: Array


def irs(codes: npt.ArrayLike, factors: npt.ArrayLike, *, quantile: float = 0.99, bins: int = 20) -> IRS:
    """How robust each code is against all factors but one.

    While a value of factor j is held, code i goes from its mean there at most so far; the mean of that over the values of j,
    over the farthest from the mean of all rows, taken from 1, is the robustness. "At most" is a quantile: 0.99 as in the
    release of disentanglement_lib, 1 in the paper. Factors of other values than at most 100 whole numbers are cut into `bins`
    equal widths. Rows that are alone with their value look robust: 10,000 rows or more are customary.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or a quantile outside 0 .. 1.
    """
    codes, factors = check_arrays(codes, factors)
    farthest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    alive, classes = varies(codes), bin_factors(factors, bins)
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for k in np.flatnonzero(varies(factors)) if alive.any() else []:
        held = [codes[classes[:, k] == value][:, alive] for value in np.unique(classes[:, k])]
        moved = [np.quantile(np.abs(rows - rows.mean(axis=0)), quantile, axis=0) for rows in held]
        matrix[alive, k] = 1.0 - np.mean(moved, axis=0) / farthest[alive]
    per_code = matrix.max(axis=1)
    score = float(np.average(per_code[alive], weights=farthest[alive])) if alive.any() else 0.0
    return IRS(score, per_code, matrix)
