"""`images.npy` while it is made: every image has its place, which tasks fill in any order, several at a time.

So pixels are written once and lie on disk once. An image that fails leaves a gap, which is closed at the end.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.files import damaged, make_room, open_binary, read_sealed, write_at, write_sealed

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, ...]  # of one image
Failures = Sequence[tuple[int, str, str]]  # place of an image among its region's, reason as a word, particulars


@dataclass(frozen=True)
class Region:
    """Neighbouring places in the file `path`: of `count` images of `shape`, from number `start` on.

    Tasks fill it anywhere. A small work file beside the file's folder then says so, with the checksum of its pixels. Neither is
    synced, as most never need to reach the disk: whoever goes on compares them before the region counts as filled.
    """

    path: str
    shape: Shape
    start: int
    count: int

    @property
    def stop(self) -> int:
        """The number after its last image's."""
        return self.start + self.count

    @property
    def offset(self) -> int:
        """Where it begins in the file."""
        return HEADER_BYTES + self.start * math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its pixels."""
        return self.count * math.prod(self.shape)

    def is_filled(self) -> bool:
        """Whether it has been filled, in this run or an earlier one, and its pixels are there."""
        note = self._find_note()
        return note is not None and zlib.crc32(self._read()) == note.checksum

    def write(self, pixels: Pixels, failed: Failures = ()) -> None:
        """Fill it with pixels uint8 (count, *shape), contiguous, of which those of images that failed do not matter."""
        write_at(Path(self.path), self.offset, pixels.data)
        write_sealed(self._work_file, json.dumps([zlib.crc32(pixels.data), failed]).encode())

    def failed(self) -> Failures:
        """Which of its images failed, and why."""
        return self._note().failed

    def taken(self) -> bytes:
        """Its pixels but for those of images that failed; `GatedVAEError` when they are not those that were written."""
        pixels, note = self._read(), self._note()
        if zlib.crc32(pixels) != note.checksum:
            raise damaged(Path(self.path))
        if not note.failed:
            return pixels
        images = np.frombuffer(pixels, np.uint8).reshape(self.count, -1)
        return np.delete(images, [place for place, _, _ in note.failed], axis=0).tobytes()

    @property
    def _work_file(self) -> Path:
        """Its name fits no region cut in another way."""
        return Path(self.path).parents[1] / f"pixels-{self.start:08d}-{self.stop:08d}"

    def _note(self) -> _Note:
        note = self._find_note()
        if note is None:
            raise damaged(self._work_file)
        return note

    def _find_note(self) -> _Note | None:
        data = read_sealed(self._work_file)
        return None if data is None else _Note(*json.loads(bytes(data)))

    def _read(self) -> bytes:
        with open_binary(Path(self.path)) as file:
            file.seek(self.offset)
            return file.read(self.size)


class _Note(NamedTuple):
    """What lies in the work file of a region that has been filled."""

    checksum: int
    failed: Failures


def make_images(path: Path, shape: Shape, count: int, each: int) -> list[Region]:
    """Make room for `count` images, in regions of `each` (the last may be smaller); what an earlier run has filled stays."""
    make_room(path, HEADER_BYTES + count * math.prod(shape))
    return [Region(str(path), shape, start, min(each, count - start)) for start in range(0, count, each)]


def finish_images(path: Path, shape: Shape, count: int, regions: Sequence[Region]) -> str:
    """Write the header and close the gaps, which leaves `count` images; return the `file_digest`.

    Interrupted, it leaves regions that do not fit their checksums. `GatedVAEError` when a region does not hold what was written
    into it.
    """
    header = _header((count, *shape))
    hasher, end = hashlib.sha256(header), len(header)
    write_at(path, 0, header)
    for region, pixels in zip(regions, read_ahead(map(Region.taken, regions)), strict=True):
        hasher.update(pixels)
        if end != region.offset or len(pixels) < region.size:  # a gap lies before it or in it
            write_at(path, end, pixels)
        end += len(pixels)
    make_room(path, end)
    return f"sha256:{hasher.hexdigest()}"


def _header(shape: Shape) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


HEADER_BYTES = len(_header((0, 1, 1)))  # 128 for any number of images of any size: numpy leaves room for it to grow
