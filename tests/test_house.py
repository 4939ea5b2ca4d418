"""The shape of the house: folders small enough to be taken in, imports that do not go down for ever."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import grimp
import pytest

DEEPEST = {"preprocessing": 6, "pairing": 6, "models": 6, "pipelines": 6}  # modules in the longest chain of imports
MODULES = 9  # in a folder, at most
LISTS = {"models/metrics", "pipelines/commands"}  # any number of modules that know nothing of each other


@cache
def imports() -> grimp.ImportGraph:
    """Which module of `gated_vae` imports which, within functions, too, but for what only type checkers see."""
    return grimp.build_graph("gated_vae", exclude_type_checking_imports=True, cache_dir=None)


@pytest.mark.parametrize("package", DEEPEST)
def test_no_chain_of_imports_is_too_long(package: str) -> None:
    graph = imports()
    inside = graph.find_descendants(f"gated_vae.{package}") | {f"gated_vae.{package}"}

    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = (chain(name) for name in graph.find_modules_directly_imported_by(module) & inside)
        return (module, *max(below, key=len, default=()))

    longest = max(map(chain, sorted(inside)), key=len)
    assert len(longest) <= DEEPEST[package], " -> ".join(longest)


def test_no_folder_holds_too_many_modules() -> None:
    root = Path(__file__).parents[1]
    modules = [path for package in DEEPEST for path in (root / package).rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(str(path.parent.relative_to(root)) for path in modules)
    assert {folder: count for folder, count in counts.items() if folder not in LISTS and count > MODULES} == {}
