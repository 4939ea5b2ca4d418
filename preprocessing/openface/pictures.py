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

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.listing import ALIGNED, UNREADABLE, list_files

WHOLE_IMAGE = -1  # frame number of a face in a single image

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


def given_input(details: str) -> bytes | None:
    """Input that ``<stem>_of_details.txt`` names; None where the file is missing or names none.

    Read here and not by `read_details`, since every image has such a file and this one line is all that is needed.
    """
    try:
        handle = os.open(details, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = b"\n" + os.read(handle, 1 << 14)
    except OSError:
        return None
    finally:
        os.close(handle)
    return text.partition(b"\nInput:")[2].partition(b"\n")[0].strip() or None


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
    listed = sorted(list_files(root, SUFFIXES, remedy))
    pictures = WholePictures(root, {name: size for name, size in listed if size != UNREADABLE})
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
