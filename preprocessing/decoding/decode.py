"""Pixels of pictures that are whole: OpenCV takes damaged ones, too, and refuses some that every viewer shows.

JPEG has no checksums. Damage shows in that the data end before the picture or after it, which libjpeg tells, or in zeros that
cannot be. BMP has nothing of the kind, and zeros in it are black pixels.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np

from gated_vae.preprocessing.decoding.complaints import overhear
from gated_vae.preprocessing.decoding.fit import Pixels
from gated_vae.preprocessing.decoding.frames import told_several

_KINDS = {b"\xff\xd8": "JPEG", b"\x89P": "PNG", b"BM": "BMP"}  # by their first two bytes
_JPEG_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\0\xff]")
_PROGRESSIVE, _TABLES, _RESTARTS = 0xC2, 0xC4, range(0xD0, 0xD8)  # markers of JPEG
_HOLE = bytes(32)  # Huffman codes of pixels hardly ever make so many zeros
_TEXT = string.printable.encode()
_HOLES_TRIED = 8  # each by decoding once more


class PictureError(ValueError):
    """The file is there, but no picture can be made of it; `reason` is a word for why."""

    reason = "unreadable_picture"


class SeveralError(PictureError):
    """The file holds several pictures: it is animated or has pages, and nothing says which is meant."""

    reason = "several_pictures"


def decode(data: bytes, flags: int) -> Pixels:
    """Decode a picture file, whatever it is called, with OpenCV's flags (``cv2.IMREAD_...``).

    A JPEG that lacks only its end marker is whole, and what comes after the end of a picture does not matter.

    Raises
    ------
    PictureError
        When it is no picture, damaged or cut short, with the reason in words; `SeveralError` when it is several.
    """
    kind = _KINDS.get(data[:2], "")
    if kind not in ("JPEG", "BMP") and (several := told_several(data)):
        raise SeveralError(several)
    damage = ""
    for candidate in _candidates(data, kind):
        pixels, told = _attempt(candidate, flags)
        if pixels is not None and not told:
            if kind != "JPEG" or not _has_hole(candidate, flags):
                return pixels
            told = ": a hole of zeros"
        damage = damage or told
    raise PictureError(_in_words(data, kind, damage))


def _candidates(data: bytes, kind: str) -> Iterator[bytes]:
    """The file, a JPEG with the end that it may lack; then without zeros that may fill it up before that."""
    if kind == "JPEG":
        yield data if data.endswith(_JPEG_END) else data + _JPEG_END
        yield data.removesuffix(_JPEG_END).rstrip(b"\0") + _JPEG_END
    elif data:
        yield data


def _attempt(data: bytes, flags: int) -> tuple[Pixels | None, str]:
    """Pixels, or None, and what was told of damage to them."""
    call: Callable[[], Any] = partial(cv2.imdecode, np.frombuffer(data, np.uint8), flags)
    try:
        return (call(), "") if data.startswith(b"BM") else overhear(call)  # of BMP nothing is told
    except cv2.error as error:
        why = error.err or str(error)
        why = f"more than {1 << 26} pixels" if "CV_IO_MAX_IMAGE" in why else f"OpenCV cannot decode it: {why}"
        raise PictureError(why) from None


def _has_hole(jpeg: bytes, flags: int) -> bool:
    """Whether there are zeros that are not the picture's.

    They may be in a progressive JPEG, or where the first code of each AC table ends a block: long runs of flat blocks. Then they
    are too many if the picture is complete without the last byte of its codes.
    """
    if _HOLE not in jpeg:
        return False
    holes, flat, progressive = [], True, False
    for marker, header, codes in _segments(jpeg):
        progressive |= marker == _PROGRESSIVE
        flat &= marker != _TABLES or not any(_first_values(header))
        if _HOLE in jpeg[codes]:
            holes.append(codes.stop)
    may_be = flat or progressive
    return any(not may_be or _is_complete(jpeg[: stop - 1] + jpeg[stop:], flags) for stop in holes[:_HOLES_TRIED])


def _is_complete(data: bytes, flags: int) -> bool:
    pixels, told = _attempt(data, flags)
    return pixels is not None and not told


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes, slice]]:
    """Marker and header of each segment, and where Huffman codes lie after it, up to the end marker."""
    found = _MARKER.search(jpeg, 2)
    while found and found[0] != _JPEG_END:
        marker, start = found[0][1], found.end()
        stop = start if marker in _RESTARTS else start + int.from_bytes(jpeg[start : start + 2], "big")
        found = _MARKER.search(jpeg, stop)
        yield marker, jpeg[start + 2 : stop], slice(stop, found.start() if found else len(jpeg))


def _first_values(tables: bytes) -> Iterator[int]:
    """What the first code of each AC table stands for: 0 is the end of a block."""
    while len(tables) > 17:
        if tables[0] >> 4:
            yield tables[17]
        tables = tables[17 + sum(tables[1:17]) :]


def _in_words(data: bytes, kind: str, damage: str) -> str:
    if not data.strip(b"\0"):
        return "nothing but zeros" if data else "empty file"
    if not kind:
        is_text = not data[:64].strip(_TEXT)
        return "text: an error page, or what Git LFS leaves" if is_text else "not a picture that OpenCV can decode"
    told = damage.strip().rpartition("\n")[2].partition(": ")[2]  # after "libpng error" or "Corrupt JPEG data"
    return (
        f"damaged {kind}: {told}" if told else f"{kind} that OpenCV cannot decode: damaged, cut short or of a rare kind"
    )
