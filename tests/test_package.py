"""The wheel: one package at its top, all of the four folders in it, and users' own packages of the same names stay theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

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
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
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
    others = {"__init__.py", "py.typed", "pipelines/experiments/paper_tables.csv"}
    assert {name.removeprefix("gated_vae/") for name in names if name.startswith("gated_vae/")} == modules | others


def test_installed_it_leaves_users_their_own_models(wheel: Path, tmp_path: Path) -> None:
    target, mine = tmp_path / "site", tmp_path / "mine"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, folder=tmp_path)
    assert {path.name for path in target.iterdir() if path.suffix != ".dist-info"} == {"bin", "gated_vae"}
    (mine / "models").mkdir(parents=True)
    (mine / "models" / "__init__.py").write_text("")
    words = "from gated_vae import GatedVAE, PairLoader; import models; print(models.__file__, GatedVAE, PairLoader)"
    expected = f"{mine / 'models' / '__init__.py'} <class 'gated_vae.models.vae.GatedVAE'>"
    assert run("-c", words, folder=mine, PYTHONPATH=str(target)).startswith(expected)
    assert str(target) in run("-c", "import gated_vae; print(gated_vae.__file__)", folder=mine, PYTHONPATH=str(target))


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    checks, measures = {"mypy", "ruff"}, {"polars"}
    needed = map(Requirement, [*project["dependencies"], *extras["cpu"], *extras["dev"], *extras["bench"]])
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in needed:
        if requirement.name not in checks | measures:
            (bound,) = requirement.specifier
            same = Version(bound.version) == Version(pinned[requirement.name])
            assert (bound.operator, same) == (">=", requirement.name != "torch"), requirement
