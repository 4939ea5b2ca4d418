"""What lies in a folder of inputs, in one pass that keeps little in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gated_vae.preprocessing.errors import GatedVAEError

CSV = ".csv"
DETAILS = "_of_details.txt"
ALIGNED = "_aligned"
UNREADABLE = -1  # in place of a size


def find_files(root: Path, suffixes: tuple[str, ...], remedy: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Relative path and entry of each file in a folder and the folders in it whose name ends in one of `suffixes`.

    No entry comes with links, which are not followed, and with folders that cannot be listed. Hidden names and a CSV's folder
    of aligned faces are passed over.

    Raises
    ------
    GatedVAEError
        When `root` cannot be listed; `remedy` says what to do about it.
    """
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
                    stems.add(name.removesuffix(DETAILS).removesuffix(CSV))
                    if entry.is_file(follow_symlinks=False):
                        yield folder + name, entry
                    elif entry.is_symlink():
                        yield folder + name, None
        folders += [
            f"{folder}{name}/" for name in inner if not (name.endswith(ALIGNED) and name[: -len(ALIGNED)] in stems)
        ]


def list_sizes(root: Path, suffixes: tuple[str, ...], remedy: str) -> dict[str, int]:
    """Size in bytes of each file that `find_files` finds, `UNREADABLE` where it has no entry, sorted by relative path."""
    sizes = {
        name: entry.stat(follow_symlinks=False).st_size if entry else UNREADABLE
        for name, entry in find_files(root, suffixes, remedy)
    }
    return {name: sizes[name] for name in sorted(sizes)}


def printable(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 are spelled out."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
