"""The FactorVAE metric (Kim & Mnih 2018, "Disentangling by factorising")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, check_arrays, derived_seed, varies
from gated_vae.models.metrics.groups import SameValue, varying_columns


@dataclass(frozen=True)
class FactorVAE:
    """Accuracy of the vote of the steadiest code.

    Attributes
    ----------
    score:
        In [0, 1], higher is better; chance is 1 / K over the K factors that vary.
    votes:
        int64 (M, K): how often code i varied least while factor j was shared, in the half that fits the vote.
    """

    score: float
    votes: npt.NDArray[np.int64]


def factor_vae(
    codes: npt.ArrayLike, factors: npt.ArrayLike, *, seed: int = 0, votes: int = 800, group_size: int = 64
) -> FactorVAE:
    """Share one factor, see which code varies least, and tell the factor from that code.

    For each factor `votes` groups of `group_size` rows that share its value are drawn from the arrays (see
    `gated_vae.models.metrics.groups`). A group votes for the code with the least variance relative to that over all rows. Each code
    stands for the factor it was voted for most often, and the score is the accuracy of this rule on as many fresh groups.
    Constant codes are left out (elsewhere they divide 0 by 0), constant factors too; with no code left the score is 0.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors, values shared by at least `group_size` rows. To leave out collapsed
        dimensions, as the authors do, pass codes[:, active].

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, all factors constant, or values that too few rows share.
    """
    codes, factors = check_arrays(codes, factors)
    columns, alive = varying_columns(factors), np.flatnonzero(varies(codes))
    counts = np.zeros((2, codes.shape[1], factors.shape[1]), np.int64)
    for k in columns if len(alive) else []:
        same = SameValue.of(factors[:, k], group_size)
        for part in range(2):
            rng = np.random.default_rng(derived_seed(seed, int(k), part))
            steadiest = alive[_steadiest(codes[:, alive], same.draw(votes, group_size, rng))]
            counts[part, :, k] = np.bincount(steadiest, minlength=codes.shape[1])
    fitted, fresh = counts
    rule = fitted[:, columns].argmax(axis=1)
    right = fresh[np.arange(len(rule)), columns[rule]].sum()
    return FactorVAE(float(right / (votes * len(columns))), fitted)


def _steadiest(codes: Array, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    spread = codes.var(axis=0)
    return np.array([np.argmin(codes[rows].var(axis=0) / spread) for rows in groups])
