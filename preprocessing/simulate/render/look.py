"""How a person is coloured and groomed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How one person is coloured (grey levels 0..255) and groomed."""

    skin: float = 185
    hair: float = 60
    brow: float = 60
    lips: float = 0.72  # as a share of the skin's grey
    iris: float = 70
    brow_thickness: float = 1.0
    lashes: float = 0.6
    beard: float = 0.0  # 0 none, 1 full
    bangs: bool = False
    long_hair: bool = False
    hairline: float = -86.0  # v in mm at the middle of the forehead
    glasses: bool = False
