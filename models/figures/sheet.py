"""The surface that figures are drawn on: a matplotlib Figure measured in pixels, tiles of images, one style; and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from PIL import Image  # which matplotlib writes with, too

Pixels = npt.NDArray[np.uint8]

# Blue, vermilion, green, purple, orange, sky: Okabe & Ito (2008).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, MUTED, RULE = "#222222", "#8A8A8A", "#E3E3E3"

DPI = 150  # sheets are laid out in pixels at this resolution, and saved with twice as many
FONT = 8.0  # points
LINE = round(1.5 * FONT * DPI / 72)  # height of a line of text
GAP, PAD, BAR = 3, 12, 7  # between tiles; around blocks; thickness of a partition's bar


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """The colour of each partition, by their order: the same in every picture, report and page."""
    return dict(zip(names, cycle(PALETTE)))


class Sheet:
    """A white figure measured in pixels from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, width), ylim=(height, 0))
        self._axes.axis("off")

    def picture(self, x: float, y: float, pixels: Pixels) -> None:
        """Show pixels (height, width, 3), one for one, with their upper left corner at (x, y)."""
        extent = (x, x + pixels.shape[1], y + pixels.shape[0], y)
        self._axes.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto")

    def box(self, x: float, y: float, width: float, height: float, colour: str, *, alpha: float = 1.0) -> None:
        """Fill a rectangle."""
        self._axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, alpha=alpha, linewidth=0))

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """Write words, centred on (x, y) unless `style` says otherwise."""
        centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": INK, "fontsize": FONT}
        self._axes.text(x, y, _as_it_is(words), **centred | style)

    def band_above(self, x: float, y: float, width: float, name: str, colour: str) -> None:
        """Put a bar whose lower edge is at y, and a name over it, in small letters where it is longer."""
        self.box(x + 1, y - BAR, width - 2, BAR, colour)
        size = FONT * min(1.0, width / max(text_width([name]), 1))
        self.text(x + width / 2, y - BAR - LINE / 2, name, color=colour, weight="bold", fontsize=size)

    def grid(self, x: float, y: float, cell: float, columns: int, rows: int) -> None:
        """Rule lines around square cells."""
        right, bottom = x + cell * columns, y + cell * rows
        self._axes.vlines(x + cell * np.arange(columns + 1), y, bottom, color=RULE, linewidth=0.6)
        self._axes.hlines(y + cell * np.arange(rows + 1), x, right, color=RULE, linewidth=0.6)


# What a figure can be written as, and what of a file's metadata would make it another every time.
FORMATS: dict[str, dict[str, None] | None] = {
    "png": {"Software": None},
    "jpg": None,
    "jpeg": None,
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def render(figure: Figure, form: str, *, dpi: int = 2 * DPI) -> bytes:
    """A figure as the bytes of a file in one of `FORMATS`, the same for the same figure."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": ""}):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=FORMATS[form])
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    return render(figure, "png")


def gif(figures: Sequence[Figure], milliseconds: int = 120) -> bytes:
    """Figures of one size as the bytes of a GIF file that shows one after the other, for ever."""
    pictures = (Image.open(BytesIO(render(figure, "png", dpi=DPI))) for figure in figures)
    first, *others = (picture.convert("RGB").quantize() for picture in pictures)
    buffer = BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return buffer.getvalue()


def coloured(images: npt.ArrayLike, axes: int) -> Pixels:
    """Give images with `axes` axes before theirs as uint8 (..., H, W, 3), whether they are grey or in colour.

    Grey ones are shown as colours, too, since a grey colormap moves some values by one. ValueError unless they are uint8, or
    floating point in 0..1.
    """
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f" or not (np.min(pixels) >= 0 and np.max(pixels) <= 1):
            raise ValueError(f"images must be uint8, or floating point in 0..1, not {pixels.dtype}")
        pixels = np.round(pixels.astype(np.float64) * 255).astype(np.uint8)
    return pixels if pixels.ndim == axes + 3 else np.repeat(pixels[..., None], 3, axis=-1)


def tile(images: Pixels) -> Pixels:
    """Lay images (rows, columns, H, W, 3) side by side with white gaps, small ones enlarged by a whole number."""
    scale = max(1, 96 // max(images.shape[2:4]))
    large = images.repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(large, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = padded.shape
    joined = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return joined[:-GAP, :-GAP]


def text_width(labels: Iterable[str]) -> int:
    """Measure the longest label, set in bold, in pixels."""
    bold = FontProperties(weight="bold", size=FONT)
    widths = [TextPath((0, 0), _as_it_is(label), prop=bold).get_extents().width for label in labels if label]
    return round(max(widths, default=0.0) * DPI / 72)


def _as_it_is(words: str) -> str:
    """Words, which may be somebody else's, so that matplotlib takes no formula and no control character from them."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in words).replace("$", r"\$")
