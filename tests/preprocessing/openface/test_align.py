from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from gated_vae.preprocessing.decoding.fit import middle
from gated_vae.preprocessing.openface.align import MEAN_SHAPE, RIGID, alignments, cut_face, share_outside
from gated_vae.preprocessing.openface.api import read_openface
from gated_vae.preprocessing.simulate.render.scene import rotation

POSE = ["p_rx", "p_ry", "p_rz"]
FOCAL = 183.073  # pixels, what OpenFace assumes of a picture of 178x218


def face(per_mm: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Landmarks (1, 68, 2) whose rigid points are the mean shape, turned clockwise, and whose mean is (x, y)."""
    turn = per_mm * cv2.Rodrigues(np.array([0, 0, np.radians(degrees)]))[0][:2, :2]
    points = np.zeros((68, 2))
    points[RIGID] = MEAN_SHAPE @ turn.T
    points[np.setdiff1d(range(68), RIGID)] -= points.sum(axis=0) / (68 - len(RIGID))
    return points[None] + [x, y]


def table(folder: Path) -> pd.DataFrame:
    points = [f"{axis}_{i}" for axis in "xyZ" for i in range(68)]
    return read_openface(
        folder, ["confidence", "p_scale", *POSE, "p_tx", "p_ty", *points, *(f"p_{i}" for i in range(34))]
    )


@pytest.fixture(scope="module")
def found(real_data: Path) -> pd.DataFrame:
    return table(real_data / "celeba" / "processed")


def landmarks(found: pd.DataFrame) -> np.ndarray:
    return np.stack([found[[f"{axis}_{i}" for i in range(68)]] for axis in "xy"], axis=-1)


@pytest.mark.parametrize(
    ("degrees", "by_hand"),
    [
        (0, [[0.35, 0, 56 - 35], [0, 0.35, 56 - 17.5]]),
        (90, [[0, 0.35, 56 - 17.5], [-0.35, 0, 56 + 35]]),
    ],
)
def test_a_face_of_two_pixels_a_millimetre_becomes_one_of_seven_tenths(degrees: float, by_hand: list) -> None:
    assert np.allclose(alignments(face(2, degrees, 100, 50)), by_hand)


def test_the_mean_shape_is_that_of_genuine_csvs(found: pd.DataFrame) -> None:
    """x = p_scale R (mean + basis p) + t, and Z is its third row at the distance of p_scale: solved for the mean."""
    sure = found[found["confidence"] > 0.9]
    scale, shift = sure["p_scale"].to_numpy()[:, None, None], sure[["p_tx", "p_ty"]].to_numpy()[:, None]
    depth = sure[[f"Z_{i}" for i in range(68)]].to_numpy()[..., None] - FOCAL / scale
    turned = np.concatenate([(landmarks(sure) - shift) / scale, depth], axis=2)
    straight = turned @ np.stack([rotation(pose) for pose in sure[POSE].to_numpy()])
    parameters = np.column_stack([np.ones(len(sure)), sure[[f"p_{i}" for i in range(34)]]])
    solved, *_ = np.linalg.lstsq(parameters, straight.reshape(len(sure), -1), rcond=None)
    mean = solved[0].reshape(68, 3)
    assert np.abs(mean[RIGID, :2] - MEAN_SHAPE).max() < 0.02  # mm
    assert np.abs(mean.mean(axis=0)).max() < 0.01  # so that p_tx, p_ty are the mean of the landmarks


def test_black_begins_where_it_does_in_genuine_aligned_faces(found: pd.DataFrame, real_data: Path) -> None:
    """Wherever a line of an aligned face leaves its picture (178x218): how much of the last grey is spread beyond it."""
    white = np.full((218, 178), 255, np.uint8)
    beyond, black = [], []
    for source, row, matrix in zip(found["source"], found["row"], alignments(landmarks(found)), strict=True):
        shown = cut_face(white, matrix, (112, 112)) / 255
        if shown.all():
            continue
        path = real_data / "celeba" / "processed" / f"{source[:-4]}_aligned" / f"face_det_{row:06d}.jpg"
        real = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(float)
        black.append((real[shown == 0] > 12).mean())
        for turns in range(4):
            beyond += edges(np.rot90(real, turns), np.rot90(shown, turns))
    assert len(black) > 20
    assert max(black) < 0.01
    assert len(beyond) > 500
    assert abs(np.median(beyond)) < 0.03  # pixels
    assert np.sqrt(np.square(beyond).mean()) < 0.1


def edges(real: np.ndarray, shown: np.ndarray) -> list[float]:
    """By how much each row of the picture ends farther right than predicted, in pixels, where it is even before its end."""
    found = []
    for grey, share in zip(real, shown, strict=True):
        last = int(np.argmax(share < 0.999)) - 1
        if share[0] < 1 or last < 3 or last > 105 or share[last + 5] > 0:
            continue
        if grey[last] > 40 and np.abs(np.diff(grey[last - 2 : last + 1])).max() < 6:
            end = slice(last + 1, last + 6)
            found.append(float(grey[end].sum() / grey[last] - share[end].sum()))
    return found


@pytest.mark.parametrize("size", [64, 112, 150])
@pytest.mark.parametrize("degrees", [0, 25, -140])
def test_pixels_come_from_where_the_alignment_says(size: int, degrees: float) -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(400) / 2, np.arange(300)[:, None] / 2
    picture[..., 2] = 200
    matrix = alignments(face(0.9, degrees, 360, 140))[0]
    at = (np.indices((size, size))[::-1].reshape(2, -1) + 0.5) * 112 / size - 0.5
    x, y = np.linalg.solve(matrix[:, :2], at - matrix[:, 2:])
    inside = ((x > 3) & (x < 396) & (y > 3) & (y < 296)).reshape(size, size)
    outside = ((x < -3) | (x > 402) | (y < -3) | (y > 302)).reshape(size, size)
    assert inside.mean() > 0.5
    assert outside.any()

    cut = cut_face(picture, matrix, (size, size))
    expected = np.stack([x / 2, y / 2, np.full_like(x, 200)], axis=-1).reshape(size, size, 3)
    assert np.abs(cut - expected)[inside].max() < 1.1
    assert not cut[outside].any()
    grey, batch = np.ascontiguousarray(picture[..., 0]), np.zeros((2, size, size), np.uint8)
    assert np.array_equal(cut_face(grey, matrix, (size, size), batch[1]), cut[..., 0])
    assert np.array_equal(batch[1], cut[..., 0])


def test_an_ordinary_face_is_cut_as_openface_and_the_store_would() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (218, 178), dtype=np.uint8)
    matrix = alignments(face(0.62, 4, 89, 131))[0]
    aligned = cv2.warpAffine(picture, matrix, (112, 112), flags=cv2.INTER_LINEAR)
    assert (
        np.abs(cut_face(picture, matrix, (112, 112)).astype(int) - aligned).max() <= 3
    )  # of 255: fractions are in 1/32 pixels
    stored = cv2.resize(aligned, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(cut_face(picture, matrix, (64, 64)).astype(int) - stored).max() <= 2


@pytest.mark.parametrize("period", [2, 3, 16])
def test_a_huge_face_is_averaged_not_sampled(period: int) -> None:
    stripes = np.zeros((3300, 3100), np.uint8)
    stripes[:, np.arange(3100) % period < period / 2] = 240
    matrix = alignments(face(18, 3, 1550, 1650))[0]
    cut = cut_face(stripes, matrix, (64, 64))[2:-2, 2:-2]
    assert np.abs(cut - stripes.mean()).max() < 16
    assert stripes.std() > 100


def test_what_lies_outside() -> None:
    points = np.full((3, 68, 2), [50.0, 20.0])
    points[0, :17] = -0.6  # left of the first pixel's edge
    points[1, :34, 0] = 100.0
    points[2, 0] = np.nan
    assert share_outside(points, slice(0, 40), slice(0, 100)).tolist() == [0.25, 0.5, pytest.approx(1 / 68)]
    points[2] = [29.4, 0]  # the middle square of 100x40 begins with column 30
    assert share_outside(points, *middle(40, 100, (1, 1))).tolist() == [0.25, 0.5, 1.0]
    points[2] = [29.6, 39.4]
    assert share_outside(points, *middle(40, 100, (1, 1)))[2] == 0


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_landmarks_in_one_place_are_no_face(value: float) -> None:
    matrix = alignments(np.full((1, 68, 2), value))[0]
    with pytest.raises(ValueError, match="all in one place"):
        cut_face(np.zeros((9, 9), np.uint8), matrix, (64, 64))


def test_a_face_elsewhere_is_black() -> None:
    matrix = alignments(face(1, 0, 1e15, 1e15))[0]
    assert not cut_face(np.full((90, 90), 255, np.uint8), matrix, (64, 64)).any()
