from __future__ import annotations

import pandas as pd
import pytest

from gated_vae.pairing.groups.equal import group_by_labels
from gated_vae.preprocessing.errors import GatedVAEError


def test_rows_are_grouped_by_all_labels_in_sorted_order() -> None:
    labels = pd.DataFrame({"x": [2, 1, 2, 1, 1, 1], "y": ["b", "a", "b", "b", "a", "b"]})
    group, merged = group_by_labels(labels)
    assert (group.tolist(), merged) == ([2, 0, 2, 1, 0, 1], 0)


def test_rows_that_are_alone_join_the_nearest_group_and_are_counted() -> None:
    group, merged = group_by_labels(pd.DataFrame({"identity": [1, 2, 2, 3, 5, 6, 6, 6, 7]}))
    assert (group.tolist(), merged) == ([0, 0, 0, 0, 1, 1, 1, 1, 1], 4)
    group, merged = group_by_labels(pd.DataFrame({"identity": [2, 2, 3, 6, 6]}))  # as near to either: the earlier
    assert (group.tolist(), merged) == ([0, 0, 0, 1, 1], 1)


def test_missing_labels_and_continuous_ones_are_refused() -> None:
    with pytest.raises(GatedVAEError, match=r"share identity\.\n1 of 3 samples have no value"):
        group_by_labels(pd.DataFrame({"identity": [1, None, 1]}))
    with pytest.raises(GatedVAEError, match=r"6 of 8 samples agree with no other.*\n.*pipe cluster"):
        group_by_labels(pd.DataFrame({"pose_Rx": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]}))


def test_samples_that_do_not_train_join_those_like_them_or_each_other_or_none() -> None:
    labels = pd.DataFrame({"who": ["b", "b", "a", "a", "b", "c", "d", "c", None]})
    group, _ = group_by_labels(labels, 4)
    assert group.tolist() == [1, 1, 0, 0, 1, 2, 3, 2, -1]
