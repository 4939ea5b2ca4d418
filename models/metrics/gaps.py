"""The scores that compare, for each factor, the best code with the runner-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array


@dataclass(frozen=True)
class Gap:
    """A mean gap between each factor's best and second best code.

    Attributes
    ----------
    score:
        Mean gap over the factors that vary (0.0 when none does).
    per_factor:
        float64 (K,); 0 for a constant factor.
    matrix:
        float64 (M, K): what was compared, code by factor.
    """

    score: float
    per_factor: Array
    matrix: Array


def gap(matrix: Array, varying: npt.NDArray[np.bool_]) -> Gap:
    """Take the gap of the two greatest values of each column of (M, K); a single code is compared with 0."""
    ranked = np.sort(np.vstack([matrix, np.zeros_like(matrix)]) if len(matrix) == 1 else matrix, axis=0)
    per_factor = np.where(varying, ranked[-1] - ranked[-2], 0.0)
    return Gap(float(per_factor[varying].mean()) if varying.any() else 0.0, per_factor, matrix)
