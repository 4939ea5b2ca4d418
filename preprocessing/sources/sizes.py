"""How large the images of a store are, as options say it."""

from __future__ import annotations

from gated_vae.preprocessing.errors import GatedVAEError, UsageError

MOST = 4096  # pixels of a side

Size = tuple[int, int]  # height and width in pixels


def parse_size(text: str) -> Size:
    """Read ``64`` or ``48x64``, height before width; `UsageError` for what is neither."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise UsageError(f"--size {text} cannot be read.", "", "Write --size 64, or --size 48x64 (height x width).")
    return int(sides[0]), int(sides[-1])


def size_of(size: Size | int) -> Size:
    """Height and width; `GatedVAEError` for a size that no store has."""
    height, width = (size, size) if isinstance(size, int) else size
    if not all(1 <= side <= MOST for side in (height, width)):
        raise GatedVAEError(f"size is {size}.", "", f"It must be 1 to {MOST} pixels.")
    return height, width


def as_told(size: Size) -> int | str:
    """What a manifest says of a size: one side of a square."""
    return size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"


def shape_of(size: Size, *, colour: bool) -> tuple[int, ...]:
    """Shape of one image: (H, W), or (H, W, 3) in colour."""
    return (*size, 3) if colour else size
