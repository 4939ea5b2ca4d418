"""`pipe explore`: a run or a store in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, Host, MovedStore, Port, Seed, is_run, option


def explore(
    path: Annotated[Path, typer.Argument(metavar="RUN|STORE", help="Folder of a run or a store.", show_default=False)],
    html: Annotated[Path | None, option("Write one .html file that needs no server instead.", "not written")] = None,
    host: Host = "127.0.0.1",
    port: Port = 5006,
    token_file: Annotated[Path | None, option("File with the token that the address must bring.", "none")] = None,
    store: MovedStore = None,
    source: Annotated[
        Path | None, option("Folder that the store was made from, to show what was rejected.", "not shown")
    ] = None,
    browser: Annotated[bool, option("Open a browser where there is a screen.")] = True,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Look at a run or a store in a browser.

    Latent sliders, swaps, maps of codes, pairs and groups, training. It ends with ^C, and needs Bokeh: pip install '.[explore]'

    With --html it writes one file instead, with sliders and swaps, that decodes in the browser, offline and without a server. It is
    made for decoders of up to some 10 million weights, and holds 64 random pictures of the store (--seed).

    Example: pipe explore run
    """
    from gated_vae.preprocessing.errors import GatedVAEError

    if html is not None:
        _write_page(path, html, store, seed, as_json=as_json)
        return
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise GatedVAEError(
            "The explorer needs Bokeh.",
            "It is not installed.",
            "Install it: pip install bokeh, or '.[explore]' from a clone.",
        ) from None

    import os
    import sys
    import webbrowser
    from contextlib import suppress
    from functools import partial

    from gated_vae.pairing.service.access import ServiceOptions
    from gated_vae.pipelines import channels, console
    from gated_vae.pipelines.explore.page import LARGEST_MESSAGE, build, end_work, picture
    from gated_vae.pipelines.explore.server import make_server, run_until_stopped
    from gated_vae.pipelines.explore.subject import Opener

    opener = Opener(path, is_run(path), store, source)
    opener.subject()
    options = ServiceOptions(host, port, token_file)
    server, address = make_server(partial(build, opener), partial(picture, opener), options, LARGEST_MESSAGE)
    if token_file:
        console.say(
            f"Add ?token= and what {token_file} holds. It travels unencrypted: use a tunnel on others' networks."
        )

    def started() -> None:
        with suppress(GatedVAEError), channels.printing():
            print(f"exploring {path} at {address}")
        shown = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
        if browser and shown and not token_file:  # where nothing is shown, a browser of text would take the terminal
            webbrowser.open(address)

    try:
        run_until_stopped(server, started)
    finally:
        end_work()


def _write_page(path: Path, html: Path, store: Path | None, seed: int, *, as_json: bool) -> None:
    """Write a run as one file, and tell of it."""
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import open_run
    from gated_vae.pipelines.explore.standalone import write_page
    from gated_vae.preprocessing.errors import UsageError

    if not is_run(path):
        raise UsageError("No page can be written.", f"{path} is no run.", "Give a run to --html.")
    page = write_page(open_run(path, store), html, seed=seed)
    rows: dict[str, object] = {
        "page": page.path,
        "size": f"{page.size / 1e6:.1f} MB",
        "samples": page.samples,
        "weights": f"{page.weights}; pixels within {page.error:.1g} of the run's",
    }
    if page.pictures:
        rows["holds"] = f"{page.pictures} pictures of the store: pass it on only to whom you may give those"
    console.show(page, rows, as_json=as_json)
