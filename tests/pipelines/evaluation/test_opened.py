"""A run opened for use: what is read, how often, and what its methods give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gated_vae.pipelines
from gated_vae.pipelines.evaluation.opened import open_run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.pipelines.evaluation.test_probes_of_faces import label_store, pipe, train_tiny


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    return train_tiny(label_store(store), tmp_path / "run", {"pose": 2, "expression": 2})


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "RUN"),
        ("traverse", "RUN"),
        ("report", "RUN"),
        ("encode", "RUN", "STORE", "--out", "codes.parquet"),
        ("export", "RUN", "--out", "encoder.pt2"),
        ("inspect", "RUN"),
        ("verify", "RUN"),
        ("finetune", "RUN", "--steps", "2"),
        ("train", "STORE", "--out", "other", "--steps", "2", "--network", "fc", "--batch-size", "16"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_reads_one_checkpoint_and_opens_one_store(
    words: tuple[str, ...], run: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the files: of weights, and of the manifest and the images of a store."""
    from gated_vae.models import checkpoint
    from gated_vae.preprocessing import store as stores

    read: list[str] = []

    def noting(name: str, function: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            read.append(f"{name} {Path(path).name}")
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr(checkpoint, "_read", noting("weights", checkpoint._read))
    monkeypatch.setattr(stores, "read_json", noting("store", stores.read_json))
    monkeypatch.chdir(tmp_path)
    places = {"RUN": run, "STORE": store.path}
    assert pipe(*(places.get(word, word) for word in words)) == 0
    weights = [what for what in read if what.startswith("weights") and ".state." not in what]
    assert len(weights) <= 1
    assert len([what for what in read if what.startswith("store")]) <= 1


def test_images_of_any_source_become_codes_and_codes_images(run: Path) -> None:
    opened = gated_vae.pipelines.open_run(run)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    mean, std = opened.encode(images)
    assert (mean.shape, mean.dtype, std.shape) == ((5, 4), np.float32, (5, 4))
    assert (std > 0).all()
    np.testing.assert_allclose(opened.encode(images.astype(np.float32) / 255).mean, mean, atol=1e-6)
    decoded = opened.decode(mean)
    assert decoded.shape == (5, 16, 16)
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert opened.partitions == {"pose": slice(0, 2), "expression": slice(2, 4)}
    with pytest.raises(GatedVAEError, match=r"trained on images of \(16, 16\), these are \(8, 8\)"):
        opened.encode(images[:, :8, :8])


def test_pixels_are_bytes_or_shares_of_white_and_codes_finite(run: Path) -> None:
    """What is scaled otherwise would be encoded to something, too."""
    opened = open_run(run)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    mean = opened.encode(images).mean
    for same in (images.astype(np.int64), (images / 255).astype(np.float64), images.tolist(), torch.from_numpy(images)):
        np.testing.assert_allclose(opened.encode(same).mean, mean, atol=1e-5)
    wrong = (images.astype(np.float32), images > 9, images.astype(np.int64) - 1, images / -255.0, images * np.nan)
    for pixels in wrong:
        with pytest.raises(GatedVAEError, match="cannot encode the images"):
            opened.encode(pixels)
    for codes in (mean[0], mean[:, :3], mean * np.inf, mean * np.nan):
        with pytest.raises(GatedVAEError, match="cannot decode the codes"):
            opened.decode(codes)
    assert opened.decode(opened.encode(images[:0]).mean).shape == (0, 16, 16)


def test_samples_are_a_function_of_the_seed(run: Path) -> None:
    opened = open_run(run)
    np.testing.assert_array_equal(opened.sample(3, seed=1), open_run(run).sample(3, seed=1))
    assert (opened.sample(3, seed=1) != opened.sample(3, seed=2)).any()
    noise = np.random.default_rng(1).standard_normal((3, 4), dtype=np.float32)
    np.testing.assert_array_equal(opened.sample(3, seed=1), opened.decode(noise))
