"""The page: what the browser asks comes in at one place, is checked, and goes to the tab that answers; failures are told in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from pathlib import Path
from threading import Event
from typing import Any

from bokeh.core.properties import String
from bokeh.document import Document
from bokeh.model import DataModel
from bokeh.models import CustomJS
from jinja2 import Environment, FileSystemLoader

from gated_vae.pipelines.channels import clean, explain
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.subject import Opener, Subject
from gated_vae.pipelines.explore.tabs.base import Ask, Tab
from gated_vae.pipelines.explore.tabs.latent import LatentTab
from gated_vae.pipelines.explore.tabs.map import MapTab
from gated_vae.pipelines.explore.tabs.pairs import PairsTab
from gated_vae.pipelines.explore.tabs.swap import SwapTab
from gated_vae.pipelines.explore.tabs.training import TrainingTab
from gated_vae.preprocessing.errors import GatedVAEError

LARGEST_UPLOAD = 8 << 20  # bytes
_NO_SUCH_THING = GatedVAEError("The page asked for something that there is not.", "", "Load it again.")
_WORKER = ThreadPoolExecutor(1, "explorer")
_ENDS = Event()
_FAILED = """{% extends base %}{% block preamble %}<meta name="color-scheme" content="light dark">{% endblock %}
{% block contents %}<p style="font: 15px/1.45 system-ui, sans-serif; white-space: pre-line">{{ why }}</p>{% endblock %}"""
LARGEST_MESSAGE = 12 << 20  # bytes, with the picture in base 64 in it


class Wire(DataModel):  # type: ignore[misc, unused-ignore]
    """What passes between the browser and the server, as JSON."""

    asked = String("")
    told = String("")


class Page:
    """One page in one browser: what is explored, as tabs by name."""

    def __init__(self, subject: Subject, document: Document) -> None:
        self.subject, self.document, self.largest = subject, document, LARGEST_UPLOAD
        self._wire = Wire(name="wire")
        self._out: dict[str, Any] = {"parts": {}}
        self._count = 0
        kinds: list[type[Tab]] = [LatentTab, SwapTab, MapTab, PairsTab, TrainingTab] if subject.run else [PairsTab]
        tabs = [kind(self) for kind in kinds]
        self.tabs = {tab.name: tab for tab in tabs}
        self._asks = {do: (tab.name, ask) for tab in tabs for do, ask in tab.asks.items()}
        self._opened: set[str] = set()
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

    def ask(self, message: Ask) -> None:
        """Do what the browser asks. It may be anybody's browser: what is no such message is refused."""
        if not isinstance(message, dict) or any(isinstance(value, list | dict) for value in message.values()):
            raise _NO_SUCH_THING
        do = str(message.get("do"))
        name, call = (message.get("tab"), None) if do == "open" else self._asks.get(do) or ("", None)
        if name not in self.tabs:
            raise _NO_SUCH_THING
        if name not in self._opened:
            self.tabs[name].open()
            self._opened.add(name)
        if call:
            call(message)

    def _answer(self, text: str) -> None:
        def answer() -> None:
            try:
                message = json.loads(text)
            except (ValueError, RecursionError):
                raise _NO_SUCH_THING from None
            self._out |= {"message": "", "kind": ""}  # what was told before is over
            self.ask(message)

        self.guarded(answer)

    def progress(self, *_: object) -> None:
        """Of work beside the page: it fails once the explorer ends, which waits for it."""
        if _ENDS.is_set():
            raise GatedVAEError("The explorer ends.")

    def later(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Work beside the page, then go on with what came of it, or tell in the page why nothing did."""

        def done(future: Future[Any]) -> None:
            self.document.add_next_tick_callback(lambda: self.guarded(lambda: then(future.result())))

        _WORKER.submit(work).add_done_callback(done)


def end_work() -> None:
    """Give up all work beside pages."""
    _ENDS.set()
    _WORKER.shutdown(wait=False, cancel_futures=True)


def build(opener: Opener, document: Document) -> None:
    """Make the page of a browser that has come; it says why where nothing can be opened now."""
    document.title = f"{opener.path.name} - explorer"
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False)
    try:
        subject = opener.subject()
    except (GatedVAEError, OSError) as error:
        document.template = environment.from_string(_FAILED)
        document.template_variables["why"] = escape(clean(explain(error)))
        return
    page = Page(subject, document)
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
