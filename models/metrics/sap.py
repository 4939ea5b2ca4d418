"""Separated attribute predictability (Kumar, Sattigeri & Balakrishnan 2018, section 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.svm import LinearSVC

from gated_vae.models.metrics.arrays import Array, Split, check_arrays, check_split, derived_seed, standardise, varies
from gated_vae.models.metrics.gaps import Gap, gap


def sap(
    codes: npt.ArrayLike,
    factors: npt.ArrayLike,
    *,
    classes: bool = False,
    seed: int = 0,
    split: Split | None = None,
) -> Gap:
    """Gap between the two codes that each alone predict a factor best, averaged over factors.

    By default a code predicts by a straight line: `matrix` holds squared correlations over all rows, 0 for dead codes.
    With `classes` it predicts the class by a linear classifier, and `matrix` holds accuracies on held-out rows:
    LinearSVC(C=0.01, class_weight="balanced") as in disentanglement_lib, but on codes scaled to std 1, so that the
    score does not depend on their units. `seed` and `split` matter to this variant only.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors; with `classes`, whole numbers.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or classes that are not whole numbers.
    """
    codes, factors = check_arrays(codes, factors)
    if not classes:
        return gap(_squared_correlation(codes, factors), varies(factors))
    if (factors != np.round(factors)).any():
        raise ValueError("classes=True needs factors that are whole numbers")
    split = check_split(split, len(codes), seed)
    varying = varies(factors[split.train])
    return gap(_accuracy(codes, factors.astype(np.int64), varying, split, seed), varying)


def _squared_correlation(codes: Array, factors: Array) -> Array:
    x, y = standardise(codes, codes)[0], standardise(factors, factors)[0]
    return np.asarray((x.T @ y / len(codes)) ** 2)


def _accuracy(
    codes: Array, factors: npt.NDArray[np.int64], varying: npt.NDArray[np.bool_], split: Split, seed: int
) -> Array:
    x_train, x_test = standardise(codes[split.train], codes[split.test])
    accuracy = np.zeros((codes.shape[1], factors.shape[1]))
    for i in range(codes.shape[1]):
        for k in np.flatnonzero(varying):
            model = LinearSVC(C=0.01, class_weight="balanced", random_state=derived_seed(seed, i, int(k)))
            model.fit(x_train[:, i : i + 1], factors[split.train, k])
            accuracy[i, k] = model.score(x_test[:, i : i + 1], factors[split.test, k])
    return accuracy
