"""Images in colour through everything that takes images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gated_vae.models.figures.grids import sample_grid, traversal_grid
from gated_vae.models.figures.sheet import png
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.registry import METHODS, NETWORKS
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.service.server import PairService, ServiceOptions
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.evaluation.opened import open_run
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import train_stack
from gated_vae.preprocessing.store import Store
from tests.folders import write_picture
from tests.pipelines.test_cli import TINY, pipe
from tests.stores import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("colour") / "store", colour=True)


def test_sides_that_cannot_be_halved_need_the_fully_connected_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, folder in enumerate("aabb"):
        write_picture(tmp_path / "in" / folder / f"{number}.png", number, 9, 20)
    assert pipe("preprocess", "images", tmp_path / "in", "--size", "17x9", "--out", tmp_path / "store") == 0
    assert pipe("pair", tmp_path / "store", "--share", "label=label") == 0
    words = ("train", tmp_path / "store", "--steps", "1", "--batch-size", "2", "--out", tmp_path / "run")
    assert pipe(*words) == 1
    assert "network fc" in capsys.readouterr().err
    assert pipe(*words, "--network", "fc") == 0


def test_a_store_in_colour_is_trained_on_judged_drawn_and_exported(store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    conv = (*TINY[2:], "--network", "conv", "--hidden", "4,8", "--method", "partners")
    assert pipe("train", store.path, "--out", run, *conv) == 0
    assert json.loads((run / "config.json").read_text())["train"]["model"]["image_shape"] == [16, 16, 3]
    for command in ("evaluate", "traverse", "report", "finetune", "verify"):
        assert pipe(command, run, *(("--steps", "2") if command == "finetune" else ())) == 0, command
    assert pipe("encode", run, store.path, "--out", tmp_path / "codes.parquet") == 0
    opened = open_run(run)
    assert opened.sample(2).shape == (2, 16, 16, 3)
    assert opened.decode(opened.encode(store.images[:5]).mean).shape == (5, 16, 16, 3)
    assert pipe("export", run, "--out", tmp_path / "encoder.pt2") == 0
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    mean, std = program(torch.from_numpy(np.array(store.images[:7])))
    codes = opened.encode(store.images[:7])
    np.testing.assert_allclose(mean, codes.mean, atol=1e-4)
    np.testing.assert_allclose(std, codes.std, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["vae", "gate", "exchange", "partners"])
def test_grey_in_three_channels_of_equal_weights_is_grey(network: str, method: str) -> None:
    """A model whose channels share their weights does to colour what a grey model does to grey."""
    grey = GatedVAEConfig({"a": 2, "b": 3}, (16, 16), network, (4, 8), METHODS[method]())
    colour = GatedVAEConfig({"a": 2, "b": 3}, (16, 16, 3), network, (4, 8), METHODS[method]())
    one, three = GatedVAE(grey), GatedVAE(colour)
    weights = one.state_dict()
    for name, tensor in three.state_dict().items():
        if (own := weights[name]).shape != tensor.shape:
            axis = next(i for i, (a, b) in enumerate(zip(own.shape, tensor.shape, strict=True)) if a != b)
            weights[name] = own.repeat_interleave(3, axis) / (3 if name.startswith("encoder") else 1)
    three.load_state_dict(weights)
    shape = (2, 6, 16, 16) if method == "partners" else (6, 16, 16)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    target = torch.randint(0, 256, (6, 16, 16), dtype=torch.uint8)
    in_colour = [tensor[..., None].expand(*tensor.shape, 3).contiguous() for tensor in (images, target)]
    noise = draw_noise(grey, 6, seed=0, step=1, device="cpu")
    partition = None if method in ("vae", "partners") else "a"
    found = one.loss(StepBatch(images, target, partition=partition), noise)
    expected = three.loss(StepBatch(*in_colour, partition=partition), noise)
    torch.testing.assert_close(3 * found.terms["reconstruction"], expected.terms["reconstruction"])
    torch.testing.assert_close(found.terms["kl"], expected.terms["kl"])


def test_a_service_sends_colours(store: Store) -> None:
    service = PairService(store.path, ServiceOptions("127.0.0.1", 0))
    try:
        served, local = (list(PairLoader(source, 32, batches="together")) for source in (service.address, store.path))
    finally:
        service.close()
    assert len(served) == len(local) > 3
    for one, other in zip(served, local, strict=True):
        assert one.target.shape[2:] == (16, 16, 3)
        assert torch.equal(one.input, other.input)
        assert torch.equal(one.target, other.target)


def test_partners_that_stand_in_for_themselves_are_whole_images(store: Store) -> None:
    for batch in PairLoader(store, 32, batches="together", itself=lambda _step: 0.5):
        assert torch.equal(batch.target, torch.from_numpy(np.array(store.images))[batch.target_id])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_stack_in_colour_equals_its_single_runs(store: Store, tmp_path: Path, network: str) -> None:
    model = GatedVAEConfig({"pose": 2, "expression": 2}, (16, 16, 3), network, (4, 8), METHODS["partners"]())
    configs = [TrainConfig(str(store.path), model, steps=4, batch_size=32, seed=seed) for seed in (0, 1)]
    stacked, single = ([tmp_path / f"{kind}{seed}" for seed in (0, 1)] for kind in "ab")
    options = TrainOptions(tmp_path, device="cpu")
    together = train_stack(configs, stacked, options)
    for config, out, report in zip(configs, single, together, strict=True):
        (alone,) = train_stack([config], [out], options)
        for label, losses in alone.losses.items():
            for term, value in losses.items():
                assert report.losses[label][term] == pytest.approx(value, rel=1e-4)


def test_colours_are_drawn_as_they_are() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 1], images[2, ..., 2], images[3] = 255, 255, 255, 255
    picture = np.array(Image.open(io.BytesIO(png(sample_grid(images, columns=2)))).convert("RGB"))
    shown = {tuple(int(value) for value in pixel) for pixel in picture.reshape(-1, 3)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)} <= shown
    told = {"partitions": {"a": slice(0, 2), "b": slice(2, 4)}, "values": [0.0], "activity": [1.0] * 4}
    traversal_grid(images[:, None], **told, dead_below=0.01)
