"""Map: codes of many samples on a plane, coloured by a label."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool, LassoSelectTool
from bokeh.palettes import Viridis256

from gated_vae.models.figures.sheet import MUTED, PALETTE
from gated_vae.pipelines.evaluation.labels import Kinds, random_ids
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import (
    LAYOUTS,
    MOST_CLASSES,
    classes_of,
    label_columns,
    labels_of,
    numbers_of,
    plane,
)
from gated_vae.pipelines.explore.tabs.plots import plain_plot
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

COUNTS = (2_000, 10_000, 50_000)  # samples that can be on it
SHOWN = 48  # of a lasso
MEANS = 12
_GOES_TO = {"encode": "Latent", "A": "Swap, as A", "B": "Swap, as B"}
_COLOURS = (*PALETTE, "#F0E442", "#999999")
_LAYOUT = """<div id="map-controls"></div><div id="map-note"></div>[map-plot]<div id="map-legend"></div><div class="two">
<div id="map-sheet"></div><div id="map-means"></div></div>"""


class MapTab:
    """The samples on the map, and how they are laid out and coloured."""

    name, title, layout = "map", "Map", _LAYOUT

    def __init__(self, page: Page) -> None:
        self.page, self.subject = page, page.subject
        self.asks = {"map": self._set}
        self._chosen: dict[str, Any] = {}
        self._ids = np.empty(0, np.int64)
        self._codes: dict[int, Any] = {}
        self._laid: tuple[object, ...] = ()
        self._source = ColumnDataSource({name: [] for name in ("x", "y", "id", "colour", "label")})
        self._source.selected.on_change("indices", lambda _attribute, _old, new: page.guarded(lambda: self._lasso(new)))
        self.plots = (self._plot(),)

    def _plot(self) -> Any:
        tools = "pan,wheel_zoom,box_zoom,reset"
        plot = plain_plot("map-plot", 480, tools=tools, toolbar_location="above")
        dots = plot.scatter(
            "x",
            "y",
            source=self._source,
            size=6,
            fill_color="colour",
            line_color=None,
            fill_alpha=0.75,
            nonselection_fill_alpha=0.15,
        )
        picture = f'<img src="picture/@id.png?v={self.subject.version}" width=96 height=96 alt=""><div>sample @id<br>@label</div>'
        lasso = LassoSelectTool(continuous=False)  # of 50,000 samples, each move would take a second
        plot.add_tools(HoverTool(renderers=[dots], tooltips=picture, attachment="horizontal"), lasso)
        plot.toolbar.active_drag = lasso
        plot.on_event(Tap, lambda event: self.page.guarded(lambda: self._click(event.x, event.y)))
        return plot

    def open(self) -> None:
        """Lay out the first partition, coloured by the first column that it shares."""
        if self._chosen:
            return
        run, store = self.subject.its_run(), self.subject.its_store()
        first = next(iter(run.partitions))
        columns = label_columns(store)
        shared = [*(store.shared(first) if first in store.partitions else ()), *columns]
        counts = sorted({min(count, len(store)) for count in COUNTS})
        self._columns, self._counts = columns, {str(count): f"{count:,}" for count in counts}
        self._kinds = Kinds.of(store)
        self._chosen = {
            "partition": first,
            "layout": LAYOUTS[0],
            "column": shared[0],
            "count": str(counts[0]),
            "goes": "encode",
        }
        self._show_controls()
        self._fill()

    def _show_controls(self) -> None:
        chosen = self._chosen
        choices: dict[str, tuple[str, Any]] = {
            "partition": ("Partition", [*self.subject.its_run().partitions]),
            "layout": ("Plane", LAYOUTS),
            "column": ("Colour", self._columns),
            "count": ("Samples", self._counts),
            "goes": ("A click goes to", _GOES_TO),
        }
        fields = [parts.select(title, "map", told, chosen[key], key=key) for key, (title, told) in choices.items()]
        self.page.show(map_controls=parts.row(*fields))

    def _set(self, message: dict[str, Any]) -> None:
        """Choose a partition, a plane, a label, how many, or where a click goes."""
        key, value = message.get("key"), message.get("value")
        allowed: dict[Any, Any] = {"partition": self.subject.its_run().partitions, "layout": LAYOUTS}
        allowed |= {"column": self._columns, "count": self._counts, "goes": _GOES_TO}
        if value not in allowed.get(key, ()):
            raise GatedVAEError(f"There is no {key} {value}.", "", "Choose one of the list.")
        self._chosen[str(key)] = value
        self._fill()

    def _fill(self) -> None:
        """Encode what is not yet, beside the page, and lay it out."""
        count = int(self._chosen["count"])
        key = (self._chosen["count"], self._chosen["partition"], self._chosen["layout"])
        if key == self._laid:
            self._colour()
            return
        self.page.show(map_note=parts.note_of(f"{count:,} samples are being encoded and laid out ..."))
        self.page.later(partial(self._lay_out, *key), partial(self._laid_out, key))

    def _lay_out(self, count: str, partition: str, layout: str) -> Any:
        run, store = self.subject.its_run(), self.subject.its_store()
        if int(count) not in self._codes:
            ids = random_ids(int(count), len(store), 0)
            self._codes[int(count)] = ids, run.encode(store.images, ids).mean
        ids, codes = self._codes[int(count)]
        return ids, plane(codes[:, run.partitions[partition]], layout)

    def _laid_out(self, key: tuple[str, str, str], found: Any) -> None:
        if key != (self._chosen["count"], self._chosen["partition"], self._chosen["layout"]):
            return  # something else was chosen meanwhile
        self._laid, (self._ids, points) = key, found
        part = self.subject.its_run().partitions[key[1]]
        size = part.stop - part.start
        names = [f"z{part.start}", f"z{part.start + 1}"] if size <= 2 else [f"{key[2]} 1", f"{key[2]} 2"]
        for axis, axis_name in zip((*self.plots[0].xaxis, *self.plots[0].yaxis), names, strict=True):
            axis.axis_label = f"{key[1]} {axis_name}"
        self._source.selected.indices = []
        self._source.data = {"x": points[:, 0], "y": points[:, 1], "id": self._ids.astype(np.int32), **self._paint()}
        self._tell()

    def _colour(self) -> None:
        self._source.data = {**self._source.data, **self._paint()}
        self._tell()

    def _paint(self) -> dict[str, Any]:
        """The colour and the label of every point; the legend is kept to be shown."""
        column = self._chosen["column"]
        values = labels_of(self.subject.its_store(), column, self._ids)
        numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if numbers and column not in self._kinds.classes and values.nunique() > MOST_CLASSES:
            low, high = np.nanquantile(values, [0.01, 0.99])
            share = ((values - low) / ((high - low) or 1)).clip(0, 1).fillna(0)
            self._legend = f'<span>{low:.3g}</span><i class="ramp"></i><span>{high:.3g}</span>'
            colours = [Viridis256[int(255 * it)] for it in share]
            return {"colour": colours, "label": [parts.harmless(f"{column} {value:.4g}") for value in values]}
        classes, names = classes_of(values)
        colour = dict(zip(names, _COLOURS, strict=False))
        chips = [(name, colour[name]) for name in names] + [("other", MUTED)] * ("other" in classes)
        self._legend = " ".join(
            f'<span><i class="dot" style="--accent: {it}"></i>{escape(name)}</span>' for name, it in chips
        )
        return {
            "colour": [colour.get(it, MUTED) for it in classes],
            "label": [parts.harmless(f"{column} {it}") for it in values],
        }

    def _tell(self) -> None:
        all_of = len(self.subject.its_store())
        some = (
            f"{len(self._ids):,} of {all_of:,} samples, at random."
            if len(self._ids) < all_of
            else f"All {all_of:,} samples."
        )
        hint = " Hover to see one, draw around some to compare them, click one to send it on."
        self.page.show(
            map_note=parts.note_of(some + hint),
            map_legend=f'<div class="row legend">{escape(self._chosen["column"])} {self._legend}</div>',
        )

    def _click(self, x: float, y: float) -> None:
        """Send the nearest sample on, if it is near."""
        points = np.stack([self._source.data["x"], self._source.data["y"]], axis=1)
        if not len(points):
            return
        span = np.ptp(points, axis=0)
        away = np.abs((points - [x, y]) / np.where(span > 0, span, 1)).max(axis=1)
        sample = int(self._ids[away.argmin()])
        if away.min() > 0.03:
            return
        goes = self._chosen["goes"]
        verb = {"do": "encode"} if goes == "encode" else {"do": "side", "side": goes}
        self.page.ask({**verb, "sample": sample, "from": "map"})

    def _lasso(self, indices: list[int]) -> None:
        """Show what was drawn around: some of the pictures, and how its labels' means differ from everybody's."""
        if not indices or max(indices) >= len(self._ids):
            self.page.show(map_sheet="", map_means="")
            return
        store, chosen = self.subject.its_store(), np.asarray(indices)
        ids = self._ids[chosen]
        shown = ids[np.linspace(0, len(ids) - 1, min(SHOWN, len(ids))).round().astype(int)]
        sheet = parts.sheet(shown, self.subject.version, "encode", more={"from": "map"})
        table = numbers_of(store, self._kinds.numbers, self._ids)
        own, whole, std = table.iloc[chosen].mean(), table.mean(), table.std()
        order = ((own - whole) / std.where(std > 0)).abs().sort_values(ascending=False).index[:MEANS]
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{own[name]:.3g}</td><td>{whole[name]:.3g}</td></tr>" for name in order
        )
        head = "<tr><th></th><th>drawn around</th><th>on the map</th></tr>"
        means = f'<h2>Means of its labels</h2><div class="wide"><table>{head}{rows}</table></div>' if rows else ""
        self.page.show(map_sheet=f"<h2>{len(ids):,} samples drawn around</h2>{sheet}", map_means=means)
