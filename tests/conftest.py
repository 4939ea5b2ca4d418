"""What tests share: where real inputs lie, and a store."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from gated_vae.preprocessing.store import Store, open_store
from tests.stores import make_store

# The same examples in every run, however busy the machine: what fails then is what was changed. `make fuzz` looks for others.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def _nobody_says_how_wide_or_coloured_it_shall_be() -> Iterator[None]:
    """What commands print; tests of it set these themselves."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_disk_is_waited_for() -> Iterator[None]:
    """What tests write need not outlive the machine, and waiting for a disk takes longer than all else that a small store takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)
        yield


@pytest.fixture
def fresh_forks() -> Iterator[None]:
    """What earlier tests left is not collected in the processes that this one forks: of gRPC's objects they would hang or abort."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers: in each test the same, whichever tests ran before it."""
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inputs; tests that need it skip where it is not given."""
    folder = os.environ.get("GATED_VAE_DATA")
    if not folder:
        pytest.skip("GATED_VAE_DATA is not set: no real inputs to test on")
    return Path(folder)


@pytest.fixture(scope="session")
def _made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "store").path


@pytest.fixture
def store(_made_store: Path, tmp_path: Path) -> Store:
    """A store of 300 images with pairs in two partitions, three draws; each test has its own."""
    return open_store(shutil.copytree(_made_store, tmp_path / "store"))


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of inputs as people have them; tests that need it skip where it is not given."""
    folder = os.environ.get("GATED_VAE_CASES")
    if not folder:
        pytest.skip("GATED_VAE_CASES is not set: none of the folders that people have")
    return Path(folder)
