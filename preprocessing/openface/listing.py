"""What lies in a folder of inputs, in one pass that keeps little in memory.

Links are followed, as data sets kept by git-annex, DVC or the Hugging Face cache are folders of links. Each folder is
listed once, under its own name where it has one: links to folders come after all that lie there, and loops end.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gated_vae.preprocessing.errors import GatedVAEError, naming, raise_trouble

CSV = ".csv"
DETAILS = "_of_details.txt"
OUTPUT = (CSV, DETAILS)  # details are looked for, too, as they tell which folders hold aligned faces
ALIGNED = "_aligned"


class Stamp(NamedTuple):
    """What tells a file from a later one of its name; -1 where there is none to be read."""

    size: int  # bytes
    time: int  # of its last change, nanoseconds


UNREADABLE = Stamp(-1, -1)  # of links to nothing, folders that cannot be listed, pipes


def find_files(root: Path, suffixes: tuple[str, ...], remedy: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Relative path and entry of each file in a folder and the folders in it whose name ends in one of `suffixes`.

    No entry comes with what is no file or leads nowhere, and with folders that cannot be listed. Hidden names and a CSV's
    folder of aligned faces are passed over. `GatedVAEError` with `remedy` when `root` cannot be listed.
    """
    folders, linked = [""], list[str]()
    known = set[tuple[int, int]]()
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)
        try:
            status = os.stat(f"{root}/{folder}")  # noqa: PTH116
            place = status.st_dev, status.st_ino
            if place in known:
                continue
            known.add(place)
            entries = os.scandir(f"{root}/{folder}")
        except OSError as error:
            raise_trouble(error, errno.EIO)
            if not folder:
                raise GatedVAEError(f"{root} cannot be listed.", error.strerror or str(error), remedy) from None
            yield folder.rstrip("/"), None
            continue
        stems, inner = set(), []
        with entries, naming(f"{root}/{folder}"):
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if ask(entry.is_dir):
                    inner.append(entry)
                elif name.lower().endswith(suffixes):
                    stems.add(name.removesuffix(DETAILS).removesuffix(CSV))
                    yield folder + name, entry if ask(entry.is_file) else None
        for entry in sorted(inner, key=lambda entry: entry.name):
            if not (entry.name.endswith(ALIGNED) and entry.name[: -len(ALIGNED)] in stems):
                (linked if entry.is_symlink() else folders).append(f"{folder}{entry.name}/")


def ask(question: Callable[[], bool]) -> bool:
    """The answer; no where a link leads to itself."""
    try:
        return question()
    except OSError as error:
        raise_trouble(error, errno.EIO)
        return False


def list_files(root: Path, suffixes: tuple[str, ...], remedy: str) -> dict[str, Stamp]:
    """Stamp of each file that `find_files` finds, `UNREADABLE` where it has no entry, sorted by relative path."""
    stamps = {
        name: stamp_of(entry.stat()) if entry else UNREADABLE for name, entry in find_files(root, suffixes, remedy)
    }
    return {name: stamps[name] for name in sorted(stamps)}


def stamp_of(status: os.stat_result) -> Stamp:
    """What `os.stat` says of a file."""
    return Stamp(status.st_size, status.st_mtime_ns)


def listing_digests(files: Iterable[tuple[str, Stamp]]) -> tuple[bytes, bytes]:
    """Digests of the names and sizes, and of the times, of files listed one after the other."""
    sizes, times = hashlib.sha256(), hashlib.sha256()
    for name, stamp in files:
        sizes.update(os.fsencode(f"{name}\0{stamp.size}\n"))
        times.update(b"%d\n" % stamp.time)
    return sizes.digest(), times.digest()


def pick_csvs(names: Iterable[str], root: Path, remedy: str) -> list[str]:
    """The CSVs among the `OUTPUT` that was found in `root`; `GatedVAEError` when there is none."""
    csvs = [name for name in names if not name.lower().endswith(DETAILS)]
    if not csvs:
        raise GatedVAEError(f"There is no OpenFace output in {root}.", "No file in it is named *.csv.", remedy)
    return csvs


def printable(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 are spelled out."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
