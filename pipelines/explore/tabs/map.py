"""Map: codes of many samples on a plane, coloured by a label."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool, LassoSelectTool

from gated_vae.models.figures.sheet import MUTED
from gated_vae.pipelines.evaluation.labels import Kinds, random_ids
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import (
    LAYOUTS,
    contrast,
    labels_of,
    nearest,
    numbers_of,
    painted,
    plane,
)
from gated_vae.pipelines.explore.tabs.base import Ask, Tab, plain_plot
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

COUNTS = (2_000, 10_000, 50_000)  # samples that can be on it
SHOWN = 48  # of a lasso
MEANS = 12
NEAR = 0.03  # of the map: a click beyond it means no sample
_GOES_TO = {"encode": "Latent", "A": "Swap, as A", "B": "Swap, as B"}
_LAYOUT = """<div id="map-controls"></div><div id="map-note"></div>[map-plot]<div id="map-legend"></div><div class="two">
<div id="map-sheet"></div><div id="map-means"></div></div>"""


class MapTab(Tab):
    """The samples on the map, and how they are laid out and coloured."""

    name, title, layout = "map", "Map", _LAYOUT

    def __init__(self, page: Page) -> None:
        super().__init__(page)
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
        look = {
            "size": 6,
            "fill_color": "colour",
            "fill_alpha": 0.75,
            "nonselection_fill_alpha": 0.15,
            "line_color": None,
        }
        dots = plot.scatter("x", "y", source=self._source, **look)
        picture = f'<img src="picture/@id.png?v={self.subject.version}" width=96 height=96 alt=""><div>sample @id<br>@label</div>'
        lasso = LassoSelectTool(continuous=False)  # of 50,000 samples, each move would take a second
        plot.add_tools(HoverTool(renderers=[dots], tooltips=picture, attachment="horizontal"), lasso)
        plot.toolbar.active_drag = lasso
        plot.on_event(Tap, lambda event: self.page.guarded(lambda: self._click(event.x, event.y)))
        return plot

    def open(self) -> None:
        """Lay out the first partition, coloured by the first column that it shares."""
        run, store = self.subject.its_run(), self.subject.its_store()
        first = next(iter(run.partitions))
        columns = [name for name in store.columns if name != "sample_id"]
        shared = [*(store.shared(first) if first in store.partitions else ()), *columns, ""]
        counts = sorted({min(count, len(store)) for count in COUNTS})
        self._columns, self._counts = columns, {str(count): f"{count:,}" for count in counts}
        self._kinds = Kinds.of(store)
        self._chosen = {"partition": first, "layout": LAYOUTS[0], "column": shared[0]}
        self._chosen |= {"count": str(counts[0]), "goes": "encode"}
        self._show_controls()
        self._fill()

    def _choices(self) -> dict[Any, tuple[str, Any]]:
        """What can be chosen: its title, and the list."""
        return {
            "partition": ("Partition", [*self.subject.its_run().partitions]),
            "layout": ("Plane", LAYOUTS),
            "column": ("Colour", self._columns or {"": "none"}),
            "count": ("Samples", self._counts),
            "goes": ("A click goes to", _GOES_TO),
        }

    def _show_controls(self) -> None:
        choices, chosen = self._choices().items(), self._chosen
        fields = [parts.select(title, "map", told, chosen[key], key=key) for key, (title, told) in choices]
        self.page.show(map_controls=parts.row(*fields))

    def _ask_map(self, message: Ask) -> None:
        """Choose a partition, a plane, a label, how many, or where a click goes."""
        key, value = message.get("key"), message.get("value")
        if value not in self._choices().get(key, ("", ()))[1]:
            raise GatedVAEError(f"There is no {key} {value}.", "", "Choose one of the list.")
        self._chosen[str(key)] = value
        self._fill()

    def _fill(self) -> None:
        """Encode what is not yet, beside the page, and lay it out."""
        key = self._wanted()
        if key == self._laid:
            self._source.data = {**self._source.data, **self._paint()}
            self._tell()
            return
        self.page.show(map_note=parts.note_of(f"{key[0]:,} samples are being encoded and laid out ..."))
        self.page.later(partial(self._lay_out, *key), partial(self._laid_out, key))

    def _wanted(self) -> tuple[int, str, str]:
        """How many samples are to be laid out, by which partition and how."""
        return int(self._chosen["count"]), self._chosen["partition"], self._chosen["layout"]

    def _lay_out(self, count: int, partition: str, layout: str) -> Any:
        run, store = self.subject.its_run(), self.subject.its_store()
        if count not in self._codes:
            ids = random_ids(count, len(store), 0)
            self._codes[count] = ids, run.encode(store.images, ids, self.page.progress).mean
        ids, codes = self._codes[count]
        return ids, plane(codes[:, run.partitions[partition]], layout)

    def _laid_out(self, key: tuple[int, str, str], found: Any) -> None:
        if key != self._wanted():
            return  # something else was chosen meanwhile
        self._laid, (self._ids, points) = key, found
        _, partition, layout = key
        part = self.subject.its_run().partitions[partition]
        size = part.stop - part.start
        names = [f"z{part.start}", f"z{part.start + 1}"] if size <= 2 else [f"{layout} 1", f"{layout} 2"]
        for axis, axis_name in zip((*self.plots[0].xaxis, *self.plots[0].yaxis), names, strict=True):
            axis.axis_label = f"{partition} {axis_name}"
        self._source.selected.indices = []
        self._source.data = {"x": points[:, 0], "y": points[:, 1], "id": self._ids.astype(np.int32), **self._paint()}
        self._tell()

    def _paint(self) -> dict[str, Any]:
        """The colour and the label of every point; the legend is kept to be shown."""
        column = self._chosen["column"]
        if not column:
            self._legend = ""
            return {"colour": [MUTED] * len(self._ids), "label": [""] * len(self._ids)}
        values = labels_of(self.subject.its_store(), column, self._ids)
        found = painted(values, as_classes=column in self._kinds.classes)
        self._legend = parts.legend(found.classes, column)
        if found.ends is not None:
            self._legend = parts.scale(column, *found.ends)
        texts = (f"{value:.4g}" if isinstance(value, float) else value for value in values)
        return {"colour": found.colours, "label": [parts.harmless(f"{column} {text}") for text in texts]}

    def _tell(self) -> None:
        count, all_of = len(self._ids), len(self.subject.its_store())
        some = f"{count:,} of {all_of:,} samples, at random." if count < all_of else f"All {all_of:,} samples."
        hint = " Hover to see one, draw around some to compare them, click one to send it on."
        self.page.show(map_note=parts.note_of(some + hint), map_legend=self._legend)

    def _click(self, x: float, y: float) -> None:
        """Send the nearest sample on, if it is near."""
        place, away = nearest(np.stack([self._source.data["x"], self._source.data["y"]], axis=1), (x, y))
        if away < NEAR:
            goes = self._chosen["goes"]
            verb = {"do": "encode"} if goes == "encode" else {"do": "side", "side": goes}
            self.page.ask({**verb, "sample": int(self._ids[place]), "elsewhere": True})

    def _lasso(self, indices: list[int]) -> None:
        """Show what was drawn around: some of the pictures, and the labels whose means differ most from everybody's."""
        if not indices or min(indices) < 0 or max(indices) >= len(self._ids):
            self.page.show(map_sheet="", map_means="")
            return
        chosen = np.asarray(indices)
        some = chosen[np.linspace(0, len(chosen) - 1, min(SHOWN, len(chosen))).round().astype(int)]
        sheet = parts.sheet(self._ids[some], self.subject.version, "encode", elsewhere=True)
        found = contrast(numbers_of(self.subject.its_store(), self._kinds.numbers, self._ids), chosen, MEANS)
        rows = [(name, f"{own:.3g}", f"{whole:.3g}") for name, (own, whole) in found.items()]
        means = parts.heading("Means of its labels") + parts.table(("", "drawn around", "on the map"), rows)
        self.page.show(
            map_sheet=f"<h2>{len(chosen):,} samples drawn around</h2>{sheet}", map_means=means if rows else ""
        )
