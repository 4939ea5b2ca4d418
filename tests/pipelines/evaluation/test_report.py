"""The report of a run: one file, nothing outside it, nothing unescaped."""

from __future__ import annotations

import json
from base64 import b64decode
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import pytest

from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pairing.exact import Change, pair_exactly
from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pipelines.evaluation import html, pictures
from gated_vae.pipelines.evaluation.opened import open_run
from gated_vae.pipelines.evaluation.pictures import draw_pairs
from gated_vae.pipelines.evaluation.report import write_report
from gated_vae.pipelines.evaluation.scores import Table
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.store import Store
from tests.pipelines.test_cli import pipe
from tests.stores import make_grid_store


class Reader(HTMLParser):
    """Collects tags that are open, sources, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    out = tmp_path / "<b>run & co"
    model = GatedVAEConfig({"pose": 2, "expression": 2}, image_shape=(16, 16), network="fc", hidden=(8, 8))
    train(TrainConfig(store=str(store.path), model=model, steps=4, batch_size=32), TrainOptions(out))
    return out


def test_a_report_holds_its_pictures_and_loads_nothing(run: Path) -> None:
    report = write_report(open_run(run))
    page = report.path.read_text()
    reader = Reader(page)
    assert report.path == run / "report.html"
    assert report.size == len(page.encode())
    assert not report.has_scores
    assert reader.open == []
    drawn = {
        (run / "figures" / f"{name}.png").read_bytes() for name in ("traversals", "swaps", "pairs", "reconstructions")
    }
    assert {b64decode(source.removeprefix("data:image/png;base64,")) for source in reader.sources} == drawn
    assert "url(" not in page
    assert "@import" not in page
    assert "Run <b>run & co" in reader.words
    assert any(words.startswith("None yet: run `pipe evaluate`") for words in reader.words)


def test_the_model_card_says_what_was_trained_on_what_and_keeps_what_people_add(run: Path, store: Store) -> None:
    written = write_report(open_run(run)).card
    assert written == run / "MODEL_CARD.md"
    card = written.read_text()
    manifest = json.loads((store.path / "store.json").read_text())
    for told in (
        f"| store | {manifest['kind']}, {manifest['taken']:,} images of 16x16 pixels |",
        "| latent | pose 2, expression 2 |",
        "| told of pairs | which partition's factors the two images share |",
        manifest["source_digest"],
        "into 4 numbers",
        "It was not: `pipe evaluate` does it",
        "## People in the data",
        "# Model card: &lt;b&gt;run &amp; co",
        f"| card by | gated-vae {version('gated-vae')} |",
    ):
        assert told in card
    assert str(store.path) not in card, "whose machine it was is nobody's business"
    written.write_text(f"{card}They agreed.")
    assert write_report(open_run(run)).card.read_text() == f"{card}They agreed."
    written.write_text("A card of my own.")
    assert write_report(open_run(run)).card.read_text() == f"{card}A card of my own."


def test_pairs_are_those_that_the_run_was_trained_on(store: Store, tmp_path: Path) -> None:
    model = GatedVAEConfig({"expression": 2}, image_shape=(16, 16), network="fc", hidden=(8, 8))
    train(TrainConfig(store=str(store.path), model=model, steps=2, batch_size=32), TrainOptions(tmp_path / "run"))
    card = write_report(open_run(tmp_path / "run")).card
    (row,) = (line for line in card.read_text().splitlines() if line.startswith("| pairs"))
    assert row.startswith("| pairs | expression: kmeans (")
    assert "pose" not in row
    draw_pairs(store, tmp_path / "pairs.png", ["expression"])
    assert (tmp_path / "run/figures/pairs.png").read_bytes() == (tmp_path / "pairs.png").read_bytes()


def test_a_grid_is_told_of_by_its_factors_and_pairs_that_differ_by_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_grid_store(tmp_path / "grid", FactorGrid(("size", "x"), (3, 4)))
    pair_exactly(store, {"size": ["size"], "changed": Change(1)})
    headings: list[str] = []
    sheet = pictures.pair_sheet
    monkeypatch.setattr(pictures, "pair_sheet", lambda images, found: headings.extend(found) or sheet(images, found))
    assert pipe("inspect", store.path, "--pairs", tmp_path / "pairs.png") == 0
    assert headings == ["same size", "changed: 1 factor"]
    told = {line.partition("  ")[0]: line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()}
    assert told["factors"] == "size 3, x 4"
    assert told["partition size"] == "equal in size, draws 1; seed 0, groups 3, merged 0"
    assert told["partition changed"] == "different in 1 factor, draws 1; seed 0, groups 1, merged 0"


def test_scores_are_those_that_were_measured(run: Path) -> None:
    opened = open_run(run)
    dci = dict.fromkeys(("disentanglement", "completeness", "uninformativeness"), 0.25)
    none: dict[str, object] = {"completeness_per_factor": {}, "uninformativeness_per_factor": {}}
    none |= {"disentanglement_per_code": [], "importance": []}
    r2 = {"pose": {"yaw<": 0.815, "AU12": -0.004}, "expression": {"yaw<": 0.12, "AU12": 0.4}}
    swap = {"pairs": 1234} | {
        key: {"pose": 0.9, "expression": 0.8, "both": 0.7} for key in ("by_probe", "by_labels", "unswapped_by_labels")
    }
    scores = {
        "images": 100,
        "held_out": 25,
        "judged_by": "truth",
        "split_by": "by person",
        "people": "unseen",
        "constant": ["AU45_r"],
        "kl": [],
        "left_out": {},
    }
    scores |= {
        "r2": {"ridge": {"sample": r2, "mean": r2}},
        "swap": swap,
        "accuracy": {},
        "circular": {},
        "dci": {"lasso": dci | none},
        "reconstruction": {"rmse": 0.1, "rmse_of_mean_image": 0.2},
    }
    scores |= {"summary": {"ridge": {"sample": {"pose": {"own": 0.81, "other": 0.12, "full": 0.9, "score": 0.69}}}}}
    opened.files.add_metrics("evaluate", scores)
    words = Reader(write_report(opened).path.read_text()).words
    cells = [word for word in words if word]
    at = cells.index("yaw<")
    assert cells[at : at + 6] == ["yaw<", "0.81", "0.12", "AU12", "0.00", "0.40"]  # 0.815 is a little less in binary
    assert "Swap test: shares of 1,234 pairs" in cells
    card = (run / "MODEL_CARD.md").read_text()
    assert "| pose | 0.810 | 0.120 | 0.900 | 0.690 |" in card
    assert "| judges | in no pair and no training image |" in card
    assert cells[cells.index("judged by") + 1] == "25 of 100 images judge, by the truth"
    assert cells[cells.index("left out") + 1].startswith("AU45_r: ")


def test_tables_with_gaps() -> None:
    """A column that lacks a row leaves its cell empty."""
    page = html.table(Table("t", {"a": {"x": 1.0}, "b": {"y": 2.0}}))
    assert page.count("<td></td>") == 2
    assert "1.00" in page
    assert "2.00" in page
