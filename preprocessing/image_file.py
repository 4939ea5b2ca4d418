"""``images.npy`` while it is made: every picture has its place, which tasks fill in any order, several at a time.

So pixels are written once and lie on disk once. A picture that fails leaves a gap, which is closed at the end.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.files import atomic_path, damaged, make_room, write_at

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Region:
    """Neighbouring places in the file `path`, of pictures of `size` x `size`: `count` from number `start` on."""

    path: str
    size: int
    start: int
    count: int

    @property
    def stop(self) -> int:
        """The number after its last picture's."""
        return self.start + self.count

    @property
    def offset(self) -> int:
        """Where it begins in the file."""
        return HEADER_BYTES + self.start * self.size**2

    def write(self, pixels: Pixels) -> int:
        """Fill it, zeros for what failed; return the checksum."""
        write_at(Path(self.path), self.offset, pixels.data)
        return zlib.crc32(pixels.data)

    def read(self, file: BinaryIO) -> tuple[bytes, int]:
        """The pixels, fewer where the file ends before, and their checksum."""
        file.seek(self.offset)
        pixels = file.read(self.count * self.size**2)
        return pixels, zlib.crc32(pixels)


class Filled(NamedTuple):
    """A region whose pictures have been decoded."""

    region: Region
    checksum: int
    failed: list[tuple[int, str]]  # place in the region, what is wrong with the picture


def cut_regions(path: str, size: int, count: int, most: int) -> list[Region]:
    """Cut the places of `count` pictures into regions of `most`; the last may be smaller."""
    return [Region(path, size, start, min(most, count - start)) for start in range(0, count, most)]


def write_images(path: Path, blocks: Iterable[Pixels], count: int, size: int) -> None:
    """Write blocks of pixels, uint8 (n, size, size), as one npy file of (count, size, size).

    By plain writes: pages of a mapped file would count as resident memory.
    """
    with atomic_path(path) as partial_path, partial_path.open("wb") as file:
        file.write(_header(count, size))
        for block in blocks:
            file.write(block.data)


def make_images(path: Path, count: int, size: int) -> None:
    """Make room for so many pictures; what an earlier run has filled stays."""
    make_room(path, HEADER_BYTES + count * size**2)


def finish_images(path: Path, filled: Sequence[Filled], size: int) -> str:
    """Write the header and close the gaps; return the `file_digest`.

    Interrupted, it leaves regions that do not fit their checksums.

    Raises
    ------
    GatedVAEError
        When a region does not hold what was written into it.
    """
    header = _header(sum(one.region.count - len(one.failed) for one in filled), size)
    hasher, end = hashlib.sha256(header), len(header)
    write_at(path, 0, header)
    for one, pixels in zip(filled, read_ahead(_taken(path, filled)), strict=True):
        hasher.update(pixels)
        if one.failed or end != one.region.offset:  # a gap lies in it or before it
            write_at(path, end, pixels)
        end += len(pixels)
    make_room(path, end)
    return f"sha256:{hasher.hexdigest()}"


def _taken(path: Path, filled: Sequence[Filled]) -> Iterator[bytes]:
    """Pixels of each region without those of pictures that failed."""
    with path.open("rb") as file:
        for region, expected, failed in filled:
            pixels, checksum = region.read(file)
            if checksum != expected:
                raise damaged(path)
            if failed:
                squares = np.frombuffer(pixels, np.uint8).reshape(region.count, -1)
                pixels = np.delete(squares, [place for place, _ in failed], axis=0).tobytes()
            yield pixels


def _header(count: int, size: int) -> bytes:
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
    np.lib.format.write_array_header_1_0(header, shape)
    return header.getvalue()


HEADER_BYTES = len(_header(0, 1))  # 128 for any number of pictures of any size: numpy leaves room for it to grow
