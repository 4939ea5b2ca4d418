"""Pieces of the page as HTML. Whatever has `data-ask` tells the server of it when it is used; names are escaped."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gated_vae.models.figures.sheet import coloured
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.images import decode_fitted

Pixels = npt.NDArray[np.uint8]
LONG = 80  # characters of a name that has no end


def png(image: npt.NDArray[Any]) -> bytes:
    """An image (H, W[, 3]), uint8 or in 0 .. 1, as a PNG file of its own size; `GatedVAEError` where it is not finite."""
    if not np.isfinite(image).all():
        raise GatedVAEError("The picture is not finite.", "", "Train again: these weights are none.")
    pixels = coloured(image[None], 1)[0]
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1])


def ask(verb: str, **values: Any) -> str:
    """The attribute of an element that asks the server for something, with what it has to know."""
    return f'data-ask="{escape(json.dumps({"do": verb, **values}))}"'


def img(image: npt.NDArray[Any], description: str) -> str:
    """A picture inside the page."""
    data = b64encode(png(image)).decode()
    return f'<img decoding="sync" alt="{escape(description)}" src="data:image/png;base64,{data}">'


def figure(image: npt.NDArray[Any] | None, title: str, *, name: str = "") -> str:
    """A picture with its title under it; an empty frame for None."""
    inside = '<div class="empty">none yet</div>' if image is None else img(image, title)
    return f'<figure data-name="{escape(name)}">{inside}<figcaption>{escape(title)}</figcaption></figure>'


def strip(images: Iterable[npt.NDArray[Any]], titles: Sequence[str], colour: str) -> str:
    """Pictures in a row, each with a title under it."""
    shown = "".join(figure(image, title) for image, title in zip(images, titles, strict=True))
    return f'<div class="strip" style="--accent: {colour}">{shown}</div>'


def button(title: str, verb: str, **values: Any) -> str:
    """A button."""
    return f'<button type="button" {ask(verb, **values)}>{escape(title)}</button>'


def sheet(
    ids: Iterable[int],
    version: str,
    verb: str,
    notes: Mapping[int, str] | None = None,
    **more: Any,
) -> str:
    """Samples as small pictures, each a button that asks for something with `sample` and `more`; a note goes under it."""
    cells = []
    for sample in map(int, ids):
        note = f"<span>{escape(notes[sample])}</span>" if notes else ""
        told = f'alt="sample {sample}" title="sample {sample}" loading="lazy"'
        picture = f'<img {told} src="picture/{sample}.png?v={version}">'
        cells.append(f"<button type=button {ask(verb, sample=sample, **more)}>{picture}{note}</button>")
    return f'<div class="sheet">{"".join(cells)}</div>' if cells else note_of("No sample.")


def select(title: str, verb: str, options: Mapping[str, str] | Sequence[str], chosen: str, **values: Any) -> str:
    """A list to choose from; what is chosen is asked with `value`."""
    named = options if isinstance(options, Mapping) else dict(zip(options, options, strict=True))
    choices = "".join(
        f'<option value="{escape(key)}"{" selected" * (key == chosen)}>{escape(text[:LONG])}</option>'
        for key, text in named.items()
    )
    return f"<label>{escape(title)} <select {ask(verb, **values)}>{choices}</select></label>"


def number(title: str, verb: str, value: int | str, most: int, **values: Any) -> str:
    """A field for a whole number from 0 to `most`; it is asked with `value`."""
    limits = f'type="number" inputmode="numeric" min="0" max="{most}" value="{value}"'
    return f"<label>{escape(title)} <input {limits} {ask(verb, **values)}></label>"


def upload(title: str, verb: str, **values: Any) -> str:
    """A field for a picture of the user's own; its bytes are asked with `value`, in base 64."""
    return f'<label class="file">{escape(title)}<input type="file" accept="image/*" {ask(verb, **values)}></label>'


def row(*parts: str) -> str:
    """Controls side by side, as many as there is room for."""
    return f'<div class="row">{"".join(parts)}</div>'


def note_of(text: str) -> str:
    """A paragraph in a quiet colour."""
    return f'<p class="note">{escape(text)}</p>'


def heading(text: str, colour: str = "") -> str:
    """The title of a part of a tab, with the colour of its partition before it."""
    dot = f'<i class="dot" style="--accent: {colour}"></i>' if colour else ""
    return f"<h2>{dot}{escape(text)}</h2>"


def legend(colours: Mapping[str, str], title: str = "") -> str:
    """What colours mean."""
    dots = " ".join(
        f'<span><i class="dot" style="--accent: {it}"></i>{escape(name[:LONG])}</span>' for name, it in colours.items()
    )
    return f'<div class="row legend">{escape(title[:LONG])} {dots}</div>'


def scale(title: str, low: float, high: float) -> str:
    """What the colours of numbers mean: viridis between two."""
    return f'<div class="row legend">{escape(title[:LONG])} <span>{low:.3g}</span><i class="ramp"></i><span>{high:.3g}</span></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in line) for line in rows)
    return f'<div class="wide"><table><tr>{first}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def bars(rows: Iterable[tuple[str, float, str, str]], most: float | None = None) -> str:
    """Bars beside their names: (name, value, what it says, colour); as long as the value's share of the largest, or of `most`."""
    rows = list(rows)
    full = most or max((value for _, value, _, _ in rows), default=0.0) or 1.0
    lines = [
        f'<tr style="--accent: {colour}"><th scope="row">{escape(name)}</th><td class="bar">'
        f'<i style="width: {100 * min(max(value / full, 0), 1):.1f}%"></i></td><td>{escape(text)}</td></tr>'
        for name, value, text, colour in rows
    ]
    return f'<table class="bars">{"".join(lines)}</table>'


def whole(message: Mapping[str, Any], key: str = "value") -> int:
    """A whole number that the browser sent, as a number or as text; `GatedVAEError` where it is none."""
    try:
        return int(str(message.get(key)))
    except ValueError:
        raise GatedVAEError("That is no whole number.", "", "Give one, from 0.") from None


def sample_of(message: Mapping[str, Any]) -> int:
    """The number of a sample, whose picture was pressed or which was typed."""
    return whole(message, "sample" if "sample" in message else "value")


def real(message: Mapping[str, Any]) -> float:
    """A finite number that the browser sent."""
    value = message.get("value")
    if not isinstance(value, int | float) or not abs(value) < 1e9:  # nor is NaN
        raise GatedVAEError("That is no number.", "", "Move a slider.")
    return float(value)


def uploaded(message: Mapping[str, Any], shape: tuple[int, ...], largest: int) -> Pixels:
    """The picture that the browser sent, as `read_pictures` gives it; `GatedVAEError` where it is none, or too large."""
    name, value = str(message.get("name"))[:200], message.get("value")
    if not isinstance(value, str) or len(value) > largest * 4 // 3 + 4:
        raise GatedVAEError(f"{name} is too large.", f"{largest >> 20} MiB are the most.", "Make it smaller.")
    try:
        return decode_fitted(b64decode(value, validate=True), shape)
    except ValueError as error:
        raise GatedVAEError(f"{name} is no picture.", f"{error}.", "Choose another.") from None


def harmless(text: str) -> str:
    """Text for Bokeh's tooltips, some versions of which take it for HTML: without what begins a tag."""
    return text[:LONG].translate({ord("<"): "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", ord("&"): "+"})
