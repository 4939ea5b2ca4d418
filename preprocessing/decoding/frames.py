"""Whether a file of pictures holds more than one, as its first bytes or its blocks say; pixels are not looked at."""

from __future__ import annotations

_TIFF = {b"II*\0": "little", b"MM\0*": "big"}
_EXTENSION, _IMAGE = 0x21, 0x2C  # first bytes of a GIF's blocks


def told_several(data: bytes) -> str:
    """What there is several of, in words; nothing where there is one picture, or it cannot be told."""
    if data.startswith(b"GIF8"):
        return "an animated GIF" if _images_of_gif(data) > 1 else ""
    if data[:4] in _TIFF:
        return "a TIFF of several pages" if _has_next_page(data) else ""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return "an animated WebP" if data[20] & 2 else ""
    if data.startswith(b"\x89PNG"):
        return "an animated PNG" if b"acTL" in data[: max(data.find(b"IDAT"), 0)] else ""
    return ""


def _images_of_gif(data: bytes) -> int:
    """How many images a GIF has: 2 where there are more."""
    place, found = 13 + _colours(data[10:11]), 0
    while place < len(data) and found < 2:
        if data[place] == _IMAGE:
            found += 1
            place += 11 + _colours(data[place + 9 : place + 10])  # its descriptor and the size of its codes
        elif data[place] == _EXTENSION:
            place += 2
        else:
            break
        while place < len(data) and data[place]:  # blocks, each after its length
            place += 1 + data[place]
        place += 1
    return found


def _colours(flags: bytes) -> int:
    """Bytes of a table of colours."""
    return 3 << (1 + (flags[0] & 7)) if flags and flags[0] & 128 else 0


def _has_next_page(data: bytes) -> bool:
    order = _TIFF[data[:4]]

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], order)  # type: ignore[arg-type]

    page = number(4, 4)
    return number(page + 2 + 12 * number(page, 2), 4) != 0
