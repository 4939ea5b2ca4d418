"""How well a class label, such as a colour or a brand, is predicted from each partition."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import Array, Split, check_arrays, check_split, standardise


def partition_accuracy(
    codes: npt.ArrayLike,
    classes: npt.ArrayLike,
    partitions: Mapping[str, slice],
    *,
    seed: int = 0,
    split: Split | None = None,
) -> Array:
    """Predict a class from each partition alone and from the full latent: balanced accuracy on held-out rows.

    The mean over classes of the share of each that is told right, so that 1 / classes is what guessing gives, however rare some
    are. Logistic regression, every class weighing the same (scikit-learn's, with its default penalty), on codes scaled with the
    training rows' mean and std. Held-out rows of classes that are not among the training rows do not count.

    Parameters
    ----------
    codes:
        (n, M).
    classes:
        (n,), of any sortable dtype.
    partitions:
        Name -> its dimensions of the latent.
    split:
        Rows to fit on and to judge on; by default a random quarter is held out.

    Returns
    -------
    float64 (P + 1,): in the order of the partitions, the full latent last.

    Raises
    ------
    ValueError
        For shapes that do not fit, or fewer than two classes that are on both sides.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score

    labels, numbers = np.unique(np.asarray(classes), return_inverse=True)
    codes, column = check_arrays(codes, numbers.reshape(-1, 1))
    split, member = check_split(split, len(codes), seed), column[:, 0]
    known = np.intersect1d(member[split.train], member[split.test])
    if len(known) < 2:
        raise ValueError(f"{len(known)} of {len(labels)} classes are on both sides; two at least are needed")
    test = split.test[np.isin(member[split.test], known)]
    x_train, x_test = standardise(codes[split.train], codes[test])
    y_train, y_test = member[split.train], member[test]
    found = []
    for part in (*partitions.values(), slice(None)):
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        with warnings.catch_warnings():  # which ask whether many classes of few rows are numbers
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            model.fit(x_train[:, part], y_train)
        told = model.predict(x_test[:, part])
        found.append(recall_score(y_test, told, labels=known, average="macro"))
    return np.array(found, np.float64)
