"""The checkers find what they are for, on pages made to be wrong; this repository's are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gated_vae.pipelines.cli import VERBS
from tests.docs import check, site

GOOD = (
    "# Title\n\nOne sentence.\nAnother one, e.g. `a. B` (Locatello et al. 2019).\n\n| a | b |\n|---|---|\n| 1 | \\| |\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "results" / "appendix").mkdir(parents=True)
    (tmp_path / "docs" / "figures").mkdir()
    (tmp_path / "README.md").write_text(GOOD)
    return tmp_path


def table(rows: int) -> str:
    return "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * rows


def test_this_repository_keeps_to_its_rules() -> None:
    assert [*check.complaints(check.ROOT)] == []


@pytest.mark.parametrize(
    ("page", "text", "found"),
    [
        ("docs/a.md", GOOD, []),
        ("docs/a.md", "word " * 25, ["docs/a.md:1: 125 characters, 120 at most"]),
        ("docs/a.md", f"See [it](https://{'long' * 40}).", []),
        ("docs/a.md", f"```\n{'x' * 121}\n```", ["docs/a.md:2: 121 characters, 120 at most"]),
        ("docs/a.md", "First one. Second one.", ["docs/a.md:1: more than one sentence on a line"]),
        ("docs/a.md", "- **A title.** Then a sentence.", ["docs/a.md:1: more than one sentence on a line"]),
        ("docs/a.md", "```\necho One. Two.\n```", []),
        ("docs/a.md", "| a | b |\n|---|---|\n| 1 |", ["docs/a.md:3: 1 cells below a header of 2"]),
        ("docs/a.md", table(20), []),
        ("docs/a.md", table(21), ["docs/a.md:23: a table of more than 20 rows"]),
        ("docs/results/a.md", table(12), []),
        ("docs/results/a.md", table(13), ["docs/results/a.md:15: a table of more than 12 rows"]),
        ("docs/results/a.md", f"{table(1)}\n{table(1)}", ["docs/results/a.md:5: a second table"]),
        ("docs/results/appendix/a.md", f"{table(300)}\n{table(1)}\nOne. Two.", []),
        ("docs/a.md", "![a](figures/a.png)", ["docs/a.md:1: a.png is not there"]),
        ("README.md", "\n".join(["a"] * 120), ["README.md: 120 lines, fewer than 120 are wanted"]),
    ],
)
def test_what_is_wrong_with_a_page_is_named(root: Path, page: str, text: str, found: list[str]) -> None:
    (root / page).write_text(text)
    assert [*check.complaints(root)] == found


def test_pictures_are_shown_small_and_few_bytes(root: Path) -> None:
    for name, size in {"wide": (4001, 1), "unseen": (1, 1), "fine": (4000, 10)}.items():
        Image.new("L", size).save(root / "docs" / "figures" / f"{name}.png")
    (root / "docs" / "large.parquet").write_bytes(bytes(300_001))
    (root / "README.md").write_text('<img src="docs/figures/wide.png" width="9">\n![fine](docs/figures/fine.png)\n')
    assert [*check.complaints(root)] == [
        "README.md:1: wide.png has 4001 x 1 pixels, 4000 a side at most",
        "docs/figures/unseen.png: no page shows it",
        "docs/large.parquet: 300,001 bytes, 300,000 at most",
    ]


def test_dead_links_and_what_is_loaded_from_elsewhere_are_found_in_a_site(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1>')
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://x.org"><script src="https://x.org/s.js"></script>'
        '<a href="b.html#here">1</a><a href="b.html#there">2</a><a href="c.html">3</a><a href="#top">4</a>'
        '<a href="https://x.org">5</a>'
    )
    assert [*site.complaints(tmp_path)] == [
        "a.html: loads https://x.org/s.js from elsewhere",
        "a.html: b.html#there has no such anchor",
        "a.html: c.html is not there",
        "a.html: #top has no such anchor",
    ]


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = (check.ROOT / "docs" / "reference" / "commands.md").read_text()
    assert [name for name in VERBS if f"`pipe {name.partition(' ')[0]}" not in listed] == []


def test_nothing_but_documentation_lies_in_docs() -> None:
    kinds = {path.suffix for path in (check.ROOT / "docs").rglob("*") if path.is_file()}
    assert kinds <= {".md", ".png", ".parquet", ".css", ".js"}
