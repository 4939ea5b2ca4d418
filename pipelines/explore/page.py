"""The page: what the browser asks comes in at one place, is checked, and goes to the tab that answers; failures are told in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bokeh.core.properties import String
from bokeh.document import Document
from bokeh.model import DataModel
from bokeh.models import CustomJS
from jinja2 import Environment, FileSystemLoader

from gated_vae.pipelines.channels import clean, explain
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.subject import Opener, Subject
from gated_vae.pipelines.explore.tabs.latent import LatentTab
from gated_vae.pipelines.explore.tabs.map import MapTab
from gated_vae.pipelines.explore.tabs.pairs import PairsTab
from gated_vae.pipelines.explore.tabs.swap import SwapTab
from gated_vae.pipelines.explore.tabs.training import TrainingTab
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    Ask = dict[str, Any]

LARGEST_UPLOAD = 8 << 20  # bytes
_NO_SUCH_THING = GatedVAEError("The page asked for something that there is not.", "", "Load it again.")
_WORKER = ThreadPoolExecutor(1, "explorer")
LARGEST_MESSAGE = 12 << 20  # bytes, with the picture in base 64 in it


class Wire(DataModel):  # type: ignore[misc, unused-ignore]
    """What passes between the browser and the server, as JSON."""

    asked = String("")
    told = String("")


class Tab(Protocol):
    """A tab: its layout as HTML, `open` it, and a method for each thing that the browser may ask."""

    name: str
    title: str
    layout: str

    @property
    def asks(self) -> Mapping[str, Callable[[Ask], None]]:
        """What to do about each thing that the browser may ask."""

    @property
    def plots(self) -> tuple[Any, ...]:
        """Bokeh's plots, which stand in the layout as [NAME]."""

    def open(self) -> None:
        """Fill it: it was opened for the first time, or again."""


class Page:
    """One page in one browser.

    Attributes
    ----------
    subject:
        What is explored.
    tabs:
        By name.
    """

    def __init__(self, subject: Subject, document: Document) -> None:
        self.subject, self.document, self.largest = subject, document, LARGEST_UPLOAD
        self._wire = Wire(name="wire")
        self._out: dict[str, Any] = {"parts": {}}
        self._count = 0
        kinds: list[Callable[[Page], Tab]] = [LatentTab, SwapTab, MapTab, PairsTab, TrainingTab]
        tabs = [kind(self) for kind in kinds] if subject.run else [PairsTab(self)]
        self.tabs = {tab.name: tab for tab in tabs}
        self._asks = {"open": self._open, **{do: ask for tab in tabs for do, ask in tab.asks.items()}}
        self._wire.on_change("asked", lambda _attribute, _old, new: self._answer(new))
        self._wire.js_on_change("told", CustomJS(code="explorer.told(cb_obj.told)"))
        for root in (self._wire, *(plot for tab in tabs for plot in tab.plots)):
            document.add_root(root)
        document.js_on_event("document_ready", CustomJS(args={"wire": self._wire}, code="explorer.start(wire)"))

    def show(self, **places: str) -> None:
        """Put HTML into places of the page, by their id; _ stands for -."""
        self._out["parts"] |= {name.replace("_", "-"): html for name, html in places.items()}

    def say(self, text: str, tab: str = "") -> None:
        """Tell something in the page, with a button that opens a tab."""
        more = f'<button type="button" data-tab="{tab}">Open {escape(self.tabs[tab].title)}</button>' if tab else ""
        self._out |= {"message": escape(text) + more, "kind": "good"}

    def guarded(self, call: Callable[[], None]) -> None:
        """Do something, and send what it shows; where it fails, say so in the page."""
        try:
            call()
        except Exception as error:
            self._out |= {"message": escape(clean(explain(error))), "kind": "bad"}
        self._count += 1
        self._wire.update(told=json.dumps({**self._out, "n": self._count}))
        self._out = {"parts": {}}

    def _open(self, message: Ask) -> None:
        if message.get("tab") not in self.tabs:
            raise _NO_SUCH_THING
        self.tabs[message["tab"]].open()

    def _answer(self, text: str) -> None:
        """Do what the browser asks. It may be anybody's browser: what is no such message is refused."""

        def answer() -> None:
            try:
                message = json.loads(text)
                call = self._asks[message["do"]]
            except (ValueError, TypeError, KeyError):
                raise _NO_SUCH_THING from None
            self._out |= {"message": "", "kind": ""}  # what was told before is over
            call(message)

        self.guarded(answer)

    def ask(self, message: Ask) -> None:
        """Do as if the browser had asked."""
        self._asks[message["do"]](message)

    def later(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Work beside the page, then go on with what came of it, or tell in the page why nothing did."""

        def done(future: Future[Any]) -> None:
            self.document.add_next_tick_callback(lambda: self.guarded(lambda: then(future.result())))

        _WORKER.submit(work).add_done_callback(done)


def build(opener: Opener, document: Document) -> None:
    """Make the page of a browser that has come."""
    subject = opener.subject()
    page = Page(subject, document)
    document.title = f"{subject.path.name} - explorer"
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False)
    document.template = environment.get_template("explorer.html")
    document.template_variables.update(
        about=escape(subject.about()),
        name=escape(str(subject.path.resolve().name)),
        tabs=[*page.tabs.values()],
        first=next(iter(page.tabs)),
        largest=LARGEST_UPLOAD,
    )


def picture(opener: Opener, sample: int) -> bytes | None:
    """A sample's PNG; None where there is none."""
    try:
        return parts.png((opener.opened or opener.subject()).image(sample))
    except (GatedVAEError, OSError):
        return None
