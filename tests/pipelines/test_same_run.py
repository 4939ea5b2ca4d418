"""A training is the same wherever its store lies and however that is spelled, on whatever machine it goes on: digests decide."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pairing.service.access import ServiceOptions
from gated_vae.pairing.service.server import PairService
from gated_vae.pipelines import process
from gated_vae.pipelines.evaluation.opened import open_run as opened_run
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.store import Store, manifest_path
from tests.pipelines.test_cli import pipe
from tests.pipelines.test_trainer import config, stop_at

WORDS = ("--network", "fc", "--hidden", "16,16", "--latent", "pose=2,expression=3", "--beta", "1", "--steps", "30")
WORDS += ("--batch-size", "32", "--lr", "1e-3", "--schedule", "constant")


def weights(run: Path) -> bytes:
    return checkpoints(run / "checkpoints")[-1].weights.read_bytes()


@pytest.fixture
def whole(store: Store, tmp_path: Path) -> bytes:
    """The weights of a training that nothing interrupted."""
    train(config(store), TrainOptions(tmp_path / "whole"))
    return weights(tmp_path / "whole")


@pytest.fixture
def stopped(store: Store, tmp_path: Path) -> Path:
    """The same, stopped on the way."""
    with pytest.raises(InterruptedTrainingError):
        train(config(store), TrainOptions(tmp_path / "run"), stop_at(13))
    return tmp_path / "run"


def as_typed(folder: Path) -> str:
    return str(folder / "store")


def relative(folder: Path) -> str:  # noqa: ARG001
    return "store"


def roundabout(folder: Path) -> str:
    return f"../{folder.name}/./store/"


def through_a_link(folder: Path) -> str:
    (folder / "link").symlink_to("store")
    return "link"


def moved(folder: Path) -> str:
    return str((folder / "store").rename(folder / "elsewhere"))


def copied(folder: Path) -> str:
    return shutil.copytree(folder / "store", folder / "copy")


@pytest.mark.parametrize("spelling", [as_typed, relative, roundabout, through_a_link, moved, copied])
def test_a_training_goes_on_with_its_store_however_that_is_spelled(
    spelling: Callable[[Path], str], stopped: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pipe("train", spelling(tmp_path), "--out", "run", *WORDS) == 0
    assert weights(stopped) == whole
    monkeypatch.chdir("/")
    assert pipe("traverse", stopped) == 0, "the store is found from anywhere, where it was last seen"


def test_a_training_goes_on_from_a_service_at_any_port_and_from_the_folder(
    stopped: Path, whole: bytes, store: Store
) -> None:
    for stop in (17, 21):
        service = PairService(store.path, ServiceOptions(port=0))
        with pytest.raises(InterruptedTrainingError):
            train(replace(config(store), store=service.address), TrainOptions(stopped), stop_at(stop))
        service.close()
    assert pipe("train", store.path, "--out", stopped, *WORDS) == 0
    assert weights(stopped) == whole
    assert opened_run(stopped).store.path == store.path, "begun from the folder, which has the images"


def test_a_run_begun_from_a_service_and_finished_from_the_folder_knows_the_folder(store: Store, tmp_path: Path) -> None:
    service = PairService(store.path, ServiceOptions(port=0))
    assert pipe("train", service.address, "--out", tmp_path / "run", *WORDS) == 0
    assert pipe("evaluate", tmp_path / "run") == 1
    assert pipe("train", store.path, "--out", tmp_path / "run", *WORDS) == 0
    assert opened_run(tmp_path / "run").store.path == store.path
    longer = ("--steps", "33", "--resume")
    assert pipe("train", service.address, "--out", tmp_path / "run", *WORDS, *longer) == 0
    service.close()
    assert opened_run(tmp_path / "run").files.latest().step == 33  # type: ignore[union-attr]
    assert opened_run(tmp_path / "run").store.path == store.path, "which the service does not make forgotten"


def test_a_folder_with_store_and_run_may_move(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    store.path.rename(tmp_path / "project" / "store")
    monkeypatch.chdir(tmp_path / "project")
    assert pipe("train", "store", "--out", "run", *WORDS) == 0
    assert pipe("finetune", "run", "--steps", "2") == 0
    (tmp_path / "project").rename(tmp_path / "archive")
    run = tmp_path / "archive" / "run"
    before = (run / "config.json").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert pipe("traverse", run) == 0
    assert pipe("verify", run) == 0
    assert (run / "config.json").read_bytes() == before
    assert pipe("finetune", run, "--steps", "2") == 0
    assert opened_run(run).tuned is not None


def test_a_store_of_other_images_of_the_same_name_is_another(
    stopped: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(manifest_path(store.path).read_bytes())
    manifest["digests"]["images.npy"] = "sha256:1"
    manifest_path(store.path).write_text(json.dumps(manifest))
    assert pipe("train", store.path, "--out", stopped, *WORDS) == 1
    told = capsys.readouterr().err
    assert "It differs in: the store was made anew." in told
    assert "--overwrite would remove that run" in told


@pytest.mark.parametrize("words", [(), ("--precision", "fp32")])
def test_precision_and_device_are_the_run_s_own(
    words: tuple[str, ...],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Begun where `auto` is fp32, it goes on so where it would be bf16, and where there is a GPU."""
    monkeypatch.setattr(process, "_multiplies_bfloat16_faster", lambda: False)
    run = ("train", store.path, "--out", tmp_path / "run", *WORDS)
    assert pipe(*run, *words) == 0
    monkeypatch.setattr(process, "_multiplies_bfloat16_faster", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pipe(*run) == 0
    assert "--device cuda takes the GPU" in capsys.readouterr().err
    begun = open_run(tmp_path / "run").config
    assert (begun.precision, begun.device) == ("fp32", "cpu")
    assert pipe(*run, "--precision", "bf16") == 1


def test_a_run_begun_on_a_gpu_goes_on_without_one(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("train", store.path, "--out", tmp_path / "run", *WORDS)
    assert pipe(*run, "--precision", "tf32") == 0
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    values["train"] |= {"device": "cuda", "stacked": True}
    path.write_text(json.dumps(values))
    assert pipe(*run) == 0
    assert "it was finished" in capsys.readouterr().out


def test_a_decoder_tuned_to_other_weights_is_another_run(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(store), TrainOptions(tmp_path / "run"))
    assert pipe("finetune", tmp_path / "run", "--steps", "2", "--out", tmp_path / "tuned") == 0
    train(config(store, lr=2e-3), TrainOptions(tmp_path / "run", overwrite=True))
    assert pipe("finetune", tmp_path / "run", "--steps", "2", "--out", tmp_path / "tuned") == 1
    assert "It differs in: lr (0.001 there, 0.002 here), the weights that it starts from." in capsys.readouterr().err


def test_an_experiment_goes_on_in_its_precision(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def reproduce(experiment: object, *_: object, **__: object) -> None:
        seen.append(experiment.precision)  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr("gated_vae.pipelines.experiments.runner.reproduce", reproduce)
    monkeypatch.setattr(process, "_multiplies_bfloat16_faster", lambda: True)
    train(config(store), TrainOptions(tmp_path / "out" / "gated-0"))
    assert pipe("reproduce", "faces", store.path, "--out", tmp_path / "out") == 130
    assert pipe("reproduce", "faces", store.path, "--out", tmp_path / "new") == 130
    assert seen == ["fp32", "bf16"]
