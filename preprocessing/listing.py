"""What lies in a folder of inputs, in one pass that keeps little in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import GatedVAEError

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
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(f"{root}/{folder}")
        except OSError as error:
            if not folder:
                raise GatedVAEError(f"{root} cannot be listed.", error.strerror or str(error), remedy) from None
            yield folder.rstrip("/"), UNREADABLE
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
                        yield folder + name, entry.stat(follow_symlinks=False).st_size
                    elif entry.is_symlink():
                        yield folder + name, UNREADABLE
        folders += [
            f"{folder}{name}/" for name in inner if not (name.endswith(ALIGNED) and name[: -len(ALIGNED)] in stems)
        ]
