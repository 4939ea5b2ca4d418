"""How well rotation can be read from codes, on the circle and up to each shape's symmetry."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, Rows, Split, check_arrays, check_split, derived_seed, standardise
from gated_vae.models.metrics.regressors import check_regressor, fit_predict


@dataclass(frozen=True)
class CircularUninformativeness:
    """Held-out error of rotation.

    Attributes
    ----------
    mean:
        Mean of `per_group` over the groups whose angle varies; 1.0 when none does.
    per_group:
        Group -> error: 0 is exact, 1 is no better than the mean (a constant angle is given 1).
    """

    mean: float
    per_group: dict[Hashable, float]


def circular_uninformativeness(
    codes: npt.ArrayLike,
    angle: npt.ArrayLike,
    *,
    order: int | npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    regressor: str = "random_forest",
    seed: int = 0,
    split: Split | None = None,
) -> CircularUninformativeness:
    """Predict (cos s a, sin s a) from the codes, for each group by itself, and report RMSE / std of that vector.

    s is the group's order of symmetry: the number of turns by which its shape looks the same in a full circle (dSprites:
    square 4, ellipse 2, heart 1). Each group has its own scaling, split (within its rows) and regressors.

    A regression on dSprites' rotation index says less: see `plain_rotation_floor`. Since classes 0 and 39 are one angle at
    opposite ends of the index, even the heart keeps 0.14 of its variance, and the floor is nearer 0.78.

    Parameters
    ----------
    codes:
        (n, M).
    angle:
        (n,) in radians.
    order:
        One order for all rows, or one per row (n,).
    groups:
        One label per row (n,), say the shape's class; by default rows of equal order form a group.
    split:
        Rows to fit on and to judge on; by default a random quarter of each group is held out.

    Raises
    ------
    ValueError
        For shapes that do not fit, an order below 1 or not the same throughout a group, too few rows in a group.
    """
    check_regressor(regressor)
    codes, angles = check_arrays(codes, np.asarray(angle)[:, None])
    orders = np.broadcast_to(np.asarray(order), len(codes))
    labels, member = np.unique(orders if groups is None else np.asarray(groups), return_inverse=True)
    if len(member) != len(codes) or (orders < 1).any():
        raise ValueError("groups must have one label per row, and every order must be at least 1")
    error: dict[Hashable, float | None] = {}
    for i, label in enumerate(labels.tolist()):
        rows = np.flatnonzero(member == i)
        if len(np.unique(orders[rows])) > 1:
            raise ValueError(f"group {label} has more than one order of symmetry")
        phase = orders[rows, None] * angles[rows]
        target = np.hstack([np.cos(phase), np.sin(phase)])
        error[label] = _error(codes[rows], target, _within(split, rows), regressor, derived_seed(seed, i))
    known = [value for value in error.values() if value is not None]
    per_group = {label: 1.0 if value is None else value for label, value in error.items()}
    return CircularUninformativeness(float(np.mean(known)) if known else 1.0, per_group)


def plain_rotation_floor(orders: Sequence[int]) -> float:
    """NRMSE that a plain regression on a uniform angle cannot beat when equally frequent shapes have these symmetries.

    A shape of order s looks the same at s angles a full circle / s apart, so the best is their mean, which leaves 1 - 1/s^2 of the
    variance: of dSprites' shapes together 0.75. (On its grid of 39 steps square and ellipse repeat only up to 2.3 and 4.6 degrees;
    a code that resolved this could do better.)
    """
    return float(np.sqrt(np.mean([1.0 - 1.0 / order**2 for order in orders])))


def _within(split: Split | None, rows: Rows) -> Split | None:
    """Renumber the part of a split that lies in a group's rows (ascending)."""
    if split is None:
        return None
    train, test = (np.searchsorted(rows, np.intersect1d(part, rows)) for part in (split.train, split.test))
    return Split(train, test)


def _error(codes: Array, target: Array, split: Split | None, regressor: str, seed: int) -> float | None:
    split = check_split(split, len(codes), seed)
    train, test = target[split.train], target[split.test]
    variance = test.var(axis=0).sum()
    if variance < 1e-12:
        return None
    fit = fit_predict(regressor, standardise(codes[split.train], codes[split.test]), train, seed)
    return float(np.sqrt(((test - fit.predicted) ** 2).mean(axis=0).sum() / variance))
