"""The explorer in a real browser: what is shown is what Python computes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from gated_vae import open_run, read_pictures
from gated_vae.models.figures.sheet import coloured
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.explore.codes import plane, traversed
from tests.machine import HANG, until
from tests.pipelines.explore.runs import make_run
from tests.pipelines.explore.serving import exploring

pytestmark = pytest.mark.slow

PIXELS = """img => new Promise((done) => {
  const read = () => {
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d", {willReadFrequently: true})
    canvas.width = img.naturalWidth; canvas.height = img.naturalHeight
    context.drawImage(img, 0, 0)
    done([canvas.height, canvas.width, ...context.getImageData(0, 0, canvas.width, canvas.height).data])
  }
  img.complete ? read() : img.addEventListener("load", read)
})"""
# Where a plot's frame lies in the window, and which part of the plane it shows.
FRAME = """(name) => {
  const model = Bokeh.documents[0].get_model_by_name(name), view = Bokeh.index.find_one(model), box = view.frame.bbox
  const {left, top} = view.el.getBoundingClientRect()
  const range = ({start, end}) => [start, end]
  return [left + box.left, top + box.top, box.width, box.height, ...range(model.x_range), ...range(model.y_range)]
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    pytest.importorskip("bokeh", reason="the explorer is an extra: pip install '.[explore]'")
    with exploring(run) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that has loaded; nothing in it may fail, nor come from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(1000 * HANG)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda it: None if it.url.startswith((address, "data:", "blob:")) else wrong.append(it.url))
    page.goto(address)
    page.wait_for_selector("#latent input[type=range]")
    yield page
    context.close()
    assert wrong == []


def pixels(page: Any, selector: str) -> np.ndarray:
    """The pixels of a picture in the page, as the browser has decoded them: (H, W, 3)."""
    height, width, *values = page.locator(f"{selector} img").first.evaluate(PIXELS)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def assert_shows(page: Any, selector: str, picture: np.ndarray) -> None:
    """A picture in the page is or becomes this one."""
    until(lambda: np.array_equal(pixels(page, selector), picture))


def answered(page: Any, act: Any) -> None:
    """Do something that the server answers, and wait for an answer; it may be a late one to what was done before."""
    before = page.evaluate("String(document.body.dataset.answers)")
    act()
    page.wait_for_function("before => String(document.body.dataset.answers) !== before", arg=before)
    page.wait_for_timeout(60)  # for a second answer, where typing makes two


def shown(run: OpenRun, code: np.ndarray) -> np.ndarray:
    """What Python's decoder makes of a code (M,), as bytes."""
    return coloured(run.decode(code[None]), 1)[0]


