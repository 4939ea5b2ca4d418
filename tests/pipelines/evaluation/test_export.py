"""An exported encoder or decoder, run by another runtime, beside the run itself."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gated_vae.pipelines.evaluation import export as exports
from gated_vae.pipelines.evaluation.export import METADATA, export
from gated_vae.pipelines.evaluation.opened import OpenRun, open_run
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.pipelines.test_cli import pipe
from tests.pipelines.test_trainer import MODEL, config

HIDDEN = {"fc": (16, 16), "conv": (4, 8, 16)}
BOTH = pytest.mark.parametrize("run", ["conv", pytest.param("fc", marks=pytest.mark.slow)], indirect=True)
EXPECTED = {"partitions": {"pose": [0, 2], "expression": [2, 5]}, "image_shape": [16, 16]}


@pytest.fixture
def run(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> OpenRun:
    """Trained for some steps, in bfloat16 where it convolves, so that batch normalisation has statistics."""
    network = request.param
    model = replace(MODEL, network=network, hidden=HIDDEN[network])
    precision = "bf16" if network == "conv" else "fp32"
    train(config(store, model=model, steps=8, precision=precision, lr=0.01), TrainOptions(tmp_path / "run"))
    return open_run(tmp_path / "run")


def check(run: OpenRun, encode: Any, decode: Any) -> None:
    """Within rounding, for as many images at a time as one likes."""
    for count in (1, 2, 7):
        images = np.random.default_rng(count).integers(0, 256, (count, 16, 16), dtype=np.uint8)
        codes = run.encode(images)
        for ours, theirs in zip(codes, encode(images), strict=True):
            assert theirs.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        np.testing.assert_allclose(run.decode(codes.mean), decode(codes.mean), rtol=0, atol=1e-5)


@BOTH
def test_a_program_of_pytorch_gives_the_same_codes_and_pictures(run: OpenRun, tmp_path: Path) -> None:
    made = export(run, tmp_path / "encoder.pt2")
    export(run, tmp_path / "decoder.pt2", decoder=True)
    extra = {METADATA: ""}
    encoder = torch.export.load(tmp_path / "encoder.pt2", extra_files=extra).module()
    decoder = torch.export.load(tmp_path / "decoder.pt2").module()

    def encode(images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        return [tensor.numpy() for tensor in encoder(torch.from_numpy(images))]

    check(run, encode, lambda codes: decoder(torch.from_numpy(codes)).numpy())
    metadata = json.loads(extra[METADATA])
    assert metadata == made.metadata
    assert metadata.items() >= EXPECTED.items()
    again = export(run, tmp_path / "again.pt2")
    assert again.path.read_bytes() == made.path.read_bytes()
    with ZipFile(made.path) as archive:  # nothing in it is pickled
        texts = {name: archive.read(name) for name in archive.namelist() if "/data/weights/weight_" not in name}
    assert [data for name, data in texts.items() if name.endswith((".pt", ".pkl"))] == [b""]
    assert not [name for name, data in texts.items() if b'"use_pickle": true' in data]
    assert not [name for name, data in texts.items() if str(Path(exports.__file__).parents[2]).encode() in data]


@BOTH
def test_onnxruntime_gives_the_same_codes_and_pictures(run: OpenRun, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    sessions = {}
    for name in ("encoder", "decoder"):
        made = export(run, tmp_path / f"{name}.onnx", decoder=name == "decoder")
        sessions[name] = runtime.InferenceSession(made.path)
        assert [put.name for put in sessions[name].get_inputs()] == [made.input]
        assert tuple(put.name for put in sessions[name].get_outputs()) == made.outputs
        told = sessions[name].get_modelmeta().custom_metadata_map
        assert {key: json.loads(value) for key, value in told.items()} == made.metadata
        assert made.metadata.items() >= EXPECTED.items()
        assert str(Path(exports.__file__).parents[2]).encode() not in made.path.read_bytes()

    def decode(codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (images,) = sessions["decoder"].run(["images"], {"codes": codes})
        return images  # type: ignore[no-any-return]

    check(run, lambda images: sessions["encoder"].run(["mean", "std"], {"images": images}), decode)


def test_what_cannot_be_exported_says_why(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(store, steps=2), TrainOptions(tmp_path / "run"))
    found = importlib.util.find_spec
    monkeypatch.setattr(exports, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(GatedVAEError, match=r"onnxscript is not installed.*\n.*ends in \.pt2"):
        export(open_run(tmp_path / "run"), tmp_path / "encoder.onnx")
    assert pipe("export", tmp_path / "run", "--out", tmp_path / "encoder.ts") == 2
    (tmp_path / "notes.pt2").write_text("mine")
    assert pipe("export", tmp_path / "run", "--out", tmp_path / "notes.pt2") == 1
    capsys.readouterr()
    assert pipe("export", tmp_path / "run", "--out", tmp_path / "encoder.pt2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["metadata"].items() >= EXPECTED.items()
    assert not (tmp_path / "encoder.onnx").exists()
