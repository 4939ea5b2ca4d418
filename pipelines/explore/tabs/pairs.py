"""Pairs: groups of a partition, a sample's partners, what pairs share, and what was rejected; a store alone has it, too."""

from __future__ import annotations

from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool

from gated_vae.models.figures.sheet import MUTED
from gated_vae.pairing.partition import pairs_made
from gated_vae.pairing.quality import size_histogram
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import nearest
from gated_vae.pipelines.explore.groups import GroupView, partners_of, pictures_of, reasons, rejected_of, rejected_rows
from gated_vae.pipelines.explore.tabs.base import Ask, Tab, plain_plot
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.images import read_pictures

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

SHOWN = 60  # of a group
ROWS = 24  # of what was rejected
_LAYOUT = """<div id="pairs-controls"></div><div id="pairs-about"></div><div class="two">
<div><div id="pairs-sizes"></div><div id="pairs-spread"></div>[groups-plot]</div>
<div><div id="pairs-group"></div><div id="pairs-partners"></div></div></div>
<div id="pairs-quality"></div><div id="pairs-rejected"></div><div id="pairs-rows"></div>"""


class PairsTab(Tab):
    """The partition, the group and the sample that are looked at."""

    name, title, layout = "pairs", "Pairs", _LAYOUT

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._chosen, self._view = "", GroupView(np.empty(0, np.int32), np.empty(0, np.float32))
        self._source = ColumnDataSource({name: [] for name in ("group", "size", "spread")})
        self.plots = (self._plot(),)

    def _plot(self) -> Any:
        axes = {"x_axis_label": "samples", "y_axis_label": "mean distance to the centroid", "x_axis_type": "log"}
        plot = plain_plot("groups-plot", 300, **axes)
        self._dots = plot.scatter("size", "spread", source=self._source, size=8, fill_alpha=0.6, line_color=None)
        plot.add_tools(HoverTool(renderers=[self._dots], tooltips="group @group: @size samples"))
        plot.on_event(Tap, lambda event: self.page.guarded(lambda: self._click(event.x, event.y)))
        return plot

    @cached_property
    def _rejected(self) -> Any:
        return rejected_of(self.subject.its_store())

    def open(self) -> None:
        """Show the first partition, and what was rejected."""
        store = self.subject.its_store()
        if store.partitions:
            self._ask_partition({"value": next(iter(store.partitions))})
        else:
            self.page.show(pairs_about=parts.note_of("The store has no pairs yet: run pipe cluster or pipe pair."))
        self._show_rejected()

    def _ask_partition(self, message: Ask) -> None:
        store, name = self.subject.its_store(), str(message.get("value"))
        view = self._view = GroupView.of(store, name)
        self._chosen = name
        colour, record = self.subject.colours[name], store.partitions[name]
        shown, filled = view.shown(), int((view.sizes > 0).sum())
        self._dots.glyph.fill_color = colour
        self.plots[0].visible = view.near
        self._source.data = {"group": shown, "size": view.sizes[shown], "spread": view.spread[shown]}
        choice = parts.select("Partition", "partition", [*store.partitions], name)
        largest = int(shown[-1])
        first = int(view.members(largest)[0])
        by_group = parts.number("Group", "group", largest, len(view.sizes) - 1)
        by_sample = parts.number("Sample", "partners", first, len(store) - 1)
        some = f" {len(shown):,} of them are drawn." if len(shown) < filled else ""
        about = f"{pairs_made(record)}. {filled:,} groups, {record.get('merged', 0):,} merged.{some}"
        counts = {size: count for size, count in size_histogram(view.sizes).items() if count}
        sizes = [(f"{size} samples", count, f"{count:,}", colour) for size, count in counts.items()]
        self.page.show(
            pairs_controls=parts.row(choice, by_group, by_sample),
            pairs_about=parts.note_of(about),
            pairs_sizes=parts.heading("Groups by size", colour) + parts.bars(sizes),
            pairs_spread="<h2>Groups by size and spread</h2>" if view.near else "",
            pairs_quality=self._quality(record, colour),
        )
        self._ask_group({"value": largest})
        self._ask_partners({"value": first})

    def _ask_group(self, message: Ask) -> None:
        group = parts.whole(message)
        ids = self._view.members(group)
        shown = ids[:SHOWN] if self._view.near else ids[:: -(-len(ids) // SHOWN) or 1]
        which = "nearest to the centroid" if self._view.near else "of them"
        some = f", {len(shown)} {which}" if len(shown) < len(ids) else ""
        sheet = parts.sheet(shown, self.subject.version, "partners")
        self.page.show(pairs_group=f"<h2>Group {group}: {len(ids):,} samples{some}</h2>{sheet}")

    def _click(self, x: float, y: float) -> None:
        """Open the group that is nearest to a click."""
        size, spread = (np.asarray(self._source.data[name], np.float64) for name in ("size", "spread"))
        place, _ = nearest(np.stack([np.log(size), spread], axis=1), (np.log(max(x, 1e-9)), y))
        if place >= 0:
            self._ask_group({"value": int(self._source.data["group"][place])})

    def _ask_partners(self, message: Ask) -> None:
        sample = parts.sample_of(message)
        self.subject.image(sample)  # refused where there is none
        found = partners_of(self.subject.its_store(), self._chosen, sample)
        notes = {int(partner): f"draw {', '.join(map(str, np.flatnonzero(found == partner)))}" for partner in found}
        title = f"<h2>Partners of sample {sample}, in group {self._view.group[sample]}</h2>"
        sheet = parts.sheet([sample, *notes], self.subject.version, "partners", {sample: "itself", **notes})
        none = "" if notes else parts.note_of("It does not train, so it is in no pair.")
        self.page.show(pairs_partners=title + sheet + none)

    def _quality(self, record: dict[str, Any], colour: str) -> str:
        """What pairs share and what they do not: correlations of inputs and targets, and shares of pairs that are equal."""
        measured = {**record.get("quality", {})}
        rows = [
            (name, abs(it["correlation"]), f"{it['correlation']:.2f}", colour if it["shared"] else MUTED)
            for name, it in sorted(measured.items(), key=lambda pair: not pair[1]["shared"])
            if it.get("correlation") is not None
        ]
        same = [(f"same {name}", share, f"{share:.0%}", MUTED) for name, share in record.get("same", {}).items()]
        if not rows and not same:
            return parts.note_of("What else pairs share was not measured.")
        title = parts.heading("What pairs share", colour)
        text = "Correlation of inputs and targets: in colour what pairs are to share, in grey what they should not."
        return title + parts.note_of(text) + parts.bars([*rows, *same], 1.0)

    def _show_rejected(self) -> None:
        counts = reasons(self._rejected)
        if not counts:
            self.page.show(pairs_rejected="<h2>Rejected</h2>" + parts.note_of("Nothing was rejected."))
            return
        told = {reason: f"{reason} ({count:,})" for reason, count in counts.items()}
        first = next(iter(counts))
        choice = parts.row(parts.select("Reason", "reason", told, first))
        self.page.show(pairs_rejected=f"<h2>Rejected: {len(self._rejected):,}</h2>{choice}")
        self._ask_reason({"value": first})

    def _ask_reason(self, message: Ask) -> None:
        rows = rejected_rows(self._rejected, str(message.get("value")), ROWS)
        shown = "".join(self._row(it) for it in rows)
        hint = "Give --source FOLDER, what the store was made from, to see their pictures."
        note = "" if self.subject.source else parts.note_of(hint)
        self.page.show(pairs_rows=f'{note}<div class="rejected">{shown}</div>')

    def _row(self, it: dict[str, Any]) -> str:
        where = str(it["source"]) + ("" if it["row"] is None else f", row {it['row']}")
        return f"<figure>{self._picture(it)}<figcaption>{escape(where)}<br>{escape(str(it['detail']))}</figcaption></figure>"

    def _picture(self, it: dict[str, Any]) -> str:
        if self.subject.source is None:
            return ""
        shape = tuple(self.subject.its_store().manifest["image_shape"])
        try:
            path = next(pictures_of(self.subject.source, str(it["source"]), it["row"]), None)
            none = '<div class="empty">no picture</div>'
            return none if path is None else parts.img(read_pictures([path], shape)[0], path.name)
        except (GatedVAEError, OSError):
            return '<div class="empty">cannot be read</div>'
