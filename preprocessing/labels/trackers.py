"""What face trackers other than OpenFace call their labels, and in which units they give them; into OpenFace's names.

Angles become radians. Action units keep their tracker's scale: 0 to 5, or 0 to 1 where they are likelihoods (py-feat). Blendshapes
are kept as they are. Sources: the trackers' own documents and code, named in docs/own_data.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.openface.cells import POSE

if TYPE_CHECKING:
    from gated_vae.preprocessing.labels.table import Labels

ANGLES = {"radians": 1.0, "degrees": math.pi / 180}
BLENDSHAPES = re.findall(
    r"\w+",
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight "
    "eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight eyeLookOutLeft "
    "eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft "
    "jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft "
    "mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower "
    "mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight "
    "mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut",
)
_FEW = 0.01  # of the rows: so many may have an angle that is none, as where a tracker has lost the head
_MOST = math.pi  # radians of an angle
_POINTS = r"(eye_lmk_)?[xyz]_\d+|lm_mp_\d+_[xyz]"  # landmarks


@dataclass(frozen=True)
class Tracker:
    """How one tracker writes."""

    names: Mapping[
        str, str
    ]  # patterns of its labels' names, in any case: the names that they become, with `{}` for the number
    pose: tuple[str, str, str]  # its columns of pitch, yaw and roll
    angles: str | None  # their unit; None where its documents do not say
    others: str  # pattern of what it writes beside labels, which is left out


TRACKERS: dict[str, Tracker] = {
    "openface": Tracker(
        {r"AU(\d+)_r": "AU{:02d}_r", r"AU(\d+)_c": "AU{:02d}_c"},
        POSE,
        "radians",
        rf"{_POINTS}|p_(scale|r[xyz]|t[xy]|\d+)|gaze_.*|pose_T[xyz]|face_id|face|timestamp",
    ),
    "pyfeat": Tracker(
        {r"AU(\d+)": "AU{:02d}_r", "FaceScore": "confidence"},
        ("Pitch", "Yaw", "Roll"),
        "radians",
        rf"{_POINTS}|FaceRect.*|[XYZ]|Identity_\d+|{'|'.join(BLENDSHAPES)}",
    ),
    "libreface": Tracker(
        {r"au_(\d+)_intensity": "AU{:02d}_r", r"au_(\d+)": "AU{:02d}_c"},
        ("pitch", "yaw", "roll"),
        "degrees",
        _POINTS,
    ),
    "pyafar": Tracker({r"Int_au_(\d+)": "AU{:02d}_r"}, ("Pitch", "Yaw", "Roll"), None, _POINTS),
    "blendshapes": Tracker(
        {name: name for name in BLENDSHAPES},
        ("HeadPitch", "HeadYaw", "HeadRoll"),
        "radians",
        rf"{_POINTS}|_neutral|BlendShapeCount|FaceRect.*|[XYZ]|AU\d+|Identity_\d+",
    ),
}


@dataclass(frozen=True)
class Labeller:
    """Which tracker made the labels, of which version, and the unit of its angles, as far as it was told."""

    name: str
    version: str | None = None
    angles: str | None = None

    def told(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"name": self.name, "version": self.version, "angles": self.angles}


def parse_tracker(text: str) -> Labeller:
    """Read ``pyfeat:version=2.0.3,angles=radians``; `UsageError` where it cannot be read or there is no such tracker."""
    name, _, rest = text.partition(":")
    given = dict(part.split("=", 1) for part in rest.split(",") if "=" in part)
    known = f"Write one of {', '.join(TRACKERS)}, with :version=... or ,angles=radians|degrees behind it."
    if (
        name not in TRACKERS
        or len(given) != len(list(filter(None, rest.split(","))))
        or {*given} - {"version", "angles"}
    ):
        raise UsageError(f"--tracker {text} cannot be read.", "", known)
    if given.get("angles", "radians") not in ANGLES:
        raise UsageError(f"--tracker {text} cannot be read.", "Angles are radians or degrees.", known)
    return Labeller(name, given.get("version"), given.get("angles"))


class Translated(NamedTuple):
    """Labels under our names, and all that is known now of who made them."""

    table: pa.Table
    labeller: Labeller
    required: list[str]  # columns in which a face that was found has a value


def translate(given: Labels, labeller: Labeller) -> Translated:
    """Bring a tracker's table to our names and units; columns that are not its own stay as they are.

    Raises
    ------
    GatedVAEError
        When it has none of the tracker's labels, a label is no number, or the unit of its angles, or which of them is the
        yaw, cannot be told: these are asked for.
    """
    tracker, there = TRACKERS[labeller.name], given.table.column_names
    columns: dict[str, pa.ChunkedArray] = {}
    ours: list[str] = []
    for name in there:
        if new := _new_name(name, tracker.names):
            columns[new] = _numbers(given, name)
            ours.append(new)
        elif name not in tracker.pose and not re.fullmatch(tracker.others, name, re.IGNORECASE):
            columns[name] = given.table[name]
    if all(name in there for name in tracker.pose):
        turns = {name: _numbers(given, name).to_numpy() for name in tracker.pose}
        labeller = replace(labeller, angles=_unit(given, labeller, turns))
        turns = _as_named(given, labeller, turns)
        columns |= {new: pa.chunked_array([turn], pa.float64()) for new, turn in zip(POSE, turns.values(), strict=True)}
        ours += POSE
    if not ours:
        why = f"It has {', '.join(there[:12])}."
        raise GatedVAEError(f"{given.path} has no labels of {labeller.name}.", why, "Name another --tracker, or none.")
    return Translated(pa.table(columns), labeller, ours)


def _new_name(name: str, names: Mapping[str, str]) -> str:
    for pattern, new in names.items():
        if found := re.fullmatch(pattern, name, re.IGNORECASE):
            return new.format(int(found[1])) if found.groups() else new
    return ""


def _numbers(given: Labels, name: str) -> pa.ChunkedArray:
    values = given.table[name]
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        row = pc.index(pc.is_valid(values), True).as_py()
        why = given.notes.get(
            name, f"It is {values.type}" + (f": row {row} has {values[row].as_py()!r}" if row >= 0 else "")
        )
        raise GatedVAEError(
            f"Column {name} of {given.path} holds no numbers.", f"{why}.", "Correct it, or leave it out."
        )
    return pc.cast(values, pa.float64())


def _unit(given: Labels, labeller: Labeller, turns: Mapping[str, Any]) -> str:
    """The unit of the angles: as told, as the tracker is known to write them unless the values contradict, else it is asked for."""
    size = np.abs(np.stack([*turns.values()]))
    size = size[:, np.isfinite(size).all(axis=0)]
    degrees = size.size > 0 and bool((size.max(axis=0) > _MOST).mean() > _FEW)
    if labeller.angles:
        if degrees and labeller.angles == "radians":
            row = int(np.argmax((np.abs(np.stack([*turns.values()])) > _MOST).any(axis=0)))
            why = f"Row {row} has {', '.join(f'{name} {turn[row]:g}' for name, turn in turns.items())}."
            raise GatedVAEError(f"The angles of {given.path} are no radians.", why, "Leave out angles=radians.")
        return labeller.angles
    if degrees:
        return "degrees"
    usual = TRACKERS[labeller.name].angles
    if usual is None:
        why = f"{labeller.name} does not say, and none is beyond {_MOST:.2f}."
        remedy = f"Write --tracker {labeller.name}:angles=degrees, or radians."
        raise GatedVAEError(f"The angles of {given.path} may be radians or degrees.", why, remedy)
    return usual


def _as_named(given: Labels, labeller: Labeller, turns: Mapping[str, Any]) -> dict[str, Any]:
    """Pitch, yaw and roll in radians.

    py-feat wrote degrees before 0.7, then radians and the yaw under Roll; 2.0 made Pitch = -Pitch, Yaw = Roll, Roll = -Yaw of it.
    """
    pitch, yaw, roll = (turn * ANGLES[labeller.angles or "radians"] for turn in turns.values())
    if labeller.name == "pyfeat" and labeller.angles == "radians" and "x_477" not in given.table.column_names:
        if labeller.version is None:
            what = f"Which angle of {given.path} is the yaw is not told."
            why = "py-feat 0.7 wrote it under Roll, 2.0 under Yaw, and nothing in the file says which it was."
            raise GatedVAEError(what, why, "Write --tracker pyfeat:version=2.0, as `pip show py-feat` says it.")
        if labeller.version.startswith("0.7"):
            pitch, yaw, roll = -pitch, roll, -yaw
    return dict(zip(POSE, (pitch, yaw, roll), strict=True))
