"""Plots of one plain style; the page paints their axes in the browser's scheme, light or dark."""

from __future__ import annotations

from typing import Any

from bokeh.plotting import figure


def plain_plot(name: str, height: int, **more: Any) -> Any:
    """A plot as wide as there is room, without decoration; `more` as Bokeh's figure takes it."""
    clear = {"background_fill_alpha": 0, "border_fill_alpha": 0, "outline_line_color": None}
    plot = figure(
        name=name,
        height=height,
        sizing_mode="stretch_width",
        **{"toolbar_location": None, "tools": "", **clear, **more},
    )
    plot.toolbar.logo = None
    return plot
