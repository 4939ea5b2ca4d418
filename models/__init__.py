"""Networks, methods, objectives and metrics: everything that knows tensors and arrays only.

Names are imported when first used, so that the metrics need no torch and importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.models import metrics
    from gated_vae.models.registry import METHODS, OBJECTIVES
    from gated_vae.models.vae import GatedVAE, GatedVAEConfig

__all__ = ["METHODS", "OBJECTIVES", "GatedVAE", "GatedVAEConfig", "metrics"]

_HOMES = {"GatedVAE": "vae", "GatedVAEConfig": "vae", "METHODS": "registry", "OBJECTIVES": "registry"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
