"""Raw sources into a store: what OpenFace wrote, aligned faces, dSprites.

The exported names are imported when first used, so that importing one small module of this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.preprocessing.images import read_pictures as read_pictures
    from gated_vae.preprocessing.openface.api import read_openface as read_openface
    from gated_vae.preprocessing.store import Store as Store
    from gated_vae.preprocessing.store import open_store as open_store

__all__ = ["Store", "open_store", "read_openface", "read_pictures"]

_HOMES = {"Store": "store", "open_store": "store", "read_openface": "openface.api", "read_pictures": "images"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
