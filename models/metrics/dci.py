"""Disentanglement, completeness and informativeness (Eastwood & Williams 2018), in the paper's form and the common one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier

from gated_vae.models.metrics.arrays import (
    Array,
    Split,
    can_judge,
    check_arrays,
    check_split,
    derived_seed,
    is_discrete,
    standardise,
)
from gated_vae.models.metrics.regressors import check_regressor, fit_predict

DCIRegressor = Literal["lasso", "random_forest", "gradient_boosting"]


@dataclass(frozen=True)
class DCI:
    """The three scores, and what they are made of.

    Attributes
    ----------
    disentanglement:
        In [0, 1], higher is better: the codes' scores weighted with rho, their share of all importance.
    completeness:
        In [0, 1], higher is better: the plain mean over factors, as in the paper's tables.
    uninformativeness:
        Lower is better: the plain mean over factors of the held-out error; 1.0 is what predicting the mean earns.
    disentanglement_per_code, completeness_per_factor, uninformativeness_per_factor:
        float64 (M,), (K,), (K,).
    importance:
        float64 (M, K), not negative: how much code i matters when factor j is predicted.
    constant_factors:
        Columns that do not vary in both splits, or hardly in the held-out one (see `can_judge`). They have importance 0,
        completeness 0 and uninformativeness 1, and count in no mean and in no base of a logarithm: the three scores are what
        they would be without those columns.
    """

    disentanglement: float
    completeness: float
    uninformativeness: float
    disentanglement_per_code: Array
    completeness_per_factor: Array
    uninformativeness_per_factor: Array
    importance: Array
    constant_factors: tuple[int, ...]


def dci(
    codes: npt.ArrayLike,
    factors: npt.ArrayLike,
    regressor: DCIRegressor = "lasso",
    *,
    seed: int = 0,
    split: Split | None = None,
) -> DCI:
    """Measure disentanglement, completeness and (un)informativeness.

    One predictor per factor is fitted on the codes of the training rows, both scaled to mean 0 and std 1 there (ddof 0):

    - ``lasso``: Lasso(alpha=0.02), importance = absolute coefficients, error = RMSE / std of the held-out target.
    - ``random_forest``: RandomForestRegressor(n_estimators=10, max_depth=12), impurity importances, the same error.
    - ``gradient_boosting``: the form common elsewhere (Locatello et al. 2019): GradientBoostingClassifier with
      scikit-learn's defaults for a factor of classes (at most 100 different whole numbers), error = 1 - accuracy.
      A factor of other values gets GradientBoostingRegressor and RMSE / std.

    Parameters
    ----------
    codes:
        (n, M) encoder means.
    factors:
        (n, K) true factors, one column each.
    seed:
        Decides the split and, with the factor's number, each predictor's own random state.
    split:
        Rows to fit on and to judge on; by default a random quarter is held out.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or an unknown regressor.
    """
    check_regressor(regressor, get_args(DCIRegressor))
    codes, factors = check_arrays(codes, factors)
    split = check_split(split, len(codes), seed)
    train, test = factors[split.train], factors[split.test]
    x, varying = standardise(codes[split.train], codes[split.test]), can_judge(train, test)
    classes = varying & [regressor == "gradient_boosting" and is_discrete(column) for column in factors.T]

    importance, error = np.zeros((codes.shape[1], factors.shape[1])), np.ones(factors.shape[1])
    for k in np.flatnonzero(classes):
        importance[:, k], error[k] = _classify(x, train[:, k], test[:, k], derived_seed(seed, int(k)))
    rest = varying & ~classes
    if rest.any():
        y_train, y_test = standardise(train[:, rest], test[:, rest])
        fit = fit_predict(regressor, x, y_train, seed)
        importance[:, rest], error[rest] = fit.importance, nrmse(y_test, fit.predicted)
    return _summary(importance, error, varying)


def nrmse(target: Array, predicted: Array) -> Array:
    """Root of the mean squared error of each column (n, K) over the target's std (ddof 0): the mean would earn 1.0."""
    return np.asarray(np.sqrt(np.mean((target - predicted) ** 2, axis=0)) / target.std(axis=0))


def disentanglement_per_code(importance: npt.ArrayLike) -> Array:
    """1 - the entropy, base K, of each code's importances (M, K) -> (M,); 0 for a code that matters to no factor."""
    return _one_minus_entropy(np.asarray(importance, np.float64))


def completeness_per_factor(importance: npt.ArrayLike) -> Array:
    """1 - the entropy, base M, of each factor's importances (M, K) -> (K,); 0 for a factor that no code predicts."""
    return _one_minus_entropy(np.asarray(importance, np.float64).T)


def code_weights(importance: npt.ArrayLike) -> Array:
    """rho: each code's share of all importance (M,), summing to 1, or all 0 when nothing matters."""
    totals = np.asarray(importance, np.float64).sum(axis=1)
    return np.asarray(totals / totals.sum() if totals.any() else totals)


def _one_minus_entropy(rows: Array) -> Array:
    totals = rows.sum(axis=1, keepdims=True)
    shares = np.divide(rows, totals, out=np.zeros_like(rows), where=totals > 0)
    logs = np.log(shares, out=np.zeros_like(rows), where=shares > 0)
    entropy = -(shares * logs).sum(axis=1) / np.log(max(rows.shape[1], 2))  # one column: entropy is 0 in any base
    return np.where(totals[:, 0] > 0, np.clip(1.0 - entropy, 0.0, 1.0), 0.0)


def _classify(x: tuple[Array, Array], train: Array, test: Array, seed: int) -> tuple[Array, float]:
    model = GradientBoostingClassifier(random_state=seed).fit(x[0], train.astype(np.int64))
    return model.feature_importances_, 1.0 - model.score(x[1], test.astype(np.int64))


def _summary(importance: Array, error: Array, varying: npt.NDArray[np.bool_]) -> DCI:
    kept = importance[:, varying]
    per_code = disentanglement_per_code(kept) if varying.any() else np.zeros(len(importance))
    per_factor = completeness_per_factor(importance)
    return DCI(
        disentanglement=min(float(per_code @ code_weights(kept)), 1.0),  # the weights may sum to 1 and a rounding
        completeness=float(per_factor[varying].mean()) if varying.any() else 0.0,
        uninformativeness=float(error[varying].mean()) if varying.any() else 1.0,
        disentanglement_per_code=per_code,
        completeness_per_factor=per_factor,
        uninformativeness_per_factor=error,
        importance=importance,
        constant_factors=tuple(int(k) for k in np.flatnonzero(~varying)),
    )
