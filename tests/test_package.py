"""The wheel: one package at its top, all of the four folders in it, and users' own packages of the same names stay theirs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import gated_vae
from gated_vae.models.objectives import Gaussian
from gated_vae.pipelines import cli
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.train import train
from tests.pipelines.test_trainer import MODEL, config
from tests.stores import make_store

ROOT = Path(__file__).parents[1]
FOLDERS = ("models", "pairing", "pipelines", "preprocessing")


def run(*words: object, folder: Path, **variables: str) -> str:
    """What a command of this interpreter prints in a folder."""
    command = [sys.executable, *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, since building leaves files beside the sources; without the network, by the setuptools that is here."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    for name in (*FOLDERS, "src"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run("-m", "pip", "wheel", *offline, "--wheel-dir", folder, source, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    (metadata,) = top - {"gated_vae"}
    assert metadata.endswith(".dist-info")
    modules = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    page = {f"pipelines/explore/{name}" for name in ("decoder.js", "explorer.html", "page.html", "page.js")}
    others = {"__init__.py", "py.typed", "pipelines/experiments/paper_tables.csv", *page}
    assert {name.removeprefix("gated_vae/") for name in names if name.startswith("gated_vae/")} == modules | others


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """The wheel installed in a folder of its own."""
    target = wheel.parent / "site"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, folder=wheel.parent)
    return target


# As README.md has it, in a folder where the user has a package `models`.
OWN_PICTURES = """
import gated_vae, json, models, pathlib
run = gated_vae.open_run("run")
images = gated_vae.read_pictures(sorted(pathlib.Path("pictures").iterdir()), run.image_shape)
mean, std = run.encode(images)
shapes = run.sample(2).shape, run.decode(mean).shape
found = gated_vae.__file__, models.__file__, images.tolist(), mean.tolist(), std.tolist(), shapes, str(run.partitions)
print(json.dumps(found))
"""


def test_installed_it_needs_a_run_alone_and_leaves_users_their_own_models(site: Path, tmp_path: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"bin", "gated_vae"}
    store, mine = make_store(tmp_path / "store"), tmp_path / "mine"
    images = np.array(store.images[:3])
    train(config(store, steps=3, model=replace(MODEL, likelihood=Gaussian())), TrainOptions(tmp_path / "run"))
    expected = gated_vae.open_run(tmp_path / "run").encode(images)
    shutil.rmtree(store.path)
    for name in ("pictures", "models"):
        (mine / name).mkdir(parents=True)
    (mine / "models" / "__init__.py").touch()
    (tmp_path / "run").rename(mine / "run")
    for name, pixels in zip("abc", images, strict=True):
        assert cv2.imwrite(str(mine / "pictures" / f"{name}.png"), pixels)  # which loses nothing
    made = json.loads(run("-c", OWN_PICTURES, folder=mine, PYTHONPATH=str(site)))
    assert made[0].startswith(str(site))
    assert made[1] == str(mine / "models" / "__init__.py")
    np.testing.assert_array_equal(made[2], images)
    for ours, theirs in zip(made[3:5], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert made[5:] == [[[2, 16, 16], [3, 16, 16]], "{'pose': slice(0, 2, None), 'expression': slice(2, 5, None)}"]


def test_the_version_is_the_same_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Installed, it is what pyproject.toml says; citation and changelog are told by hand."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"gated-vae {version}\n"
    assert gated_vae.__version__ == version
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Vowels", "Camgoz", "Bowden"]
    released = re.findall(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    checks, measures = {"jupytext", "mypy", "onnxruntime", "onnxscript", "playwright", "ruff"}, {"polars"}
    needed = map(Requirement, [*project["dependencies"], *extras["cpu"], *extras["dev"], *extras["bench"]])
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in needed:
        if requirement.name not in checks | measures:
            (bound,) = requirement.specifier
            same = Version(bound.version) == Version(pinned[requirement.name])
            assert (bound.operator, same) == (">=", requirement.name != "torch"), requirement
