"""Separated attribute predictability (Kumar, Sattigeri & Balakrishnan 2018, section 3)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight

from gated_vae.models.metrics.arrays import Array, check_arrays, standardise, varies
from gated_vae.models.metrics.gaps import Gap, gap


def sap(codes: npt.ArrayLike, factors: npt.ArrayLike, *, classes: Collection[int] = ()) -> Gap:
    """Gap between the two codes that each alone predict a factor best, averaged over factors.

    `matrix` holds squared correlations, over all rows, for factors whose values are numbers. For those that are `classes`
    it holds the balanced accuracy of telling the class by thresholds on the code, one fewer than there are classes. Dead
    codes have 0. Any other code is right about one of K classes, so that the gap of a perfect code is 1 - 1 / K beside it.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors.
    classes:
        Columns of `factors` whose values are names, in no order.

    Raises
    ------
    ValueError
        For shapes that do not fit, or values that are not finite.
    """
    codes, factors = check_arrays(codes, factors)
    alive, varying = varies(codes), varies(factors)
    x, y = standardise(codes, codes)[0], standardise(factors, factors)[0]
    matrix = np.asarray((x.T @ y / len(codes)) ** 2)
    for k in classes:
        matrix[alive, k] = [_accuracy(code, factors[:, k]) for code in x.T[alive]] if varying[k] else 0.0
    return gap(matrix, varying)


def _accuracy(code: Array, factor: Array) -> float:
    """Balanced accuracy of thresholds on a code (n,), set one by one as a tree sets them."""
    named, weight = np.unique(factor, return_inverse=True)[1], compute_sample_weight("balanced", factor)
    tree = DecisionTreeClassifier(max_leaf_nodes=1 + int(named.max()), random_state=0)
    tree.fit(code[:, None], named, weight)
    return float(tree.score(code[:, None], named, weight))
