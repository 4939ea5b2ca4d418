"""Training: losses of a run from its events, KL of each dimension, refreshed while it goes on; and what `pipe evaluate` found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bokeh.models import ColumnDataSource, HoverTool

from gated_vae.models.figures.sheet import MUTED
from gated_vae.pipelines.evaluation import html
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.curves import EventReader
from gated_vae.pipelines.explore.tabs.base import Ask, Tab, plain_plot
from gated_vae.pipelines.training.journal import TOTAL, VALID
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

EVERY = 3000  # milliseconds
_LAYOUT = """<div id="training-facts"></div><div class="two"><div id="training-kl"></div>
<div class="tall"><div id="training-controls"></div>[loss-plot]<div id="training-legend"></div></div></div>
<div id="training-scores"></div>"""


class TrainingTab(Tab):
    """The events that were read, and which of them are drawn."""

    name, title, layout = "training", "Training", _LAYOUT

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        assert self.subject.run is not None
        self._files = self.subject.run.files
        self._chosen, self._terms = TOTAL, list[str]()
        self._told = ""  # of the scores
        self._source = ColumnDataSource({name: [] for name in ("x", "y", "name", "colour", "dash")})
        self.plots = (self._plot(),)

    def _plot(self) -> Any:
        plot = plain_plot("loss-plot", 320, x_axis_label="step", y_axis_label="nats")
        lines = plot.multi_line("x", "y", source=self._source, line_color="colour", line_width=2, line_dash="dash")
        plot.add_tools(HoverTool(renderers=[lines], tooltips="@name, step $x{0}: $y{0.0}", line_policy="nearest"))
        return plot

    def open(self) -> None:
        """Read the events and scores, and again from time to time from then on."""
        self._events = EventReader(self._files.path)
        self._refresh(first=True)
        self.page.document.add_periodic_callback(lambda: self.page.guarded(self._refresh), EVERY)

    def _ask_term(self, message: Ask) -> None:
        if message.get("value") not in self._terms:
            raise GatedVAEError("There is no such loss.", "", "Choose one of the list.")
        self._chosen = str(message["value"])
        self._show()

    def _refresh(self, *, first: bool = False) -> None:
        known, self._told = self._told, self._scores()
        if not self._events.read() and self._told == known and not first:
            return
        if self._terms != [*self._events.curves()]:  # not each time, as the list may be open
            self._terms = [*self._events.curves()]
            self.page.show(training_controls=parts.row(parts.select("Drawn", "term", self._terms, self._chosen)))
        self._show()

    def _show(self) -> None:
        lines = self._events.curves().get(self._chosen, {})
        colours = {label: self._colour(label) for label in lines}
        self._source.data = {
            "x": [steps for steps, _ in lines.values()],
            "y": [values for _, values in lines.values()],
            "name": [*map(parts.harmless, lines)],
            "colour": [*colours.values()],
            "dash": ["dashed" if label.endswith(VALID) else "solid" for label in lines],
        }
        latest, config = self._files.latest(), self._files.config
        planned = f"{config.steps:,} steps" if config.steps else f"{config.epochs:,} epochs"
        done = "finished" if "train" in self._files.read_metrics() else "not finished"
        last = max((steps[-1] for steps, _ in lines.values() if steps), default=0)
        facts = {
            "training": f"step {last:,} of {planned}, {done}",
            "checkpoint": f"step {latest.step:,}" if latest else "none yet",
        }
        self.page.show(
            training_facts=html.facts(facts),
            training_legend=parts.legend(colours),
            training_kl=self._kl(self._events.kl()),
            training_scores=self._told,
        )

    def _colour(self, label: str) -> str:
        return next((colour for name, colour in self.subject.colours.items() if name == label.partition(",")[0]), MUTED)

    def _kl(self, kl: dict[str, float]) -> str:
        if not kl:
            return "<h2>KL by dimension</h2>" + parts.note_of("Its events do not tell it.")
        names = [name for name, size in self._files.config.model.latent.items() for _ in range(size)]
        told = [(f"{name} z{i}", kl.get(f"z{i}", 0.0), self.subject.colours[name]) for i, name in enumerate(names)]
        rows = [(title, value, f"{value:.2f}", colour) for title, value, colour in told]
        return "<h2>KL by dimension, in nats</h2>" + parts.bars(rows)

    def _scores(self) -> str:
        scores = self.subject.scores()
        if scores is None:
            return "<h2>Scores</h2>" + parts.note_of("None yet: run pipe evaluate on the run.")
        tables = "".join(map(html.table, scores.tables()))
        return f'<h2>Scores</h2>{html.facts(scores.facts())}<div class="scores">{tables}</div>'
