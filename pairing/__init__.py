"""Pairing: grouping samples, drawing pairs, keeping them in Parquet and serving them.

Names are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.pairing.groups.kmeans import Groups, group_kmeans
    from gated_vae.pairing.rules.uniform import draw_partners
    from gated_vae.pairing.stream.loader import PairBatch, PairLoader

__all__ = ["Groups", "PairBatch", "PairLoader", "draw_partners", "group_kmeans"]

_HOMES = {
    "Groups": "groups.kmeans",
    "PairBatch": "stream.loader",
    "PairLoader": "stream.loader",
    "draw_partners": "rules.uniform",
    "group_kmeans": "groups.kmeans",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
