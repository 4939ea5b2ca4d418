"""What all tabs have, and plots of one plain style; the page paints their axes in the browser's scheme, light or dark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from bokeh.plotting import figure

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

Ask = dict[str, Any]  # what the browser asks, and with it what that needs


class Tab(ABC):
    """A tab: its layout as HTML, how it is opened, and a method `_ask_VERB` for each thing that the browser may ask."""

    name: ClassVar[str]
    title: ClassVar[str]
    layout: ClassVar[str]
    plots: tuple[Any, ...] = ()  # of Bokeh, which stand in the layout as [NAME]

    def __init__(self, page: Page) -> None:
        self.page, self.subject = page, page.subject

    @property
    def asks(self) -> dict[str, Callable[[Ask], None]]:
        """What to do about each thing that the browser may ask."""
        return {name.removeprefix("_ask_"): getattr(self, name) for name in dir(self) if name.startswith("_ask_")}

    @abstractmethod
    def open(self) -> None:
        """Fill it, once, when it is first looked at or asked something; again where that failed."""


def plain_plot(name: str, height: int, **more: Any) -> Any:
    """A plot as wide as there is room, without decoration; `more` as Bokeh's figure takes it."""
    clear = {"background_fill_alpha": 0, "border_fill_alpha": 0, "outline_line_color": None}
    plain = {"name": name, "height": height, "sizing_mode": "stretch_width", "toolbar_location": None, "tools": ""}
    plot = figure(**{**plain, **clear, **more})
    plot.toolbar.logo = None
    return plot
