"""The regressors that metrics share, with the constants of their sources, and one way to fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Lasso, RidgeCV

from gated_vae.models.metrics.arrays import Array, derived_seed

# Ridge takes the penalty with the least leave-one-out error among these, for each target by itself.
RIDGE_ALPHAS = tuple(10.0**power for power in range(-2, 7))

# These fit all targets at once, each as if alone; the Gram matrix of the codes is worked out once.
_LINEAR: dict[str, Callable[[], Any]] = {
    "lasso": lambda: Lasso(alpha=0.02, precompute=True),
    "ridge": lambda: RidgeCV(alphas=RIDGE_ALPHAS, alpha_per_target=True),
}
_TREES: dict[str, Callable[[int], Any]] = {
    "random_forest": lambda seed: RandomForestRegressor(n_estimators=10, max_depth=12, random_state=seed),
    "gradient_boosting": lambda seed: GradientBoostingRegressor(random_state=seed),
}
REGRESSORS = (*_LINEAR, *_TREES)


@dataclass(frozen=True)
class Fit:
    """What K fitted regressors say: `importance` (M, K), not negative, and `predicted` (n_test, K) for the held-out rows."""

    importance: Array
    predicted: Array


def check_regressor(name: str, allowed: tuple[str, ...] = REGRESSORS) -> None:
    """Raise ValueError for a regressor that is not on the list."""
    if name not in allowed:
        raise ValueError(f"regressor must be one of {', '.join(allowed)}, not {name!r}")


def fit_predict(name: str, x: tuple[Array, Array], y: Array, seed: int) -> Fit:
    """Fit every column of y (n_train, K) on the first array of x, the training rows' codes, and predict for the second.

    Importances are absolute coefficients or, for trees, the decrease in impurity. A tree-based regressor for column k draws
    from a seed of its own, made of (seed, k).
    """
    train, test = x
    if name in _LINEAR:
        model = _LINEAR[name]().fit(train, y)
        return Fit(np.abs(np.atleast_2d(model.coef_)).T, model.predict(test).reshape(-1, y.shape[1]))
    models = [_TREES[name](derived_seed(seed, k)).fit(train, y[:, k]) for k in range(y.shape[1])]
    importance = np.column_stack([model.feature_importances_ for model in models])
    return Fit(importance, np.column_stack([model.predict(test) for model in models]))
