"""Pairing: grouping samples, drawing pairs, keeping them in Parquet and serving them.

Names are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairing.draws import draw_partners
    from pairing.kmeans import Groups, group_kmeans
    from pairing.loader import PairBatch, PairLoader

__all__ = ["Groups", "PairBatch", "PairLoader", "draw_partners", "group_kmeans"]

_HOMES = {
    "Groups": "kmeans",
    "PairBatch": "loader",
    "PairLoader": "loader",
    "draw_partners": "draws",
    "group_kmeans": "kmeans",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
