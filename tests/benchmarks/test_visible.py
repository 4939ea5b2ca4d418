"""How much a label shows in pictures, against hand-worked values."""

import numpy as np
import pytest

from benchmarks.visible import visible_nats


def test_one_pixel_that_follows_a_label_by_hand() -> None:
    """Pixel values .4 and .6 by a label of -1 and 1: slope .1, mean .5, so .01 / (2 * .25); the other label says nothing."""
    images = np.array([102, 102, 153, 153], np.uint8).reshape(4, 1, 1)
    labels = np.array([[-1.0, 5.0], [-1.0, 7.0], [1.0, 5.0], [1.0, 7.0]])
    assert visible_nats(images, labels) == pytest.approx([0.02, 0.0], abs=1e-6)


def test_pixels_add_up_and_units_do_not_matter() -> None:
    images = np.array([102, 102, 153, 153], np.uint8).reshape(4, 1, 1)
    labels = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    twice = np.repeat(images, 2, axis=2)
    assert visible_nats(twice, labels * 30 + 4) == pytest.approx(2 * visible_nats(images, labels))


def test_black_pixels_cost_no_infinity() -> None:
    images = np.zeros((4, 2, 2), np.uint8)
    assert visible_nats(images, np.arange(4.0)[:, None]) == pytest.approx([0.0])
