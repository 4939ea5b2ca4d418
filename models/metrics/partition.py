"""How well each factor is predicted from its own partition, and how badly from the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import (
    Array,
    Split,
    can_judge,
    check_arrays,
    check_split,
    derived_seed,
    standardise,
)
from gated_vae.models.metrics.dci import nrmse
from gated_vae.models.metrics.regressors import check_regressor, fit_predict

FULL = "full"


@dataclass(frozen=True)
class PartitionScores:
    """The table partition x factor.

    Attributes
    ----------
    partitions:
        Row names: the partitions, then ``full`` for the full latent.
    factors:
        Column names.
    r2:
        float64 (P + 1, K): held-out R2, negative where the prediction is worse than the mean; 0 for one of `constant_factors`.
    per_factor:
        Factor -> R2 from its own partition minus the best R2 from one that is not meant to know it, negative R2 counted as 0.
    mean:
        Mean of `per_factor` over the factors that vary in both splits (see `can_judge`); 0.0 when none does.
    constant_factors:
        The factors that do not.
    """

    partitions: tuple[str, ...]
    factors: tuple[str, ...]
    r2: Array
    per_factor: dict[str, float]
    mean: float
    constant_factors: tuple[str, ...]


def partition_r2(
    codes: npt.ArrayLike,
    factors: npt.ArrayLike,
    partitions: Mapping[str, slice],
    *,
    regressor: str = "ridge",
    seed: int = 0,
    split: Split | None = None,
) -> Array:
    """Predict every factor from each partition alone and from the full latent; parameters and errors as in `partition_scores`.

    Returns
    -------
    float64 (P + 1, K): held-out R2 by partition, the full latent last; 0 for a constant factor.
    """
    check_regressor(regressor)
    codes, factors = check_arrays(codes, factors)
    split = check_split(split, len(codes), seed)
    train, test = factors[split.train], factors[split.test]
    varying = can_judge(train, test)
    x_train, x_test = standardise(codes[split.train], codes[split.test])
    y_train, y_test = standardise(train[:, varying], test[:, varying])
    r2 = np.zeros((len(partitions) + 1, factors.shape[1]))
    for i, part in enumerate([*partitions.values(), slice(None)] if varying.any() else []):
        fit = fit_predict(regressor, (x_train[:, part], x_test[:, part]), y_train, derived_seed(seed, i))
        r2[i, varying] = 1.0 - nrmse(y_test, fit.predicted) ** 2
    return r2


def partition_scores(
    codes: npt.ArrayLike,
    factors: npt.ArrayLike,
    partitions: Mapping[str, slice],
    owner: Mapping[str, str],
    *,
    sharers: Mapping[str, Collection[str]] | None = None,
    regressor: str = "ridge",
    seed: int = 0,
    split: Split | None = None,
) -> PartitionScores:
    """Predict every factor from each partition alone and from the full latent, on held-out rows.

    Regressors: ``ridge`` (the penalty among 10^-2 .. 10^6 with the least leave-one-out error on the training rows, for each
    factor by itself), ``random_forest``, ``lasso``, ``gradient_boosting`` as in `dci`. Codes and factors are scaled with the
    training rows' mean and std.

    Parameters
    ----------
    codes, factors:
        (n, M) means or posterior samples, and (n, K) true factors.
    partitions:
        Name -> its dimensions of the latent; two at least.
    owner:
        Factor -> the partition it belongs to, one entry per column of `factors` and in their order.
    sharers:
        Factor -> other partitions that are meant to know it, too: what they know is no leakage.
    split:
        Rows to fit on and to judge on (see `group_split` for a split by person); by default a random quarter is held out.

    Raises
    ------
    ValueError
        For shapes that do not fit, fewer than two partitions, an owner that is no partition, an unknown regressor.
    """
    codes, factors = check_arrays(codes, factors)
    _check_names(partitions, owner, codes.shape[1], factors.shape[1])
    split = check_split(split, len(codes), seed)
    varying = can_judge(factors[split.train], factors[split.test])
    r2 = partition_r2(codes, factors, partitions, regressor=regressor, seed=seed, split=split)
    return _summary(r2, tuple(partitions), owner, sharers or {}, varying)


def _summary(
    r2: Array,
    partitions: tuple[str, ...],
    owner: Mapping[str, str],
    sharers: Mapping[str, Collection[str]],
    varying: npt.NDArray[np.bool_],
) -> PartitionScores:
    floored = np.maximum(r2[:-1], 0.0)
    own = np.array([partitions.index(name) for name in owner.values()])
    meant = np.array([[name in (mine, *sharers.get(f, ())) for f, mine in owner.items()] for name in partitions])
    gaps = floored[own, np.arange(len(own))] - np.where(meant, 0.0, floored).max(axis=0)
    return PartitionScores(
        partitions=(*partitions, FULL),
        factors=tuple(owner),
        r2=r2,
        per_factor={name: float(value) for name, value in zip(owner, gaps, strict=True)},
        mean=float(gaps[varying].mean()) if varying.any() else 0.0,
        constant_factors=tuple(name for name, varied in zip(owner, varying, strict=True) if not varied),
    )


def _check_names(partitions: Mapping[str, slice], owner: Mapping[str, str], latent_size: int, n_factors: int) -> None:
    if len(partitions) < 2 or FULL in partitions:
        raise ValueError(f"partitions must be two or more, none of them named {FULL!r}: {list(partitions)}")
    for name, dimensions in partitions.items():
        if not len(range(latent_size)[dimensions]):
            raise ValueError(f"partition {name!r} holds none of the {latent_size} dimensions")
    if len(owner) != n_factors:
        raise ValueError(f"owner names {len(owner)} factors, but there are {n_factors} columns")
    strangers = sorted(set(owner.values()) - set(partitions))
    if strangers:
        raise ValueError(f"owner names partitions that do not exist: {', '.join(strangers)}")
