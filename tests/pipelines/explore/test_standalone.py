"""A run as one page: complete, the same every time, nothing in it taken for markup; its pictures are those of PyTorch."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from torch import nn

from gated_vae.pipelines.evaluation.opened import OpenRun, open_run
from gated_vae.pipelines.explore import standalone
from gated_vae.pipelines.explore.standalone import write_page
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import write_parquet
from gated_vae.preprocessing.store import samples_path
from tests.machine import until
from tests.pipelines.test_cli import pipe
from tests.pipelines.test_trainer import MODEL, config
from tests.stores import make_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HIDDEN = {"fc": (12, 16), "conv": (4, 8, 16)}
HOSTILE = "</script><script>throw 1</script><img src=x onerror=alert(1)>"

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., OpenRun]:
    """Runs by network and colour, trained fast for some steps, on a store whose pictures have hostile names."""
    root, made = tmp_path_factory.mktemp("runs"), dict[tuple[str, bool], Path]()

    def run(network: str = "fc", *, colour: bool = False) -> OpenRun:
        out = root / f"{network}-{colour}" / "<b>run & $co"
        if (network, colour) not in made:
            store = make_store(out.parent / "store", 200, colour=colour)
            names = pa.table({"sample_id": range(200), "image": [f"{HOSTILE}{i}.png" for i in range(200)]})
            write_parquet(samples_path(store.path), names, schema_version=2)
            shape = tuple(store.manifest["image_shape"])
            model = replace(MODEL, network=network, hidden=HIDDEN[network], image_shape=shape)
            train(config(store, model=model, steps=8, lr=0.03), TrainOptions(out))
            made[network, colour] = out
        return open_run(made[network, colour])

    return run


def codes_of(data: dict[str, Any], name: str = "mean") -> Floats:
    """Codes (n, 5) of a page's samples."""
    return np.frombuffer(b64decode(data[name]), "<f4").reshape(-1, 5).copy()


