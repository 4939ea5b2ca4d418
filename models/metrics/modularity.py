"""Modularity (Ridgeway & Mozer 2018, "Learning deep disentangled embeddings with the F-statistic loss")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, check_arrays, varies
from gated_vae.models.metrics.information import bin_codes, bin_factors, mutual_information


@dataclass(frozen=True)
class Modularity:
    """How far each code tells of one factor only.

    Attributes
    ----------
    score:
        In [0, 1], higher is better: the plain mean over all codes, dead ones included.
    per_code:
        float64 (M,); 0 for a code that tells of nothing.
    information:
        float64 (M, K): mutual information in nats of code and factor.
    """

    score: float
    per_code: Array
    information: Array


def modularity(codes: npt.ArrayLike, factors: npt.ArrayLike, *, bins: int = 20) -> Modularity:
    """1 - the information about other factors than the best one, squared and relative to that of the best, per code.

    With t the greatest I(code; factor) over the K factors that vary: 1 - sum over the others of I^2 / (t^2 (K - 1)).
    Binned as in `mig`. A code without any information scores 0 and is counted, as in disentanglement_lib.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or fewer than two bins.
    """
    codes, factors = check_arrays(codes, factors)
    information = mutual_information(bin_codes(codes, bins), bin_factors(factors, bins))
    per_code = modularity_per_code(information[:, varies(factors)])
    return Modularity(float(per_code.mean()), per_code, information)


def modularity_per_code(information: npt.ArrayLike) -> Array:
    """Modularity of each row of a table of mutual information (M, K) -> (M,)."""
    squared = np.asarray(information, np.float64) ** 2
    best = squared.max(axis=1, initial=0.0)
    others = (squared.sum(axis=1) - best) / max(squared.shape[1] - 1, 1)
    return np.where(best > 0, 1.0 - others / np.where(best > 0, best, 1.0), 0.0)
