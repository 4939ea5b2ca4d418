"""The page without a browser: what it is asked comes as a browser would send it."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("bokeh", reason="the explorer is an extra: pip install '.[explore]'")
from bokeh.document import Document
from jinja2 import Template

from gated_vae import open_store, read_pictures
from gated_vae.models.figures.sheet import PALETTE, coloured
from gated_vae.pairing.tables import write_groups
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.page import LARGEST_UPLOAD, Page, build, picture
from gated_vae.pipelines.explore.subject import Opener
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import remove, write_parquet
from gated_vae.preprocessing.store import SCHEMA_VERSION, groups_path, samples_path
from tests.pipelines.explore.runs import make_run
from tests.stores import make_store

Told = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("explore"), 120)


def page_of(path: Path, *, is_run: bool = True) -> tuple[Page, Callable[..., Told]]:
    """A page, and what asks it something: it gives what came back."""
    page, count = Page(Opener(path, is_run).subject(), Document()), iter(range(10**6))

    def ask(do: str, **values: Any) -> Told:
        page._wire.asked = json.dumps({"do": do, **values, "n": next(count)})
        return dict(json.loads(page._wire.told))

    return page, ask


def pixels(html: str, name: str) -> np.ndarray:
    """The picture of a figure in the page, (H, W, 3)."""
    data = html.partition(f'data-name="{name}"')[2].partition("base64,")[2].partition('"')[0]
    return cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_a_moved_slider_shows_what_the_decoder_makes(made: Path) -> None:
    page, ask = page_of(made)
    ask("open", tab="latent")
    ask("encode", value="7")
    run = page.subject.its_run()
    code = run.encode(run.store.images[7:8]).mean
    shown = ask("slide", dimension=4, value=-1.25)["parts"]["latent-pictures"]
    code[0, 4] = -1.25
    np.testing.assert_array_equal(pixels(shown, "decoded"), coloured(run.decode(code), 1)[0])
    np.testing.assert_array_equal(pixels(shown, "original"), coloured(run.store.images[7:8], 1)[0])
    assert "latent-sliders" in ask("reset")["parts"]  # where they stand
    far = ask("slide", dimension=4, value=99)
    code[0, 4] = 3
    np.testing.assert_array_equal(pixels(far["parts"]["latent-pictures"], "decoded"), coloured(run.decode(code), 1)[0])


def test_partitions_keep_the_colours_of_the_figures(made: Path) -> None:
    _, ask = page_of(made)
    sliders = ask("open", tab="latent")["parts"]["latent-sliders"]
    assert (
        sliders.index(PALETTE[0]) < sliders.index("pose z") < sliders.index(PALETTE[1]) < sliders.index("expression z")
    )
    assert PALETTE[2] not in sliders


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"do": "encode", "value": "120"}, "There is no sample 120."),
        ({"do": "encode", "value": "-1"}, "There is no sample -1."),
        ({"do": "encode", "value": "1e3"}, "That is no whole number."),
        ({"do": "encode", "sample": None}, "That is no whole number."),
        ({"do": "slide", "dimension": 5, "value": 0}, "There is no dimension 5."),
        ({"do": "slide", "dimension": 0, "value": float("nan")}, "That is no number."),
        ({"do": "slide", "dimension": 0, "value": "a"}, "That is no number."),
        ({"do": "slide"}, "That is no whole number."),
        ({"do": "slide", "dimension": 0, "value": 10**400}, "That is no number."),
        ({"do": "map", "key": ["count"], "value": "120"}, "The page asked for something that there is not."),
        ({"do": "map", "key": "count", "value": [1]}, "The page asked for something that there is not."),
        ({"do": "open", "tab": ["map"]}, "The page asked for something that there is not."),
        (None, "The page asked for something that there is not."),
        ({"do": "__class__"}, "The page asked for something that there is not."),
        ({"do": ["open"]}, "The page asked for something that there is not."),
        ({"do": "open", "tab": "nose"}, "The page asked for something that there is not."),
        ([], "The page asked for something that there is not."),
        ({"do": "map", "key": "column", "value": "nose"}, "There is no column nose."),
        ({"do": "map", "key": "__class__", "value": "nose"}, "There is no __class__ nose."),
        ({"do": "partition", "value": "../../etc"}, "There is no partition ../../etc."),
        ({"do": "group", "value": "99999"}, "There is no group 99999."),
        ({"do": "partners", "value": 10**30}, f"There is no sample {10**30}."),
        ({"do": "swap", "partition": -1, "value": True}, "There is no partition -1."),
        ({"do": "term", "value": "__class__"}, "There is no such loss."),
        ({"do": "upload"}, "None is too large."),
    ],
)
def test_what_the_page_cannot_have_asked_is_refused_and_told(made: Path, message: Any, told: str) -> None:
    page, ask = page_of(made)
    for tab in ("latent", "swap", "map", "pairs", "training"):
        ask("open", tab=tab)
    page._wire.asked = json.dumps(message)
    answer = json.loads(page._wire.told)
    assert answer["kind"] == "bad"
    assert answer["message"].startswith(told)
    assert ask("reset")["parts"].keys() == {"latent-sliders", "latent-pictures", "latent-strip"}


def test_what_is_asked_opens_its_tab(made: Path) -> None:
    for wish in (
        {"do": "slide", "dimension": 0, "value": 1},
        {"do": "swap", "partition": 0},
        {"do": "group", "value": 0},
    ):
        _, ask = page_of(made)
        assert ask(**wish)["kind"] == ""
    page, ask = page_of(made)
    page._wire.asked = "[" * 100_000
    assert json.loads(page._wire.told)["message"].startswith("The page asked for something")


def map_of(path: Path) -> tuple[Any, Callable[..., Told]]:
    """The map of a run, laid out."""
    page, ask = page_of(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "later", lambda work, then: then(work()))
        assert ask("open", tab="map")["kind"] == ""
    return page.tabs["map"], lambda call: [page.guarded(call), json.loads(page._wire.told)][1]


def test_labels_of_any_kind_colour_the_map_and_are_compared(tmp_path: Path) -> None:
    path = make_run(tmp_path, 60)
    tab, does = map_of(path)
    sheet = does(lambda: tab._lasso([0, 1]))["parts"]
    assert "Means of its labels" in sheet["map-means"]
    assert does(lambda: tab._lasso([-1]))["parts"]["map-sheet"] == ""
    for columns, means in ({"word": ["a" * 10_000, *["b"] * 59]}, ""), ({}, ""):
        table = pa.table({"sample_id": np.arange(60), **columns})
        write_parquet(samples_path(tmp_path / "store"), table, schema_version=SCHEMA_VERSION)
        tab, does = map_of(path)
        told = does(lambda: tab._lasso([0, 1]))["parts"]  # noqa: B023
        assert (told["map-sheet"].count("picture/"), told["map-means"]) == (2, means)
        assert len(tab._legend) < 500
        assert len({*tab._source.data["colour"]}) == 1 + len(columns)


def test_a_map_is_given_up_when_the_explorer_ends(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, ask = page_of(made)
    monkeypatch.setattr(page, "later", lambda work, then: then(work()))
    monkeypatch.setattr("gated_vae.pipelines.explore.page._ENDS", (ends := Event()))
    ends.set()
    assert ask("open", tab="map")["message"] == "The explorer ends."


def test_what_cannot_be_opened_any_more_is_told_in_the_page(tmp_path: Path) -> None:
    path, document = make_run(tmp_path, 60), Document()
    _, ask = page_of(path)
    opener = Opener(path, is_run=True)
    opener.subject()
    remove(path)
    assert ask("open", tab="training")["message"].startswith(f"{path} is gone.")
    build(opener, document)
    assert document.template_variables["why"].startswith(f"{path / 'config.json'} does not exist.")
    shown = document.template.render(base=Template("{% block contents %}{% endblock %}"), **document.template_variables)
    assert document.template_variables["why"] in shown
    assert not document.roots


def test_new_scores_are_shown_while_training_is_looked_at(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, ask = page_of(made)
    assert "None yet" in ask("open", tab="training")["parts"]["training-scores"]
    page.guarded(page.tabs["training"]._refresh)
    assert json.loads(page._wire.told)["parts"] == {}
    monkeypatch.setattr(page.tabs["training"], "_scores", lambda: "some")
    page.guarded(page.tabs["training"]._refresh)
    assert json.loads(page._wire.told)["parts"]["training-scores"] == "some"


def uploaded(data: bytes, name: str = "face.png") -> dict[str, str]:
    return {"name": name, "value": b64encode(data).decode()}


def test_a_picture_of_the_users_own_is_decoded_as_ever(made: Path, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), drawn)
    page, ask = page_of(made)
    ask("open", tab="latent")
    shown = ask("upload", **uploaded(path.read_bytes()))["parts"]["latent-pictures"]
    expected = read_pictures([path], (16, 16))
    np.testing.assert_array_equal(pixels(shown, "original"), coloured(expected, 1)[0])
    run = page.subject.its_run()
    np.testing.assert_array_equal(pixels(shown, "decoded"), coloured(run.decode(run.encode(expected).mean), 1)[0])
    ask("open", tab="swap")
    swapped = ask("mine", side="B", **uploaded(path.read_bytes(), "<b>mine</b>"))["parts"]["swap-pictures"]
    np.testing.assert_array_equal(pixels(swapped, "B"), coloured(expected, 1)[0])
    assert "&lt;b&gt;mine" in swapped
    assert "<b>mine" not in swapped


def test_colours_of_an_upload_are_those_of_read_pictures(tmp_path: Path) -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), drawn)
    found = parts.uploaded(uploaded(path.read_bytes()), (20, 24, 3), LARGEST_UPLOAD)
    np.testing.assert_array_equal(found, read_pictures([path], (20, 24, 3))[0])
    encoded = cv2.imdecode(np.frombuffer(parts.png(found), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(encoded[..., ::-1], found)


def bomb() -> bytes:
    """A PNG of a kilobyte that claims 60,000 x 60,000 pixels."""
    tiny = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    return tiny[:16] + (60_000).to_bytes(4, "big") * 2 + tiny[24:]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "face.png is no picture."),
        (b"\x89PNG\r\n\x1a\n" + b"junk" * 99, "face.png is no picture."),
        (b"%PDF-1.7 " * 20, "face.png is no picture."),
        (b"<svg onload='alert(1)'/>", "face.png is no picture."),
        (bomb(), "face.png is no picture."),
        (bytes(LARGEST_UPLOAD + 8), "face.png is too large."),
    ],
)
def test_a_hostile_upload_is_refused(made: Path, data: bytes, told: str) -> None:
    _, ask = page_of(made)
    ask("open", tab="latent")
    for do in ("upload", "mine"):
        answer = ask(do, **uploaded(data))
        assert (answer["kind"], answer["message"].splitlines()[0]) == ("bad", told)
    assert ask("upload", name="face.png", value="no base 64 !")["message"].startswith("face.png is no picture.")


def test_swaps_take_whole_partitions_of_b(made: Path) -> None:
    page, ask = page_of(made)
    ask("open", tab="swap")
    ask("side", side="A", value="3")
    ask("side", side="B", value="8")
    run = page.subject.its_run()
    a, b = run.encode(run.store.images[[3, 8]]).mean
    ask("swap", partition=0, value=True)
    shown = ask("swap", partition=1, value=False)["parts"]
    code = np.concatenate([b[:3], a[3:]])
    np.testing.assert_array_equal(pixels(shown["swap-pictures"], "swapped"), coloured(run.decode(code[None]), 1)[0])
    assert shown["swap-grid"].count("<img") == 4
    assert shown["swap-grid"].partition('data-combination="1"')[0].endswith('aria-pressed="true" ')


def test_without_its_store_codes_can_be_chosen_and_swapped(tmp_path: Path) -> None:
    path = make_run(tmp_path, 60)
    remove(tmp_path / "store")
    page, ask = page_of(path)
    answer = ask("open", tab="latent")
    assert f"There is no folder {tmp_path / 'store'}." in answer["message"]
    assert answer["parts"].keys() >= {"latent-sliders", "latent-pictures", "latent-strip"}
    assert "swap-grid" in ask("open", tab="swap")["parts"]
    assert ask("open", tab="map")["message"].startswith("There are no pictures of the store.")
    shown = ask("random")["parts"]["latent-pictures"]
    assert np.ptp(pixels(shown, "decoded")) > 0
    assert page.subject.kl() is None


def test_a_store_alone_has_pairs_and_groups(made: Path) -> None:
    page, ask = page_of(made.parent / "store", is_run=False)
    assert [*page.tabs] == ["pairs"]
    shown = ask("open", tab="pairs")["parts"]
    assert shown["pairs-group"].count("picture/") == 6  # of 120 samples in 20 groups
    assert "Nothing was rejected" in shown["pairs-rejected"]
    other = ask("partition", value="expression")["parts"]
    assert other["pairs-group"].count("picture/") == 24


def test_only_groups_with_centroids_have_a_spread_and_nearest_samples(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 200)
    group, numbers = np.zeros(200, np.int32), np.arange(200)
    for distance, heading, shown in (
        (0.0 * numbers, "Group 0: 200 samples, 50 of them", numbers[::4]),
        (200.0 - numbers, "Group 0: 200 samples, 60 nearest to the centroid", numbers[:139:-1]),
    ):
        write_groups(groups_path(store.path, "pose"), group, distance.astype(np.float32))
        page, ask = page_of(store.path, is_run=False)
        told = ask("open", tab="pairs")["parts"]
        assert heading in told["pairs-group"]
        assert [int(it) for it in re.findall(r"picture/(\d+)", told["pairs-group"])] == shown.tolist()
        assert bool(told["pairs-spread"]) == page.tabs["pairs"].plots[0].visible == distance.any()


def test_a_store_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = make_run(tmp_path, 60)
    opener = Opener(path, is_run=True)
    first = opener.subject()
    assert opener.subject() is first
    _, ask = page_of(path)
    ask("open", tab="latent")
    store = open_store(tmp_path / "store")
    store.with_partitions(store.partitions)
    assert "has changed since it was opened" in ask("encode", value="3")["message"]
    assert opener.subject() is not first
    np.save(store.path / "images.npy", store.images[::-1].copy())
    store.manifest["digests"]["images.npy"] = "sha256:other"
    store.with_partitions(store.partitions)
    assert "other images than those it was trained on" in opener.subject().missing


def test_codes_that_are_not_finite_are_told(made: Path) -> None:
    page, ask = page_of(made)
    ask("open", tab="latent")
    with pytest.raises(GatedVAEError, match="not finite"):
        parts.png(np.full((4, 4), np.nan))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(page.subject.its_run()), "decode", lambda *_: np.full((1, 16, 16), np.nan, np.float32))
        assert ask("slide", dimension=0, value=1.0)["message"].startswith("The picture is not finite.")


def test_pictures_of_samples_are_theirs_and_of_nothing_else(made: Path) -> None:
    opener = Opener(made, is_run=True)
    for sample in (0, 119):
        found = cv2.imdecode(np.frombuffer(picture(opener, sample) or b"", np.uint8), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(found, opener.subject().image(sample))
    assert picture(opener, 120) is None
    assert picture(Opener(made / "nothing", is_run=False), 0) is None


def test_a_page_is_made_for_every_browser(made: Path) -> None:
    documents = [Document(), Document()]
    for document in documents:
        build(Opener(made, is_run=True), document)
    assert {root.name for root in documents[0].roots} == {"wire", "map-plot", "groups-plot", "loss-plot"}
    assert documents[0].template is not None
