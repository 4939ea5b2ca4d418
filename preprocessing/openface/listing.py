"""What lies in a folder of inputs, in one pass that keeps little in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gated_vae.preprocessing.errors import GatedVAEError

DETAILS = "_of_details.txt"
ALIGNED = "_aligned"
UNREADABLE = -1  # in place of a size


def list_files(root: Path, suffixes: tuple[str, ...], remedy: str) -> Iterator[tuple[str, int]]:
    """Relative path and size of each file in a folder and the folders in it whose name ends in one of `suffixes`.

    The size is `UNREADABLE` for links, which are not followed, and for folders that cannot be listed. Hidden names and a
    CSV's folder of aligned faces are passed over.

    Raises
    ------
    GatedVAEError
        When `root` cannot be listed; `remedy` says what to do about it.
    """
    for name, entry in _find_files(root, suffixes, remedy):
        yield name, entry.stat(follow_symlinks=False).st_size if entry else UNREADABLE


def has_files(root: Path, suffixes: tuple[str, ...], count: int, remedy: str) -> bool:
    """Whether `list_files` would list at least so many: by names alone, and no further than needed to tell."""
    return sum(1 for _ in islice(_find_files(root, suffixes, remedy), count)) == count


def _find_files(root: Path, suffixes: tuple[str, ...], remedy: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Relative path and entry of what `list_files` lists; no entry where there is no size to be had."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(f"{root}/{folder}")
        except OSError as error:
            if not folder:
                raise GatedVAEError(f"{root} cannot be listed.", error.strerror or str(error), remedy) from None
            yield folder.rstrip("/"), None
            continue
        stems, inner = set(), []
        with entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(name)
                elif name.lower().endswith(suffixes):
                    stems.add(name.removesuffix(DETAILS).removesuffix(".csv"))
                    if entry.is_file(follow_symlinks=False):
                        yield folder + name, entry
                    elif entry.is_symlink():
                        yield folder + name, None
        folders += [
            f"{folder}{name}/" for name in inner if not (name.endswith(ALIGNED) and name[: -len(ALIGNED)] in stems)
        ]
