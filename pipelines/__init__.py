"""The `pipe` command and what ties preprocessing, pairing and models together.

Names are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gated_vae.pipelines.evaluation.opened import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gated_vae.pipelines.evaluation import opened

    return getattr(opened, name)
