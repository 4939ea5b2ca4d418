"""Tables of other face trackers under our names and in our units; values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest

from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.labels.table import Labels, read_table
from gated_vae.preprocessing.labels.trackers import BLENDSHAPES, parse_tracker, translate

Columns = dict[str, list[object]]


def translated(tracker: str, columns: Columns) -> tuple[Columns, str | None]:
    found = translate(Labels(Path("t.csv"), pa.table(columns)), parse_tracker(tracker))
    return found.table.to_pydict(), found.labeller.angles


DEGREES = math.pi / 180


@pytest.mark.parametrize(
    ("tracker", "columns", "expected", "angles"),
    [
        (
            "openface",
            {
                "AU01_r": [1],
                "AU28_c": [0],
                "pose_Rx": [0.1],
                "pose_Ry": [0.2],
                "pose_Rz": [0.3],
                "x_0": [5],
                "age": [9],
            },
            {"AU01_r": [1.0], "AU28_c": [0.0], "age": [9], "pose_Rx": [0.1], "pose_Ry": [0.2], "pose_Rz": [0.3]},
            "radians",
        ),
        (
            "pyfeat:version=2.0.3",
            {"FaceScore": [0.9], "x_67": [1], "Pitch": [0.1], "Roll": [0.2], "Yaw": [0.3], "AU01": [0.5], "AU43": [1]},
            {
                "confidence": [0.9],
                "AU01_r": [0.5],
                "AU43_r": [1.0],
                "pose_Rx": [0.1],
                "pose_Ry": [0.3],
                "pose_Rz": [0.2],
            },
            "radians",
        ),
        (  # Yaw holds roll
            "pyfeat:version=0.7.0",
            {"Pitch": [0.1], "Roll": [0.2], "Yaw": [0.3]},
            {"pose_Rx": [-0.1], "pose_Ry": [0.2], "pose_Rz": [-0.3]},
            "radians",
        ),
        (  # degrees tell that it is older
            "pyfeat",
            {"Pitch": [10.0], "Roll": [20.0], "Yaw": [30.0]},
            {"pose_Rx": [10 * DEGREES], "pose_Ry": [30 * DEGREES], "pose_Rz": [20 * DEGREES]},
            "degrees",
        ),
        (
            "libreface",
            {
                "pitch": [1.0],
                "yaw": [2.0],
                "roll": [3.0],
                "au_1_intensity": [2.5],
                "au_12": [1],
                "facial_expression": ["Anger"],
            },
            {
                "AU01_r": [2.5],
                "AU12_c": [1.0],
                "facial_expression": ["Anger"],
                "pose_Rx": [DEGREES],
                "pose_Ry": [2 * DEGREES],
                "pose_Rz": [3 * DEGREES],
            },
            "degrees",
        ),
        (
            "pyafar:angles=radians",
            {
                "Frame": [1],
                "Pitch": [0.1],
                "Yaw": [0.2],
                "Roll": [0.3],
                "y_467": [1],
                "Occ_au_12": [0.7],
                "Int_au_12": [2],
            },
            {"Frame": [1], "Occ_au_12": [0.7], "AU12_r": [2.0], "pose_Rx": [0.1], "pose_Ry": [0.2], "pose_Rz": [0.3]},
            "radians",
        ),
        (  # Live Link Face
            "blendshapes",
            {"BlendShapeCount": [61], "JawOpen": [0.5], "HeadYaw": [0.1], "HeadPitch": [0.2], "HeadRoll": [0.3]},
            {"jawOpen": [0.5], "pose_Rx": [0.2], "pose_Ry": [0.1], "pose_Rz": [0.3]},
            "radians",
        ),
        (
            "blendshapes",
            {"_neutral": [0], "mouthsmileleft": [1], "AU01": [3]},
            {"mouthSmileLeft": [1.0]},
            None,
        ),  # MediaPipe
    ],
)
def test_names_and_units(tracker: str, columns: Columns, expected: Columns, angles: str | None) -> None:
    found, unit = translated(tracker, columns)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values), name
    assert unit == angles


@pytest.mark.parametrize(
    ("tracker", "columns", "told"),
    [
        ("pyfeat", {"Pitch": [0.1], "Roll": [0.2], "Yaw": [0.3]}, r"is the yaw is not told(?s:.*)pyfeat:version="),
        ("pyafar", {"Pitch": [0.1], "Roll": [0.2], "Yaw": [0.3]}, r"radians or degrees(?s:.*)pyafar:angles=degrees"),
        (
            "openface:angles=radians",
            {"pose_Rx": [0.1, 12.0], "pose_Ry": [0, 0], "pose_Rz": [0, 0]},
            r"no radians(?s:.*)Row 1 has pose_Rx 12",
        ),
        ("openface", {"age": [1]}, r"no labels of openface(?s:.*)age"),
        (
            "libreface",
            {"au_1_intensity": ["a"]},
            r"Column au_1_intensity of t.csv holds no numbers(?s:.*)row 0 has 'a'",
        ),
    ],
)
def test_what_cannot_be_told_is_asked_for(tracker: str, columns: Columns, told: str) -> None:
    with pytest.raises(GatedVAEError, match=told):
        translated(tracker, columns)


def test_a_head_that_was_lost_does_not_make_degrees_of_radians() -> None:
    turns: list[object] = [0.01 * number for number in range(200)]
    columns = {"pose_Rx": [*turns[:-1], 5.0], "pose_Ry": turns, "pose_Rz": turns}
    assert translated("openface", columns)[1] == "radians"


@pytest.mark.parametrize("text", ["", "fex", "pyfeat:", "pyfeat:2.0", "pyfeat:size=3", "pyafar:angles=turns"])
def test_other_trackers_are_refused(text: str) -> None:
    if text == "pyfeat:":
        assert parse_tracker(text).version is None
        return
    with pytest.raises(UsageError, match="openface, pyfeat, libreface, pyafar, blendshapes"):
        parse_tracker(text)


def test_the_blendshapes_of_arkit() -> None:
    assert len(BLENDSHAPES) == len({*BLENDSHAPES}) == 52


@pytest.mark.parametrize(
    ("folder", "tracker", "labels"),
    [
        ("pyfeat", "pyfeat", {"pose_Ry": 10.5 * DEGREES, "AU12_r": 0.2}),
        ("libreface", "libreface", {"pose_Ry": 10.5 * DEGREES, "AU12_r": 2.5, "AU12_c": 1}),
        ("pyafar", "pyafar:angles=degrees", {"pose_Ry": 10.5 * DEGREES, "AU12_r": 2.2}),
        ("degrees", "openface", {"pose_Ry": 10.3 * DEGREES, "AU12_r": 1.5}),
        ("mediapipe", "blendshapes", {"mouthSmileLeft": 0.9, "jawOpen": 0.2}),
    ],
)
def test_tables_as_people_have_them(cases: Path, folder: str, tracker: str, labels: dict[str, float]) -> None:
    table = read_table(cases / "other-trackers" / folder / "a.csv").table
    found = translate(Labels(Path("a.csv"), table), parse_tracker(tracker)).table
    for name, value in labels.items():
        assert found[name].to_pylist() == [pytest.approx(value)]
