"""Raw sources into a store: what OpenFace wrote, aligned faces, dSprites.

The exported names are imported when first used, so that importing one small module of this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.preprocessing.openface.api import read_openface as read_openface
    from gated_vae.preprocessing.store import Store as Store
    from gated_vae.preprocessing.store import open_store as open_store

_HOMES = {
    "read_openface": "gated_vae.preprocessing.openface.api",
    "Store": "gated_vae.preprocessing.store",
    "open_store": "gated_vae.preprocessing.store",
}
__all__ = ["Store", "open_store", "read_openface"]


def __getattr__(name: str) -> Any:
    """Import an exported name from the module it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
