"""Every command and every Python example of README and the guides runs, at small size, page by page, in a folder of its own.

A block that cannot run has `<!-- not run: REASON -->` in the line before it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.docs import starter
from tests.docs.check import ROOT, pages
from tests.docs.small import small
from tests.machine import free_place

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^(?:\w+=\S+ )*(?:pipe|make|pip|python3?|torchrun|pytest) ", re.MULTILINE)
PORT = "8815"
ASKING = Path(starter.__file__)


class Block(NamedTuple):
    """A block of a page: what is typed, in which language, and why it is not run."""

    text: str
    language: str
    reason: str


def blocks(page: str) -> Iterator[Block]:
    """The commands and the Python of a page; other blocks show files and folders."""
    for found in BLOCK.finditer(page):
        if found["language"] == "python" or COMMAND.search(found["text"]):
            yield Block(found["text"], found["language"] or "sh", found["reason"] or "")


def guides() -> dict[str, Path]:
    """Every page with something to run, but for results, whose commands take hours, and tutorials, which are run as scripts."""
    others = {"results", "tutorials"}
    found = {str(path.relative_to(ROOT)): path for path in pages(ROOT) if not others & {*path.relative_to(ROOT).parts}}
    return {name: path for name, path in found.items() if any(not block.reason for block in blocks(path.read_text()))}


def test_blocks_are_told_from_pictures_of_folders_and_from_those_not_to_be_run() -> None:
    page = "```\nstore/\n  a\n```\n<!-- not run: too large -->\n```\npipe x\n```\n\n```python\na\n```\n```\nRANK=0 pipe y\n```\n"
    assert [(block.text, block.reason) for block in blocks(page)] == [
        ("pipe x\n", "too large"),
        ("a\n", ""),
        ("RANK=0 pipe y\n", ""),
    ]
    assert {"README.md", "docs/start.md", "docs/own_data.md", "docs/openface.md", "docs/using.md"} <= guides().keys()


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("train s --out r --epochs 30", "train s --out r --steps 6"),
        ("simulate faces --n 2000 --seed 1", "simulate faces --seed 1 --n 300"),
        ("cluster s --pose 40", "cluster s --pose 8"),
        ("cluster s", "cluster s"),
    ],
)
def test_commands_are_made_small(given: str, made: str) -> None:
    assert " ".join(small(given.split())) == made


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which `pipe` is this code at small size, and `make` only looks whether there is such a target."""
    folder = tmp_path_factory.mktemp("bin")
    started, asked = (
        f'exec "{sys.executable}" {how} "$@"' for how in ("-m tests.docs.small", f"-IS {ASKING} {folder}/socket")
    )
    scripts = {
        "pipe": f'case "$1" in serve | explore) {started} ;; esac\n{asked}',  # those that end when they are told to
        "make": f'grep -q "^$1:" "{ROOT}/Makefile"',
    }
    for name, lines in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    meeting = dict(zip(("MASTER_ADDR", "MASTER_PORT"), map(str, free_place()), strict=True))  # of ranks
    environment |= meeting | {f"PET_{name}": value for name, value in meeting.items()}  # PET_: as torchrun reads them
    command = [sys.executable, "-m", "tests.docs.starter", f"{folder}/socket"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        yield environment
        starter.terminate()


def run(commands: str, folder: Path, shell: dict[str, str]) -> None:
    told = subprocess.run(
        ["bash", "-euc", commands], cwd=folder, env=shell, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, f"{commands}\n{told.stdout[-2000:]}\n{told.stderr[-2000:]}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, shell: dict[str, str]) -> Path:
    """What pages take as given: pictures with labels, OpenFace's output, a store with pairs, a run, pictures to encode."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    labels = ["filename,x,y,hue,ground,kind"]
    for name in ("photos", "mine"):
        (folder / name).mkdir()
    for number in range(300):
        x, y, hue = rng.uniform(8, 56, 3)
        labels.append(f"{number}.png,{x:.2f},{y:.2f},{hue * 6:.1f},{'plain' if number % 2 else 'striped'},{number % 3}")
        pixels = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        pixels[int(y) - 6 : int(y) + 6, int(x) - 6 : int(x) + 6] = (int(hue * 4), 200, 255 - int(hue * 4))
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    run(
        "pipe simulate faces --out faces --n 300 --seed 1; mv faces/processed .; mv faces/identity.txt identity_CelebA.txt\n"
        "rm -r faces; pipe preprocess celeba --openface processed --identities identity_CelebA.txt --size 32 --out store\n"
        "pipe cluster store --pose 8; pipe pair store --share identity=identity\n"
        "pipe train store --out run --preset faces-partners",
        folder,
        shell,
    )
    for path in sorted((folder / "processed").rglob("*.bmp"))[:4]:
        shutil.copy(path, folder / "mine" / f"{path.parent.name}-{path.name}")
    return folder


def serve(command: str, folder: Path, shell: dict[str, str], stack: ExitStack) -> None:
    """Start a service, which ends with the page."""
    server = subprocess.Popen(
        ["bash", "-euc", f"exec {command}"], cwd=folder, env=shell, stdout=subprocess.PIPE, text=True
    )
    stack.enter_context(server)
    stack.callback(server.terminate)
    assert server.stdout is not None
    assert "serving" in server.stdout.readline()


def elsewhere(page: str) -> str:
    """A page whose service is at a port that is free, of an address where nobody takes it."""
    host, port = free_place()
    return page.replace(f"127.0.0.1:{PORT}", f"{host}:{port}").replace(f"--port {PORT}", f"--host {host} --port {port}")


@pytest.mark.slow
@pytest.mark.parametrize("name", guides())
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("fresh_forks")
def test_everything_that_a_page_shows_runs(
    name: str, inputs: Path, shell: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = elsewhere(guides()[name].read_text())
    made = set(re.findall(r"--out (\w+)", page))
    for path in inputs.iterdir():
        if path.name not in made:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    with ExitStack() as stack:
        for block in blocks(page):
            if block.reason:
                continue
            if block.language == "python":
                exec(compile(block.text, name, "exec"), namespace)
            elif block.text.startswith("pipe serve"):
                serve(block.text, tmp_path, shell, stack)
            else:
                run(block.text, tmp_path, shell)
