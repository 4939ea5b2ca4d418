"""Which picture belongs to which face: by the names that OpenFace gave them, never by order of listing.

Aligned faces lie in ``<stem>_aligned``; whole pictures are found by the name of OpenFace's input. Links are not
followed, so nothing outside the folders given is ever read.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import opened
from gated_vae.preprocessing.openface.listing import ALIGNED, UNREADABLE, list_sizes

WHOLE_IMAGE = -1  # frame number of a face in a single image
DETAILS_BYTES = 1 << 14  # of a file of details at most; OpenFace writes a dozen lines

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")  # what OpenFace reads from a folder of images

# face_det_000000.bmp (FaceLandmarkImg), frame_det_00_000001.bmp (2.x, face_id first) or frame_det_000001.bmp (1.x).
_ALIGNED = re.compile(r"(?:face_det_(\d{1,9})|frame_det_(?:(\d{1,9})_)?(\d{1,9}))\.(?:bmp|jpe?g|png)", re.IGNORECASE)


def aligned_faces(csv: str) -> dict[tuple[int, int], str]:
    """Paths of the aligned faces of one CSV by (frame, face); the frame is `WHOLE_IMAGE` for FaceLandmarkImg.

    Where one face was written in several formats, bmp goes before jpg and that before png.
    """
    found: dict[tuple[int, int], str] = {}
    for entry in sorted(_entries(csv[:-4] + ALIGNED), key=attrgetter("name"), reverse=True):
        match = _ALIGNED.fullmatch(entry.name)
        if match and entry.is_file(follow_symlinks=False):
            face, face_id, frame = match.groups()
            found[(WHOLE_IMAGE, int(face)) if face else (int(frame), int(face_id or 0))] = entry.path
    return found


class Details(NamedTuple):
    """What ``<stem>_of_details.txt`` says; None where it does not. An image without a face has no `csv`."""

    input: str | None
    input_full_path: str | None
    aligned_directory: str | None
    csv: str | None


def read_details(path: str | Path) -> Details:
    """Read ``<stem>_of_details.txt``, in which OpenFace names its input and outputs.

    Bytes that are not UTF-8 are kept as Python keeps them in file names (`os.fsdecode`).

    Raises
    ------
    GatedVAEError
        When the file cannot be read. Links are not followed.
    """
    try:
        with opened(os.fspath(path)) as handle:
            text = "\n" + os.fsdecode(os.read(handle, DETAILS_BYTES))
    except OSError as error:
        raise GatedVAEError(f"{path} cannot be read.", str(error), "Run OpenFace on this image again.") from None
    keys = ("Input", "Input full path", "Output aligned directory", "Output csv")
    values = [text.partition(f"\n{key}:")[2].partition("\n")[0].strip() for key in keys]
    return Details(*(value or None for value in values))


def base_name(path: str) -> str:
    """Last part of a path that OpenFace wrote on Linux or Windows."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


@dataclass
class WholePictures:
    """The pictures of a folder and the folders in it, by name, by stem and by folder."""

    root: Path
    sizes: dict[str, int]  # bytes by relative path, sorted
    by_name: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_stem: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_folder: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def find(self, source: str, given: str | None) -> str:
        """Path in `root` of the picture that the CSV `source` was made of; `given` is the input its details name.

        Raises
        ------
        LookupError
            Saying why there is no such picture, or no single one.
        """
        csv = PurePosixPath(source)
        name = base_name(given) if given else csv.stem
        found = self.by_name.get(name, []) if given else self.by_stem.get(name, [])
        if len(found) > 1:  # the same name in several folders, laid out as the CSVs are
            found = [path for path in found if PurePosixPath(path).parent == csv.parent] or found
        if len(found) > 1:
            raise LookupError(f"{found[0]} and {found[1]} may both be it")
        if not found:
            raise LookupError(f"no picture is named {name if given else name + '.*'}")
        return found[0]

    def find_frame(self, source: str, given: str | None, place: int) -> str:
        """Path in `root` of a frame: the picture itself if the input was one, else number `place` (from 0) of its folder.

        Raises
        ------
        LookupError
            Saying why there is no such picture.
        """
        if not given:
            raise LookupError("no _of_details.txt tells what the frames are of")
        if given.lower().endswith(SUFFIXES):
            return self.find(source, given)
        folders = [folder for folder in self.by_folder if self._folder_name(folder) == base_name(given)]
        if len(folders) != 1:
            raise LookupError(f"{len(folders)} folders of pictures are named {base_name(given)}")
        pictures = self.by_folder[folders[0]]
        if not 0 <= place < len(pictures):
            raise LookupError(f"{base_name(given)} has {len(pictures)} pictures only")
        return pictures[place]

    def _folder_name(self, folder: str) -> str:
        return base_name(folder) or self.root.resolve().name


def index_pictures(root: Path) -> WholePictures:
    """List the pictures in a folder and the folders in it.

    Raises
    ------
    GatedVAEError
        When it cannot be listed or has no picture in it.
    """
    remedy = f"Give the folder of the pictures ({', '.join(SUFFIXES)}) that OpenFace was run on."
    sizes = list_sizes(root, SUFFIXES, remedy)
    pictures = WholePictures(root, {name: size for name, size in sizes.items() if size != UNREADABLE})
    for relative in pictures.sizes:
        path = PurePosixPath(relative)
        pictures.by_name[path.name].append(relative)
        pictures.by_stem[path.stem].append(relative)
        pictures.by_folder[str(path.parent) if path.parent.name else ""].append(relative)
    if not pictures.sizes:
        raise GatedVAEError(f"There are no pictures in {root}.", "", remedy)
    return pictures


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where it is missing, a link, or may not be listed."""
    if os.path.islink(folder):  # noqa: PTH114
        return []
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
