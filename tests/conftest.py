"""What tests share: where real inputs lie, and a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gated_vae.preprocessing.store import Store
from tests.stores import make_store


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inputs; tests that need it skip where it is not given."""
    folder = os.environ.get("GATED_VAE_DATA")
    if not folder:
        pytest.skip("GATED_VAE_DATA is not set: no real inputs to test on")
    return Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of 300 images with pairs in two partitions, three draws."""
    return make_store(tmp_path / "store")


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of inputs as people have them; tests that need it skip where it is not given."""
    folder = os.environ.get("GATED_VAE_CASES")
    if not folder:
        pytest.skip("GATED_VAE_CASES is not set: none of the folders that people have")
    return Path(folder)
