"""The regressors that metrics share, with the constants of their sources, and one way to fit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Lasso, RidgeCV

from models.metrics.arrays import Array, Split, derived_seed

# Ridge takes the penalty with the least leave-one-out error among these, for each target by itself.
RIDGE_ALPHAS = tuple(10.0**power for power in range(-2, 7))

REGRESSORS: dict[str, Callable[[int], Any]] = {
    "ridge": lambda _: RidgeCV(alphas=RIDGE_ALPHAS),
    "lasso": lambda _: Lasso(alpha=0.02),
    "random_forest": lambda seed: RandomForestRegressor(n_estimators=10, max_depth=12, random_state=seed),
    "gradient_boosting": lambda seed: GradientBoostingRegressor(random_state=seed),
}


def check_regressor(name: str, allowed: tuple[str, ...] = tuple(REGRESSORS)) -> None:
    """Raise ValueError for a regressor that is not on the list."""
    if name not in allowed:
        raise ValueError(f"regressor must be one of {', '.join(allowed)}, not {name!r}")


def predict_held_out(name: str, x: Array, y: Array, split: Split, seed: int) -> Array:
    """Fit one regressor per column of y (n, K) on the training rows and predict the test rows (n_test, K)."""
    columns = [
        REGRESSORS[name](derived_seed(seed, k)).fit(x[split.train], y[split.train, k]).predict(x[split.test])
        for k in range(y.shape[1])
    ]
    return np.column_stack(columns)
