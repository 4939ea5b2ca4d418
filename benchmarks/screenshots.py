"""Pictures of the explorer for the documentation: python -m benchmarks.screenshots RUN [FOLDER]; RUN of simulated faces alone."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

MOST_BYTES = 200_000
WIDE, NARROW, PHONE = ({"width": width, "height": height} for width, height in ((1280, 800), (960, 740), (390, 844)))


def latent(page: Page) -> None:
    """The busiest dimension of the second partition, moved."""
    page.locator("#latent section").nth(1).locator("input[type=range]").first.fill("-2.0")


def swap(page: Page) -> None:
    """Two samples that look different, with the first partition of the other."""
    page.get_by_label("A", exact=True).fill("4")
    page.wait_for_selector("figcaption:text-is('A: sample 4')")
    page.get_by_label("B", exact=True).fill("23")
    page.wait_for_selector("figcaption:text-is('B: sample 23')")


def lasso(page: Page) -> None:
    """The map with some samples drawn around."""
    page.wait_for_selector("#map-legend .ramp")
    page.wait_for_timeout(800)
    box = page.locator(".bk-Figure").first.bounding_box()
    assert box is not None
    x, y = box["x"] + 0.68 * box["width"], box["y"] + 0.2 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    for across, down in ((200, 0), (200, 230), (0, 230), (0, 0)):
        page.mouse.move(x + across, y + down, steps=5)
    page.mouse.up()
    page.wait_for_selector("#map-sheet h2")
    page.mouse.move(5, 5)


def nothing(_page: Page) -> None:
    """The tab as it opens."""


SHOTS = {
    "explore_latent": ("latent", latent, WIDE, "light"),
    "explore_swap": ("swap", swap, WIDE, "light"),
    "explore_map": ("map", lasso, NARROW, "light"),
    "explore_pairs": ("pairs", nothing, {"width": 940, "height": 680}, "dark"),
    "explore_phone": ("latent", latent, PHONE, "dark"),
}


def take(address: str, folder: Path) -> None:
    """Write every picture; none may be larger than `MOST_BYTES`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (tab, act, size, scheme) in SHOTS.items():
            page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"{address}#{tab}")
            page.wait_for_selector(f"#{tab} :is(img, .bk-Figure)")
            page.wait_for_timeout(1500)
            act(page)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(1200)
            path = folder / f"{name}.png"
            shot = Image.open(BytesIO(page.screenshot()))
            shot.convert("RGB").save(path, optimize=True)
            page.close()
            print(f"{path}: {path.stat().st_size:,} bytes")
            assert path.stat().st_size < MOST_BYTES, path
        browser.close()


def main(run: str, folder: str = "docs/figures") -> None:
    """Explore the run while its pictures are taken."""
    command = [Path(sys.executable).parent / "pipe", "explore", run, "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as explorer:
        assert explorer.stdout is not None
        told = re.search(r"http://\S+", explorer.stdout.readline())
        try:
            assert told, "the explorer has not started"
            take(told[0], Path(folder))
        finally:
            explorer.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main(*sys.argv[1:])
