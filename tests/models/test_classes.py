from __future__ import annotations

import numpy as np
import pytest

from gated_vae.models.metrics import Split, partition_accuracy

PARTS = {"colour": slice(0, 2), "size": slice(2, 3)}


def test_classes_are_read_from_the_partition_that_has_them_and_guessed_from_others() -> None:
    rng = np.random.default_rng(0)
    colour = rng.choice(["blue", "green", "red"], 600, p=[0.8, 0.1, 0.1])
    place = np.array([{"blue": (0, 0), "green": (9, 0), "red": (0, 9)}[name] for name in colour])
    codes = np.column_stack([place + rng.normal(size=(600, 2)), rng.normal(size=600)])
    own, other, full = partition_accuracy(codes, colour, PARTS)
    assert min(own, full) > 0.99
    assert other == pytest.approx(1 / 3, abs=0.15)  # not 0.8, which always saying blue would give


def test_it_is_the_mean_share_of_each_class_that_is_told_right_by_hand() -> None:
    """Class 2 is not among the training rows, and class 3 not among the others, one of which is taken for it."""
    zero, one, three = (-1, 0), (1, 0), (0, 9)
    codes = np.array([zero, zero, one, one, three, three, zero, zero, three, zero, one, one, (5, 0)], float)
    classes = np.array([0, 0, 1, 1, 3, 3, 0, 0, 0, 1, 1, 1, 2])
    found = partition_accuracy(codes, classes, {"a": slice(0, 2)}, split=Split(np.arange(6), np.arange(6, 13)))
    assert found == pytest.approx([2 / 3] * 2)


def test_rare_classes_weigh_as_much_as_others() -> None:
    """Of two normals a standard deviation apart, half a deviation is the best threshold, whatever their shares: 0.69."""
    rng = np.random.default_rng(0)
    rare = rng.random(4000) < 0.1
    codes = rare[:, None] + rng.normal(size=(4000, 1))
    assert partition_accuracy(codes, rare, {"a": slice(0, 1)}) == pytest.approx([0.69] * 2, abs=0.06)


def test_classes_may_be_as_many_as_rows() -> None:  # of which scikit-learn warns
    classes, split = np.tile(np.arange(24), 2), Split(np.arange(24), np.arange(24, 48))
    assert partition_accuracy(np.eye(24)[classes], classes, {"a": slice(0, 24)}, split=split) == pytest.approx([1, 1])


def test_one_class_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="1 of 2 classes"):
        partition_accuracy(np.eye(6), [0, 0, 1, 0, 0, 0], PARTS, split=Split(np.arange(3), np.arange(3, 6)))