def encode(page: Any, sample: int) -> None:
    answered(page, lambda: page.get_by_label("Sample", exact=True).first.fill(str(sample)))
    page.wait_for_selector(f"figcaption:text-is('sample {sample}')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_opens_without_an_error_at_both_widths_and_in_both_schemes(
    browser: Any, address: str, scheme: Any, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    for title in ("Latent", "Swap", "Map", "Pairs", "Training"):
        tab = page.get_by_role("tab", name=title)
        answered(page, tab.click)
        assert tab.get_attribute("aria-selected") == "true"
        panel = page.get_by_role("tabpanel", name=title)
        assert panel.is_visible()
        until(lambda panel=panel: len(panel.inner_text()) > 40)  # type: ignore[misc]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#message.bad").count() == 0
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert abs(brightness[0] - brightness[1]) > 450
    assert (brightness[0] < brightness[1]) == (scheme == "light")
    page.close()
    assert wrong == []


def test_a_slider_moves_the_picture_as_the_decoder_says(page: Any, run: Path) -> None:
    opened = open_run(run)
    encode(page, 7)
    code = opened.encode(opened.store.images, np.array([7])).mean[0]
    assert_shows(page, "[data-name=original]", coloured(opened.store.images[7:8], 1)[0])
    assert_shows(page, "[data-name=decoded]", shown(opened, code))
    slider = page.get_by_label("pose z1,")
    answered(page, lambda: slider.fill("1.5"))
    code[1] = 1.5
    assert_shows(page, "[data-name=decoded]", shown(opened, code))
    answered(page, lambda: slider.press("ArrowRight"))
    code[1] = 1.55
    assert_shows(page, "[data-name=decoded]", shown(opened, code))
    strip = opened.decode(traversed(code, 1, np.linspace(-3, 3, 9, dtype=np.float32)))
    for place in (0, 4, 8):
        assert_shows(page, f"#latent-strip figure:nth-child({place + 1})", coloured(strip, 1)[place])
    answered(page, page.get_by_role("button", name="Random").click)
    answered(page, page.get_by_role("button", name="Reset").click)
    page.wait_for_selector("figcaption:text-is('drawn from the prior')")


def test_a_slider_moves_the_picture_within_a_tenth_of_a_second(page: Any) -> None:
    """The fastest of 25 moves: what else the machine does takes its time of the others."""
    times = page.evaluate("""async () => {
      const slider = document.querySelector("#latent input[type=range]"), times = []
      const now = () => document.querySelector("[data-name=decoded] img")
      for (let i = 0; i < 25; i++) {
        const before = now().src, start = performance.now()
        slider.value = -2 + i * 0.15
        slider.dispatchEvent(new Event("input", {bubbles: true}))
        while (now().src === before) await new Promise((done) => setTimeout(done, 1))
        await now().decode()
        times.push(performance.now() - start)
        await new Promise((done) => setTimeout(done, 20))
      }
      return times
    }""")
    assert min(times) < 100


def test_a_sample_is_encoded_by_its_picture_and_a_picture_of_the_users_own(
    page: Any, run: Path, tmp_path: Path
) -> None:
    opened = open_run(run)
    chosen = page.locator("#latent-pick .sheet button").nth(3)
    sample = int((chosen.locator("img").get_attribute("alt") or "").split()[1])
    assert_shows(page, "#latent-pick .sheet button:nth-child(4)", coloured(opened.store.images[[sample]], 1)[0])
    answered(page, chosen.click)
    assert_shows(page, "[data-name=original]", coloured(opened.store.images[[sample]], 1)[0])
    path = tmp_path / "mine.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    answered(page, lambda: page.locator("#latent input[type=file]").set_input_files(path))
    expected = read_pictures([path], (16, 16))
    assert_shows(page, "[data-name=original]", coloured(expected, 1)[0])
    assert_shows(page, "[data-name=decoded]", shown(opened, opened.encode(expected).mean[0]))


def test_hostile_uploads_are_refused_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    before = pixels(page, "[data-name=original]")
    files = {
        "text.png": b"no picture",
        "page.html": b"<script>window.hit = 1</script>",
        "cut.png": b"\x89PNG\r\n\x1a\n" + bytes(90),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        answered(page, lambda name=name: page.locator("#latent input[type=file]").set_input_files(tmp_path / name))
        page.wait_for_selector(f"#message.bad:has-text('{name} is no picture.')")
    (tmp_path / "huge.png").write_bytes(bytes(30 << 20))
    page.locator("#latent input[type=file]").set_input_files(tmp_path / "huge.png")
    page.wait_for_selector("#message:has-text('huge.png is too large.')")
    assert page.evaluate("window.hit") is None
    assert_shows(page, "[data-name=original]", before)
    encode(page, 11)


def test_a_swap_takes_a_partition_of_the_other(page: Any, run: Path) -> None:
    opened = open_run(run)
    answered(page, page.get_by_role("tab", name="Swap").click)
    for side, sample in (("A", 3), ("B", 8)):
        answered(page, lambda side=side, sample=sample: page.get_by_label(side, exact=True).fill(str(sample)))
        page.wait_for_selector(f"figcaption:text-is('{side}: sample {sample}')")
    a, b = opened.encode(opened.store.images, np.array([3, 8])).mean
    boxes = {"pose": page.get_by_label("pose of B"), "expression": page.get_by_label("expression of B")}
    answered(page, boxes["pose"].click)
    answered(page, boxes["expression"].click)
    until(lambda: (boxes["pose"].is_checked(), boxes["expression"].is_checked()) == (True, False))
    made = {number: np.concatenate([(a, b)[number & 1][:3], (a, b)[number >> 1][3:]]) for number in range(4)}
    assert_shows(page, "[data-name=swapped]", shown(opened, made[1]))
    for number, code in made.items():
        assert_shows(page, f"[data-combination='{number}']", shown(opened, code))
    answered(page, page.locator("[data-combination='2']").click)
    assert_shows(page, "[data-name=swapped]", shown(opened, made[2]))


def settled(page: Any, plot: str) -> np.ndarray:
    """What FRAME tells of a plot, once that stays as it is."""
    before, now = None, page.evaluate(FRAME, plot)
    while now != before:
        page.wait_for_timeout(400)
        before, now = now, page.evaluate(FRAME, plot)
    return np.array(now)


def open_map(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """Open the map; where its frame lies in the window, and what it shows of the plane."""
    page.set_viewport_size({"width": 1280, "height": 1400})
    page.get_by_role("tab", name="Map").click()
    page.wait_for_selector("#map-note:has-text('All 300 samples.')")
    page.wait_for_function("Bokeh.documents[0].get_model_by_name('map-plot').x_range.start !== null")
    frame = settled(page, "map-plot")
    return frame[:4], frame[4:]


def on_screen(points: np.ndarray, frame: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    left, right, bottom, top = ranges
    across, up = (points[:, 0] - left) / (right - left), (points[:, 1] - bottom) / (top - bottom)
    return frame[:2] + np.stack([across, 1 - up], axis=1) * frame[2:]


def test_a_lasso_shows_what_is_inside_it_and_its_means(page: Any, run: Path) -> None:
    opened = open_run(run)
    points = plane(opened.encode(opened.store.images).mean[:, :3], "PCA")
    frame, ranges = open_map(page)
    places = on_screen(points, frame, ranges)
    middle = float(np.median(places[:, 0])) + 0.4
    x, y, width, height = frame
    corners = [(x + 2, y + 2), (middle, y + 2), (middle, y + height - 2), (x + 2, y + height - 2), (x + 2, y + 2)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    page.wait_for_selector("#map-sheet h2")
    inside = np.flatnonzero(places[:, 0] < middle)

    def count() -> int:
        return int(page.locator("#map-sheet h2").inner_text().split()[0])

    until(lambda: abs(count() - len(inside)) <= 1)  # one may lie on the line
    told = count()
    assert page.locator("#map-sheet img").count() == min(48, told)
    samples = opened.store.samples
    rows = {
        row.split("\t")[0]: row.split("\t")[1:]
        for row in page.locator("#map-means table").inner_text().splitlines()[1:]
    }
    assert {"pose_Rx", "AU12_r"} <= rows.keys()
    for name, (own, whole) in rows.items():
        assert float(whole) == pytest.approx(samples[name].mean(), rel=0.01, abs=1e-4)
        if told == len(inside):
            assert float(own) == pytest.approx(samples[name].iloc[inside].mean(), rel=0.01, abs=1e-4)
    chosen = page.locator("#map-sheet .sheet button").first
    sample = (chosen.locator("img").get_attribute("alt") or "").split()[1]
    answered(page, chosen.click)
    page.wait_for_selector(f"#message:has-text('Sample {sample} is in Latent.')")
    assert width > 1000


def test_the_map_shows_a_sample_and_sends_it_on(page: Any, run: Path) -> None:
    opened = open_run(run)
    points = plane(opened.encode(opened.store.images).mean[:, :3], "PCA")
    frame, ranges = open_map(page)
    answered(page, lambda: page.get_by_label("Colour").select_option("place"))
    assert "<img" in page.locator("#map-legend").inner_text() or "p0" in page.locator("#map-legend").inner_text()
    places = on_screen(points, frame, ranges)
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e6 * np.eye(len(places))
    sample = int(away.min(axis=1).argmax())  # the one that is farthest from all others
    page.mouse.move(*places[sample])
    page.wait_for_selector(
        f".bk-Tooltip img[src*='picture/{sample}.png'], img[src*='picture/{sample}.png']", state="attached"
    )
    page.mouse.move(*places[0])  # whose text is a tag
    page.wait_for_timeout(300)
    answered(page, lambda: page.mouse.click(*places[sample]))
    page.get_by_role("button", name="Open Latent").click()
    page.wait_for_selector(f"figcaption:text-is('sample {sample}')")
    page.get_by_role("tab", name="Map").click()
    answered(page, lambda: page.get_by_label("A click goes to").select_option("B"))
    page.wait_for_timeout(700)  # two clicks at one place within half a second are one double click
    answered(page, lambda: page.mouse.click(*places[sample]))
    page.get_by_role("button", name="Open Swap").click()
    page.wait_for_selector(f"figcaption:text-is('B: sample {sample}')")
    assert page.evaluate("window.hit") is None


def test_a_group_is_opened_by_its_number_and_by_a_click(page: Any, run: Path) -> None:
    groups = pd.read_parquet(run.parent / "store" / "groups")
    page.set_viewport_size({"width": 1280, "height": 1400})
    answered(page, page.get_by_role("tab", name="Pairs").click)
    answered(page, lambda: page.get_by_label("Partition").last.select_option("expression"))
    answered(page, lambda: page.get_by_label("Group", exact=True).fill("8"))
    page.wait_for_selector("#pairs-group h2:has-text('Group 8:')")
    own = groups[(groups["partition"] == "expression") & (groups["group"] == 8)]["sample_id"].tolist()
    images = page.locator("#pairs-group img")
    assert [images.nth(i).get_attribute("alt") for i in range(images.count())] == [f"sample {sample}" for sample in own]
    answered(page, images.nth(1).click)
    pairs = pd.read_parquet(run.parent / "store" / "pairs")
    partners = pairs[(pairs["partition"] == "expression") & (pairs["input_id"] == own[1])]["target_id"]
    found = page.locator("#pairs-partners img")
    expected = {f"sample {it}" for it in [own[1], *partners]}
    until(lambda: {*found.evaluate_all("images => images.map((it) => it.alt)")} == expected)
    x, y, width, height, *_ = settled(page, "groups-plot")
    answered(page, lambda: page.mouse.click(x + width / 2, y + height / 2))
    assert re.match(r"Group \d+: \d+ samples", page.locator("#pairs-group h2").inner_text())


def test_tabs_and_controls_have_names_and_keys(page: Any) -> None:
    """What screen readers tell: every control has a name, every picture an alternative; arrows go from tab to tab."""
    page.get_by_role("tab", name="Latent").focus()
    for title in ("Swap", "Map", "Pairs", "Training", "Latent"):
        answered(page, lambda: page.keyboard.press("ArrowRight"))
        assert page.evaluate("document.activeElement.textContent") == title
        assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    answered(page, page.get_by_role("tab", name="Swap").click)
    page.get_by_label("pose of B").focus()
    answered(page, lambda: page.keyboard.press("Space"))  # which makes the box anew
    assert page.evaluate("document.activeElement.labels[0].textContent.trim()") == "pose of B"
    nameless = page.evaluate("""[...document.querySelectorAll("main input, main select, main button")]
      .filter((it) => !(it.labels?.[0]?.textContent.trim() || it.ariaLabel || it.textContent.trim()))
      .filter((it) => !it.querySelector("img[alt]")).map((it) => it.outerHTML)""")
    assert nameless == []
    assert page.evaluate("[...document.querySelectorAll('main img')].filter((it) => !it.alt).length") == 0


def test_with_a_token_the_page_connects_and_again_without_it_in_the_address(
    browser: Any, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("0123456789abcdef0123")
    with exploring(run, "--token-file", tmp_path / "token") as address:
        page = browser.new_page()
        for shown in (f"{address}?token=0123456789abcdef0123", address):
            page.goto(shown)
            page.wait_for_selector("#latent input[type=range]")
            assert page.url == f"{address}#latent"
        page.close()
