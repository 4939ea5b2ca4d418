"""What samples can be alike in: pose, expression, identity, whatever else is registered here or named on the command line.

A new label is one line in `LABELS`: `pipe cluster` then makes a partition of it where a store has its columns, and the pairs of
every partition are measured in them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.store import PARTITION_NAME

Alike = Literal["near", "equal"]


@dataclass(frozen=True)
class Label:
    """Something that samples can be alike in.

    Attributes
    ----------
    name:
        The partition it makes.
    columns:
        Its columns in samples.parquet: names, or patterns as of file names. A store has the label if it has one for each.
    alike:
        ``near`` (grouped by K-Means) or ``equal`` in every column.
    unit, per_unit:
        How people read differences: `per_unit` of `unit` are 1 in the columns' own.
    title:
        What the columns are, for people.
    beside:
        Columns in the same unit that pairs are measured in, too, but need not agree in.
    density:
        Samples a cluster where nobody says how many clusters there are to be; the paper has 4,000 of CelebA's 202,599.
    turns:
        Column -> how much of its unit is a full turn, after which it begins anew: of angles, hours, months.
    """

    name: str
    columns: tuple[str, ...]
    alike: Alike = "near"
    unit: str = ""
    per_unit: float = 1.0
    title: str = "numbers"
    beside: tuple[str, ...] = ()
    density: float = 50.65
    turns: Mapping[str, float] = field(default_factory=dict)

    def owns(self, column: str) -> bool:
        """Whether a column is one of its own."""
        return any(_fits(column, name) for name in self.columns)

    def measures(self, column: str) -> bool:
        """Whether a column is one of its own or beside them."""
        return self.owns(column) or any(_fits(column, name) for name in self.beside)

    def find(self, columns: Sequence[str]) -> list[str]:
        """Its own among a table's columns, in their order; none where one of `self.columns` is missing."""
        whole = all(any(_fits(column, name) for column in columns) for name in self.columns)
        return [column for column in columns if self.owns(column)] if whole else []

    def clusters(self, samples: int) -> int:
        """How many clusters so many samples make where nobody says: 1 .. samples / 2."""
        return max(1, min(round(samples / self.density), samples // 2))


def _fits(column: str, name: str) -> bool:
    return column == name or fnmatchcase(column, name)


POSE = Label(
    "pose",
    ("pose_Rx", "pose_Ry"),
    unit="degrees",
    per_unit=180 / math.pi,
    title="pitch and yaw",
    beside=("pose_Rz",),
    density=81.04,  # the paper has 2,500 of CelebA
)
EXPRESSION = Label("expression", ("AU*_r",), unit="intensity", title="action unit intensities")
BLENDSHAPES = Label(  # ARKit's and MediaPipe's, all of the face but where the eyes look
    "blendshapes",
    ("brow*", "cheek*", "eyeBlink*", "eyeSquint*", "eyeWide*", "jaw*", "mouth*", "noseSneer*"),
    unit="weight",
    title="blendshapes",
)
IDENTITY = Label("identity", ("identity",), "equal", title="identity")

LABELS: dict[str, Label] = {label.name: label for label in (POSE, EXPRESSION, BLENDSHAPES, IDENTITY)}


def coordinates(columns: Sequence[str], turns: Mapping[str, float]) -> list[str]:
    """Names of the coordinates that columns are compared by: their own, and two for one that has a full turn."""
    return [name for it in columns for name in ((f"{it} cos", f"{it} sin") if it in turns else (it,))]


def registered(alike: Alike) -> list[Label]:
    """The registered labels of one kind, in the order in which training takes turns."""
    return [label for label in LABELS.values() if label.alike == alike]


def owner(column: str, labels: Iterable[Label]) -> Label | None:
    """The label that a column belongs to, or beside; None where it belongs to none."""
    return next((label for label in labels if label.measures(column)), None)


def parse_columns(option: str, texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read several ``position=posX,posY`` as partitions' names and columns, in their order; errors say `option`.

    Partitions may have columns in common, but not a name.

    Raises
    ------
    UsageError
        When there is no name or no column, a column is named twice, or two partitions have one name.
    """
    remedy = f"Write {option} NAME=COLUMN[,COLUMN...], for example {option} position=posX,posY."
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        name, columns = name.strip(), tuple(column.strip() for column in listed.split(","))
        if not equals or not re.fullmatch(PARTITION_NAME, name) or not all(columns):
            why = "A name of letters, digits, _ or - and at least one column are needed."
            raise UsageError(f"{option} {text} cannot be read.", why, remedy)
        if len(set(columns)) < len(columns):
            raise UsageError(f"{option} {text} cannot be read.", "It names a column twice.", remedy)
        if name in found:
            raise UsageError(f"Two partitions are called {name}.", "", f"Give each {option} a name of its own.")
        found[name] = columns
    return found


def choose_columns(shared: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Bring columns to share into the order of the available ones; refuse none, and those that do not exist."""
    remedy = "Write --share NAME=COLUMN[,COLUMN...], for example --share position=posX,posY."
    unknown = [name for name in shared if name not in available]
    if unknown:
        raise GatedVAEError(f"There is no column {unknown[0]}.", f"There are {', '.join(available)}.", remedy)
    if not shared:
        raise GatedVAEError("Pairs must share something.", "No column is named.", remedy)
    return tuple(name for name in available if name in shared)
