"""The scripts of examples/, where what they need is installed."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from gated_vae.pipelines import cli
from gated_vae.preprocessing.store import Store, open_store

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_first_line_says_how_to_run_it() -> None:
    for path in EXAMPLES.glob("*.py"):
        first = path.read_text().partition("\n")[0]
        if first == "# %% [markdown]":  # a tutorial
            continue
        assert re.fullmatch(rf'"""pip install .*; python examples/{path.name} .*', first)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_from_pairs_and_goes_on(store: Store, tmp_path: Path, workers: int) -> None:
    pytest.importorskip("lightning", reason="lightning is no dependency: pip install lightning")

    def run(*words: object) -> str:
        script = [sys.executable, EXAMPLES / "lightning_loop.py", store.path, "--batch-size", 32, "--out", tmp_path]
        command = [*script, "--workers", workers, *words]
        return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout

    assert "epochs 2, steps 40, " in run("--epochs", 2)  # 20 steps an epoch
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert "epochs 3, steps 60, " in run("--epochs", 3, "--resume", checkpoint)


@pytest.fixture
def render() -> ModuleType:
    pytest.importorskip("jupytext")
    return import_module("examples.render")


def test_pages_are_those_of_the_tutorials_as_they_stand(render: ModuleType) -> None:
    """Text and code of each page are those of its script's cells; of pictures there are those that pages show, and small ones."""
    shown = set()
    for script in render.tutorials():
        page = (render.PAGES / f"{script.stem}.md").read_text()
        cells = render.jupytext.read(script, fmt="py:percent").cells
        parts = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells]
        expected = "\n\n".join([*parts, render.ENDING.format(name=script.stem)])
        found = re.sub(r"^(```text\n.*?\n```|!\[[^\n]*)\n\n", "", page, flags=re.DOTALL | re.MULTILINE)
        assert found == expected, f"{script.name} has changed: python examples/render.py {script.stem}"
        shown |= set(re.findall(r"^!\[.*\]\(figures/(.*)\)$", page, re.MULTILINE))
    pictures = list((render.PAGES / "figures").iterdir())
    assert {path.name for path in pictures} == shown
    assert max(path.stat().st_size for path in pictures) < 100_000


def in_this_process(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
    """What a tutorial's command prints, without the seconds that each would import for."""
    assert command[:3] == [sys.executable, "-m", "gated_vae.pipelines.cli"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit, match=r"^0$"):
        cli.main(command[3:])
    return subprocess.CompletedProcess(command, 0, printed.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "partitions"),
    [
        ("demo_in_pandas", (None, 32, 32), ["pose", "expression", "identity"]),
        ("own_pictures", (200, 32, 32, 3), ["place", "colour", "ground"]),
        ("sequences", (400, 32, 32), ["film", "place"]),
        ("colour_grid", (2160, 32, 32, 3), ["ground", "hue", "size", "x"]),
        ("dsprites", (1458, 64, 64), ["position", "rotation", "shape", "size"]),
        ("metrics", None, []),
    ],
)
def test_tutorials_run(
    render: ModuleType,
    name: str,
    images: tuple[int | None, ...] | None,
    partitions: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert name in [path.stem for path in render.tutorials()]
    monkeypatch.chdir(tmp_path)
    if name != "demo_in_pandas":  # which shows that a process for each command will do
        monkeypatch.setattr(subprocess, "run", in_this_process)
    page = render.render(EXAMPLES / f"{name}.py", tmp_path / "pages", small=True).read_text()
    assert page.count("![") == len([*(tmp_path / "pages" / "figures").iterdir()]) > 0
    if images is not None:
        store = open_store(tmp_path / "out" / name / "store")
        assert store.images.shape[1:] == images[1:]
        assert images[0] in (None, len(store))
        assert [*store.partitions] == partitions
