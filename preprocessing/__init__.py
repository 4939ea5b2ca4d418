"""Raw sources into a store: what OpenFace wrote, aligned faces, dSprites.

The exported names are imported when first used, so that importing one small module of this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessing.openface import read_openface as read_openface
    from preprocessing.store import Store as Store
    from preprocessing.store import open_store as open_store

_HOMES = {
    "read_openface": "preprocessing.openface",
    "Store": "preprocessing.store",
    "open_store": "preprocessing.store",
}
__all__ = ["Store", "open_store", "read_openface"]


def __getattr__(name: str) -> Any:
    """Import an exported name from the module it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
