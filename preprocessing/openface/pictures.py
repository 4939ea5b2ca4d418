"""Which picture belongs to which face: by the paths that OpenFace wrote down, never by order of listing.

Aligned faces lie in ``<stem>_aligned``; whole pictures are found by the path of OpenFace's input, from its last part
backwards as far as it takes, since folders are moved. What is found lies in the folders given, whatever a path says.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import NamedTuple

from gated_vae.preprocessing.errors import GatedVAEError, naming, raise_trouble
from gated_vae.preprocessing.files import opened
from gated_vae.preprocessing.openface.listing import (
    ALIGNED,
    CSV,
    UNREADABLE,
    Stamp,
    ask,
    list_files,
    printable,
    stamp_of,
)

WHOLE_IMAGE = -1  # frame number of a face in a single image
DETAILS_BYTES = 1 << 14  # of a file of details at most; OpenFace writes a dozen lines

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")  # what OpenFace reads from a folder of images, in lower case only

# face_det_000000.bmp (FaceLandmarkImg), frame_det_00_000001.bmp (2.x, face_id first) or frame_det_000001.bmp (1.x).
_ALIGNED = re.compile(r"(?:face_det_(\d{1,9})|frame_det_(?:(\d{1,9})_)?(\d{1,9}))\.(?:bmp|jpe?g|png)", re.IGNORECASE)

_SUFFIX = re.compile(r"\.(?:bmp|jpe?g|png|avi|m4v|mkv|mov|mp4|mpe?g|webm|wmv)$", re.IGNORECASE)

Parts = tuple[str, ...]


def list_aligned(root: str, csv: str) -> list[tuple[str, Stamp]]:
    """Path in `root` and stamp of each file in one CSV's folder of aligned faces, sorted."""
    folder, found = csv[: -len(CSV)] + ALIGNED, []
    try:
        with naming(f"{root}/{folder}"), os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if ask(entry.is_file):
                    found.append((f"{folder}/{entry.name}", stamp_of(entry.stat())))
    except OSError as error:
        raise_trouble(error, errno.EIO)
    return sorted(found)


def aligned_faces(root: str, csv: str) -> dict[tuple[int, int], str]:
    """Paths in `root` of one CSV's aligned faces by (frame, face); the frame is `WHOLE_IMAGE` for FaceLandmarkImg.

    Where one face was written in several formats, the newest goes before the others; of the same age, bmp before jpg and
    that before png.
    """
    found = {}
    oldest_first = sorted(list_aligned(root, csv), key=lambda file: (-file[1].time, file[0]))[::-1]
    for path, _ in oldest_first:
        if match := _ALIGNED.fullmatch(path.rpartition("/")[2]):
            face, face_id, frame = match.groups()
            found[(WHOLE_IMAGE, int(face)) if face else (int(frame), int(face_id or 0))] = path
    return found


class Details(NamedTuple):
    """What ``<stem>_of_details.txt`` says; None where it does not. An image without a face has no `csv`."""

    input: str | None  # the path as OpenFace knew it, as whole as it stands there
    csv: str | None


def read_details(path: str) -> Details:
    """Read ``<stem>_of_details.txt``, in which OpenFace names its input and output.

    Names that are not UTF-8 (written under a code page of Windows) count as not there. `OSError` when the file cannot be read.
    """
    with opened(path) as handle:
        text = b"\n" + os.read(handle, DETAILS_BYTES)
    full, given, csv = (_value(text, key) for key in (b"Input full path", b"Input", b"Output csv"))
    return Details(full or given, csv)


def _value(text: bytes, key: bytes) -> str | None:
    value = text.partition(b"\n" + key + b":")[2].partition(b"\n")[0].strip()
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None


def base_name(path: str) -> str:
    """Last part of a path that OpenFace wrote on Linux or Windows."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def compose(text: str) -> str:
    """The one spelling (NFC) of accents, which macOS takes apart in the names of files."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def own_parts(path: str) -> Parts:
    """Folders and name in a path that was listed here."""
    return tuple(filter(None, compose(path).split("/")))


