"""Disentangled representations from pairs: the stable few names of the four packages.

Names are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.models import METHODS, OBJECTIVES, GatedVAE, GatedVAEConfig, metrics
    from gated_vae.pairing import Groups, PairBatch, PairLoader, draw_partners, group_kmeans
    from gated_vae.pipelines import open_run
    from gated_vae.preprocessing import Store, open_store, read_openface, read_pictures

_HOMES = {
    "METHODS": "models",
    "OBJECTIVES": "models",
    "GatedVAE": "models",
    "GatedVAEConfig": "models",
    "Groups": "pairing",
    "PairBatch": "pairing",
    "PairLoader": "pairing",
    "Store": "preprocessing",
    "draw_partners": "pairing",
    "group_kmeans": "pairing",
    "metrics": "models",
    "open_run": "pipelines",
    "open_store": "preprocessing",
    "read_openface": "preprocessing",
    "read_pictures": "preprocessing",
}
__all__ = [
    "METHODS",
    "OBJECTIVES",
    "GatedVAE",
    "GatedVAEConfig",
    "Groups",
    "PairBatch",
    "PairLoader",
    "Store",
    "draw_partners",
    "group_kmeans",
    "metrics",
    "open_run",
    "open_store",
    "read_openface",
    "read_pictures",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _version() -> str:
    """As it was installed, which pyproject.toml decides; nothing where it runs from its sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gated-vae")
    except PackageNotFoundError:
        return ""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