def read(page: Path) -> dict[str, Any]:
    """What the page computes with."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(data)  # type: ignore[no-any-return]


def test_a_page_is_whole_loads_nothing_and_is_the_same_again(runs: Callable[..., OpenRun], tmp_path: Path) -> None:
    run, out = runs("conv", colour=True), tmp_path / "new" / "page.html"
    made = write_page(run, out, samples=5, seed=3)
    text = out.read_text()
    assert (made.path, made.size, made.pictures, made.weights) == (out, len(text.encode()), 5, "int16")
    assert made.error < 1e-4
    assert text.startswith("<!DOCTYPE html>\n")
    assert re.findall(r"\b(?:src|href|action|srcset)\s*=|url\(|@import|https?:", text.replace("img src=x", "")) == []
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, flags=re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="data"', ""]
    hashed = b64encode(sha256(scripts[1][1].encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{hashed}'; style-src 'unsafe-inline'; base-uri 'none'" in text
    assert "<title>Run &lt;b&gt;run &amp; $co</title>" in text
    data = read(out)
    ids = np.sort(np.random.default_rng(3).choice(200, 5, replace=False))
    assert data["names"] == [f"{i}: {HOSTILE}{i}.png" for i in ids]
    assert b64decode(data["images"]) == run.store.images[ids].tobytes()
    codes = run.encode(run.store.images, ids)
    for name, values in zip(("mean", "std"), codes, strict=True):
        np.testing.assert_array_equal(codes_of(data, name), values)
    kl = run.encode(run.store.images).kl()
    assert [part["name"] for part in data["partitions"]] == ["pose", "expression"]
    assert [part["dims"] for part in data["partitions"]] == [
        sorted(dims, key=lambda i: -kl[i]) for dims in ([0, 1], [2, 3, 4])
    ]
    write_page(run, tmp_path / "again.html", samples=5, seed=3)
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()
    write_page(run, out, samples=5, seed=4)
    assert (tmp_path / "again.html").read_bytes() != out.read_bytes()


def test_without_its_store_a_page_starts_from_the_prior(
    runs: Callable[..., OpenRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs().files.path, tmp_path / "run")
    config_path = tmp_path / "run" / "config.json"
    values = json.loads(config_path.read_text())
    values["train"]["store"] = values["store_from_here"] = str(tmp_path / "gone")
    config_path.write_text(json.dumps(values))
    assert pipe("explore", tmp_path / "run", "--html", tmp_path / "page.html", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"].startswith("64 codes drawn from the prior, without images: The store of ")
    assert told["pictures"] == 0
    data = read(tmp_path / "page.html")
    assert data["images"] is data["std"] is data["kl"] is None
    prior = np.random.default_rng(0).standard_normal((64, 5), dtype=np.float32)
    np.testing.assert_array_equal(codes_of(data), prior)
    assert str(tmp_path) not in (tmp_path / "page.html").read_text()


def test_the_command_says_what_it_wrote_and_whose_pictures_those_are(
    runs: Callable[..., OpenRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs().files.path
    assert pipe("explore", run, "--html", tmp_path / "page.html") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "64 of 200 images" in told
    assert "holds 64 pictures of the store" in told
    (tmp_path / "notes.html").write_text("mine")
    assert pipe("explore", run, "--html", tmp_path / "notes.html") == 1
    assert pipe("explore", run, "--html", tmp_path / "page.txt") == 2
    assert (tmp_path / "notes.html").read_text() == "mine"
    with pytest.raises(UsageError, match="0 samples"):
        write_page(runs(), tmp_path / "page.html", samples=0)


def test_what_is_too_large_is_refused(
    runs: Callable[..., OpenRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "MOST_BYTES", 20_000)
    weights = 5 * 16 + 16 * 12 + 12 * 256
    with pytest.raises(GatedVAEError, match=rf"not written.\n.*{weights:,} weights, its images are 16x16.\n.*--hidden"):
        write_page(runs(), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_weights_that_sixteen_bits_cannot_tell_apart_are_stored_as_they_are(
    runs: Callable[..., OpenRun], tmp_path: Path
) -> None:
    """One weight of every pixel is a million, of a unit that never fires."""
    run = runs()
    layers: Any = run.model.decoder.requires_grad_(False).layers
    layers[4].bias[0] = -1e6  # of the last batch normalisation
    layers[6].weight[:, 0] = 1e6
    made = write_page(run, tmp_path / "page.html")
    assert made.weights == "float32"
    assert made.error < 1e-5
    layers[6].weight[0, 0] = torch.nan
    with pytest.raises(GatedVAEError, match="not all finite"):
        write_page(run, tmp_path / "page.html")
    layers[5] = nn.Tanh()
    with pytest.raises(GatedVAEError, match="Tanh, which the page cannot compute"):
        write_page(run, tmp_path / "page.html")


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """Opens a page from disk; in the end nothing was asked for but that file, and nothing went wrong."""
    page, troubles, asked = browser.new_page(), list[str](), list[str]()
    page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))

    def open_page(path: Path) -> Page:
        page.goto(path.as_uri())
        return page

    yield open_page
    page.close()
    assert troubles == []
    assert len(asked) == 1
    assert asked[0].startswith("file://")


def pixels(page: Page, canvas: str) -> npt.NDArray[np.int64]:
    """Red, green and blue of a canvas (H, W, 3) as it is now."""
    shown = """id => {
        const canvas = document.querySelector(id);
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, ...data];
    }"""
    height, width, *values = page.evaluate(shown, canvas)
    return np.array(values).reshape(height, width, 4)[..., :3]


def assert_shows(page: Page, canvas: str, image: Floats) -> None:
    """A canvas shows an image in 0 .. 1, to the nearest of 256 levels, as soon as it is drawn."""
    expected = 255 * (image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1))

    def shown() -> bool:
        found = pixels(page, canvas)
        return found.shape == expected.shape and np.abs(found - expected).max() < 0.51 + 255e-4

    until(shown)


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize("network", ["fc", "conv"])
def test_the_browser_decodes_as_pytorch_does(
    runs: Callable[..., OpenRun], opened: Callable[[Path], Page], tmp_path: Path, network: str, colour: bool
) -> None:
    run = runs(network, colour=colour)
    write_page(run, tmp_path / "page.html", samples=9)
    page = opened(tmp_path / "page.html")
    means = codes_of(read(tmp_path / "page.html"))
    anywhere = np.random.default_rng(5).uniform(-3, 3, (20, 5)).astype(np.float32)
    codes = np.concatenate([means, anywhere, 3 * np.eye(5, dtype=np.float32), -3 * np.eye(5, dtype=np.float32)])
    images = page.evaluate("codes => codes.map(code => Array.from(decode(code)))", codes.tolist())
    expected = run.decode(codes)
    np.testing.assert_allclose(np.array(images).reshape(expected.shape), expected, rtol=0, atol=1e-4)
    assert expected.std(0).max() > 0.01  # so that it matters which code is decoded
    assert_shows(page, "#decoded", expected[0])


def test_sliders_samples_and_swaps_show_what_the_run_decodes(
    runs: Callable[..., OpenRun], opened: Callable[[Path], Page], tmp_path: Path
) -> None:
    run = runs("conv", colour=True)
    write_page(run, tmp_path / "page.html", samples=9)
    page, data = opened(tmp_path / "page.html"), read(tmp_path / "page.html")
    means = codes_of(data)
    pictures = np.frombuffer(b64decode(data["images"]), np.uint8).reshape(9, 16, 16, 3)

    samples = page.locator("#samples input")
    samples.nth(3).check()
    assert f"{HOSTILE}" in page.inner_text("#status")
    assert_shows(page, "#original", pictures[3] / 255)
    assert_shows(page, "#decoded", run.decode(means[3:4])[0])
    assert_shows(page, "#samples label:nth-child(8) canvas", pictures[7] / 255)

    for details in page.locator("details").all():
        details.click()
    code = means[3].copy()
    assert page.locator("input[type=range]").count() == 5
    page.get_by_role("slider", name="z4").fill("1.5")
    code[4] = 1.5
    assert_shows(page, "#decoded", run.decode(code[None])[0])
    page.get_by_role("slider", name="z4").press("ArrowLeft")
    code[4] = 1.45
    assert_shows(page, "#decoded", run.decode(code[None])[0])
    assert page.inner_text("#status") == "expression z4: 1.45"
    assert page.inner_text("#touched") == "expression z4 from \u22123 to 3"
    page.locator("#strip button").nth(1).click()
    code[4] = -2
    assert_shows(page, "#decoded", run.decode(code[None])[0])
    assert_shows(page, "#strip button:nth-child(2) canvas", run.decode(code[None])[0])

    page.get_by_text("Random").click()
    code = np.array(page.evaluate("() => Array.from(code)"), np.float32)
    assert np.abs(code - means[3]).min() > 0
    assert_shows(page, "#decoded", run.decode(code[None])[0])
    assert not page.is_visible("#original")
    page.get_by_text("Reset").click()
    assert_shows(page, "#decoded", run.decode(means[3:4])[0])
    assert samples.nth(3).is_checked()

    page.get_by_label("Swap").check()
    assert not page.is_visible("#decoded")
    samples.nth(6).check()
    page.get_by_label("B", exact=True).check()
    samples.nth(2).check()
    page.locator("#boxes").get_by_label("expression").check()
    mixed = means[6].copy()
    mixed[2:] = means[2, 2:]
    assert_shows(page, "#mixed", run.decode(mixed[None])[0])
    assert page.inner_text("#of-mixed") == "Decoded: pose of A, expression of B"
    grid = page.locator("#combinations button")
    assert [cell.inner_text().split() for cell in grid.all()] == [
        ["pose", a, "expression", b] for a, b in ("AA", "BA", "AB", "BB")
    ]
    grid.nth(1).click()
    mixed = np.concatenate([means[2, :2], means[6, 2:]])
    for canvas in ("#mixed", "#combinations button:nth-child(2) canvas"):
        assert_shows(page, canvas, run.decode(mixed[None])[0])
    for name, sample in (("A", 6), ("B", 2)):
        assert_shows(page, f"#{name}", pictures[sample] / 255)
    page.get_by_label("Latent").check()
    assert samples.nth(3).is_checked()


def test_a_page_of_the_prior_needs_no_images(
    runs: Callable[..., OpenRun], opened: Callable[[Path], Page], tmp_path: Path
) -> None:
    run = runs()
    shutil.copytree(run.files.path, tmp_path / "run")
    alone = replace(
        open_run(tmp_path / "run"), files=replace(open_run(tmp_path / "run").files, moved=tmp_path / "gone")
    )
    write_page(alone, tmp_path / "page.html", samples=1)
    page = opened(tmp_path / "page.html")
    prior = np.random.default_rng(0).standard_normal((1, 5), dtype=np.float32)
    for canvas in ("#decoded", "#samples canvas"):
        assert_shows(page, canvas, run.decode(prior)[0])
    assert not page.is_visible("#original")
    assert "1 codes drawn from the prior" in page.inner_text("header")