def path_parts(path: str) -> Parts:
    """Folders and name in a path written on any system, without dots."""
    parts: list[str] = []
    for part in compose(path).replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def is_picture(path: str) -> bool:
    """Whether this is the name of a picture."""
    return path.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A name without the suffix of a picture or a video."""
    return _SUFFIX.sub("", name)


def shared_end(first: Sequence[str], second: Sequence[str]) -> int:
    """How many last parts two paths have in common."""
    return sum(1 for _ in takewhile(bool, map(eq, reversed(first), reversed(second))))


class WholePictures:
    """The pictures of the folder `root` and the folders in it; `GatedVAEError` when it has none or cannot be listed.

    `openface` is where the CSVs lie: OpenFace leaves copies of pictures beside them, with the landmarks drawn over. Both are
    absolute paths.
    """

    def __init__(self, root: Path, openface: Path) -> None:
        remedy = f"Give the folder of the pictures ({', '.join(SUFFIXES)}) that OpenFace was run on."
        files = list_files(root, SUFFIXES, remedy)
        self.root = root
        self.files = {name: stamp for name, stamp in files.items() if stamp != UNREADABLE}  # by path in `root`, sorted
        if not self.files:
            raise GatedVAEError(f"There are no pictures in {root}.", "", remedy)
        self._root, self._openface = own_parts(os.fspath(root)), own_parts(os.fspath(openface))
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_folder: dict[str, list[str]] = defaultdict(list)
        for path in self.files:
            folder, _, name = path.rpartition("/")
            composed = compose(name)
            self._by_name[composed].append(path)
            self._by_stem[stem(composed)].append(path)
            if name.endswith(SUFFIXES):  # FeatureExtraction passes over `.JPG`
                self._by_folder[folder].append(path)
        self._folders: dict[str, list[str]] = defaultdict(list)
        for folder in self._by_folder:
            self._folders[(self._root + own_parts(folder))[-1]].append(folder)

    def find(self, csv: str, given: str | None, *, sole: bool = True) -> str:
        """Path in `root` of the picture that a CSV was made of; `LookupError` says why there is none, or no single one.

        It is named as the input that the details name, where they do (`given`), or the only one of that stem; else it has the
        CSV's stem. Unless no other CSV was made of a picture with this name (`sole`), the folder must fit, too.
        """
        wanted = path_parts(given or "")
        name = wanted[-1] if wanted else own_parts(csv)[-1][: -len(CSV)]
        found = (self._by_name.get(name) if wanted else None) or self._by_stem.get(stem(name) if wanted else name, [])
        if not found:
            raise LookupError(f"no picture is named {printable(name)}{'' if wanted else '.*'}")
        beside = self._openface + own_parts(csv)[:-1]
        return self._nearest(found, csv, wanted[:-1], sole, beside)

    def frames(self, csv: str, given: str | None) -> list[str]:
        """Paths in `root` of the pictures that FeatureExtraction counted, or that a video was taken apart into, in order.

        Its folder has the name of the input, without the suffix of a video, or that of the CSV where no details tell.
        `LookupError` says why there is no such folder, or no single one.
        """
        wanted = path_parts(given or "") or own_parts(csv[: -len(CSV)])[-1:]
        found = self._folders.get(wanted[-1]) or self._folders.get(stem(wanted[-1]), [])
        if not found:
            raise LookupError(f"no folder of pictures is named {printable(wanted[-1])}")
        return sorted(self._by_folder[self._nearest(found, csv, wanted[:-1])], key=os.fsencode)

    def _nearest(
        self, found: list[str], csv: str, wanted: Parts, sole: bool = True, beside: Parts | None = None
    ) -> str:
        """The one of several paths that lies in the folders `wanted`; else not `beside` the CSV; else laid out as the CSVs are."""
        layout = own_parts(csv)[:-1]
        ranks = {}
        for path in found:
            inner = own_parts(path)[:-1]
            folder = (self._root + own_parts(path))[:-1]
            fits, alike, copy = shared_end(folder, wanted), shared_end(inner, layout), folder == beside
            elsewhere = bool(inner and wanted) and not fits
            if not (elsewhere and (copy or not (sole or alike))):
                ranks[path] = fits, not copy, alike
        if not ranks:
            raise LookupError(f"{printable(found[0])} has its name, but lies in another folder than its input")
        best = [path for path in ranks if ranks[path] == max(ranks.values())]
        if len(best) > 1:
            raise LookupError(f"{printable(best[0])} and {printable(best[1])} may both be it")
        return best[0]


def names_of_several(inputs: Iterable[tuple[str, str | None]]) -> set[Parts]:
    """Names of pictures that several inputs have, each given with its CSV: of these `WholePictures.find` must tell folders."""
    folders = defaultdict(set)
    for csv, given in inputs:
        parts = path_parts(given or "")
        folders[parts[-1:]].add(parts[:-1] or own_parts(csv)[:-1])
    return {name for name, found in folders.items() if len(found) > 1}
