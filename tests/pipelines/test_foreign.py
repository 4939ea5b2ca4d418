"""Runs that others made: whatever their files say or are, a command says what is wrong and does nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from gated_vae.models import checkpoint as saving
from gated_vae.models.checkpoint import checkpoints, load_state
from gated_vae.models.vae import MOST_PARAMETERS, GatedVAE, GatedVAEConfig, outline
from gated_vae.pipelines.training.journal import EventLog
from gated_vae.pipelines.training.run import open_run
from tests.machine import HANG
from tests.pipelines.test_cli import TINY, pipe
from tests.stores import make_store

Tensors = dict[str, torch.Tensor]
Words = tuple[str, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and a run that was evaluated and reported."""
    folder = tmp_path_factory.mktemp("made")
    make_store(folder / "store")
    words = ("train", folder / "store", "--out", folder / "run", *TINY, "--schedule", "constant")
    assert pipe(*words, "--precision", "fp32") == 0
    assert pipe("evaluate", folder / "run") == 0
    assert pipe("report", folder / "run") == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Nothing waits for a pipe that nobody writes to."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(int(HANG))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def go_on(made: Path, run: Path) -> Words:
    longer = [word if word != "6" else "12" for word in TINY]
    return (
        "train",
        f"{made}/store",
        "--out",
        f"{run}",
        *longer,
        "--schedule",
        "constant",
        "--precision",
        "fp32",
        "--resume",
    )


def refused(capsys: pytest.CaptureFixture[str], words: Words, *said: str) -> None:
    """A command fails in three lines at most that say all this."""
    capsys.readouterr()
    assert pipe(*words) == 1, words
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) <= 3, told
    assert "Unexpected" not in told
    for text in said:
        assert text in told, told


# What an optimiser keeps

STATES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "moments of fewer numbers": (
        lambda t: t.update({"decoder.layers.0.weight/exp_avg": torch.zeros(2)}),
        "F32 [2]",
    ),
    "moments of more numbers": (
        lambda t: t.update({"decoder.layers.0.weight/exp_avg_sq": torch.zeros(900, 900)}),
        "F32 [900, 900]",
    ),
    "a moment of one number": (lambda t: t.update({"decoder.layers.0.bias/exp_avg": torch.zeros(())}), "F32 []"),
    "as many in another shape": (
        lambda t: t.update({key: t[key].flatten() for key in ["decoder.layers.0.weight/exp_avg"]}),
        "decoder.layers.0.weight/exp_avg",
    ),
    "doubles": (
        lambda t: t.update({"decoder.layers.0.bias/exp_avg": torch.zeros(8, dtype=torch.float64)}),
        "F64 [8], of the model F32 [8]",
    ),
    "bytes": (lambda t: t.update({"decoder.layers.0.bias/exp_avg": torch.zeros(8, dtype=torch.uint8)}), "U8 [8]"),
    "many steps": (
        lambda t: t.update({"decoder.layers.0.bias/step": torch.zeros(8)}),
        "/step is F32 [8], of the model F32 []",
    ),
    "a moment less": (lambda t: t.pop("decoder.layers.0.bias/exp_avg"), "exp_avg is not there"),
    "a slot more": (lambda t: t.update({"decoder.layers.0.bias/max": torch.zeros(8)}), "of the model not there"),
    "of another parameter": (lambda t: t.update({"elsewhere/exp_avg": torch.zeros(8)}), "elsewhere"),
    "of none": (lambda t: t.clear(), "not there"),
}


def rewrite_state(run: Path, change: Callable[[Tensors], object], **position: Any) -> Path:
    """A state as its maker could have saved it: with a right checksum."""
    path = checkpoints(run / "checkpoints")[-1].state
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["position"])
    tensors = load_file(path)
    change(tensors)
    told |= {"sha256": saving._digest(tensors), **position}
    path.write_bytes(save(tensors, {"position": json.dumps(told)}))
    return path


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_does_not_fit_the_model_is_refused_before_training(
    name: str, made: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fused Adam reads and writes beyond the ends of moments that are shorter than their parameter."""
    change, said = STATES[name]
    path = rewrite_state(run, change)
    refused(capsys, go_on(made, run), f"{path} cannot be loaded", said)
    refused(capsys, ("verify", f"{run}"), f"{path} cannot be loaded")


def test_a_state_that_fits_is_taken(made: Path, run: Path) -> None:
    rewrite_state(run, lambda tensors: tensors)
    assert pipe(*go_on(made, run)) == 0


def test_no_state_reaches_an_optimiser_that_it_does_not_fit(run: Path) -> None:
    rewrite_state(run, STATES["moments of fewer numbers"][0])
    model = GatedVAE(open_run(run).config.model)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(checkpoints(run / "checkpoints")[-1], model, optimiser)
    assert not optimiser.state


LOADER = {"seed": 0, "epoch": 0, "step": 6, "global_batch": 16, "pairs": 1}
POSITIONS: dict[str, dict[str, Any]] = {
    "another step": {"step": 5},
    "a step in words": {"step": "6"},
    "no loader": {"loader": None},
    "a loader in words": {"loader": {**LOADER, "epoch": "first"}},
    "an epoch beyond all bounds": {"loader": {**LOADER, "epoch": 2**70}},
    "a list of losses": {"losses": [1.0]},
    "losses of no steps": {"sums": {"pose": {"kl": 1.0}}},
    "losses of zero steps": {"sums": {"pose": {"kl": 1.0, "steps": 0}}},
    "losses in words": {"losses": {"pose": {"kl": "low"}}},
}


@pytest.mark.parametrize("name", POSITIONS)
def test_a_position_that_cannot_be_is_refused(
    name: str, made: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewrite_state(run, lambda tensors: tensors, **POSITIONS[name])
    for words in (go_on(made, run), ("verify", f"{run}")):
        refused(capsys, words, f"{path} has another position than that of step 6")


def test_a_position_nested_without_end_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoints(run / "checkpoints")[-1].state
    path.write_bytes(save(load_file(path), {"position": "[" * 100_000}))
    refused(capsys, ("verify", f"{run}"), f"{path} has no position")


# Weights

WEIGHTS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "of another shape": (
        lambda t: t.update({"decoder.layers.0.bias": torch.zeros(9)}),
        "F32 [9], of the model F32 [8]",
    ),
    "of another dtype": (
        lambda t: t.update({"decoder.layers.0.bias": torch.zeros(8, dtype=torch.int32)}),
        "I32 [8], of the model F32 [8]",
    ),
    "one less": (lambda t: t.pop("decoder.layers.0.bias"), "decoder.layers.0.bias is not there"),
    "not finite": (lambda t: t["decoder.layers.0.bias"].fill_(float("nan")), "not finite"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_do_not_fit_are_refused(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, said = WEIGHTS[name]
    path = checkpoints(run / "checkpoints")[-1].weights
    tensors = load_file(path)
    change(tensors)
    path.write_bytes(save(tensors, {"sha256": saving._digest(tensors)}))
    for words in (("traverse", f"{run}"), ("verify", f"{run}"), ("finetune", f"{run}", "--steps", "1")):
        refused(capsys, words, f"{path}", said)


@pytest.mark.parametrize("times", [1e30, -1e6])
def test_weights_that_encode_to_no_numbers_are_refused(
    times: float, made: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints(run / "checkpoints")[-1].weights
    tensors = {name: value * times if value.is_floating_point() else value for name, value in load_file(path).items()}
    path.write_bytes(save(tensors, {"sha256": saving._digest(tensors)}))
    codes = tmp_path / "codes.parquet"
    for words in (
        ("evaluate", f"{run}"),
        ("report", f"{run}"),
        ("encode", f"{run}", f"{made}/store", "--out", f"{codes}"),
    ):
        refused(capsys, words, f"{run} cannot encode the images.", "not be finite")
    assert not codes.exists()


def test_a_header_that_promises_more_than_there_is_allocates_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints(run / "checkpoints")[-1].weights
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    refused(capsys, ("traverse", f"{run}"), f"{path} cannot be loaded")


# Configurations

CONFIGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "a hidden layer of a billion": (("train", "model", "hidden"), [10**9]),
    "a hundred thousand layers": (("train", "model", "hidden"), [8] * 10**5),
    "hidden layers of a trillion weights": (("train", "model", "hidden"), [2**20, 2**20]),
    "images of a trillion pixels": (("train", "model", "image_shape"), [10**6, 10**6]),
    "images of one side": (("train", "model", "image_shape"), [16]),
    "a latent of a billion": (("train", "model", "latent"), {"pose": 10**9}),
    "ten thousand partitions": (("train", "model", "latent"), {str(number): 1 for number in range(10**4)}),
    "latent sizes in words": (("train", "model", "latent"), {"pose": "two"}),
    "a latent that is a list": (("train", "model", "latent"), ["pose"]),
    "an unknown network": (("train", "model", "network"), "../net"),
    "an unknown method": (("train", "model", "method"), "gate:key=1"),
    "weights in words": (("train", "model", "kl_weights"), {"pose": "much"}),
    "batches of a trillion": (("train", "batch_size"), 10**12),
    "a rate in words": (("train", "lr"), "fast"),
    "a rate that is none": (("train", "lr"), float("nan")),
    "no seed": (("train", "seed"), None),
    "steps below zero": (("train", "steps"), -1),
    "steps and epochs": (("train", "epochs"), 3),
    "a store that is a number": (("train", "store"), 3),
    "something more": (("train", "more"), 3),
    "a way that is a list": (("store_from_here",), []),
    "no digest": (("store_digest",), None),
    "no training": (("train",), None),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_cannot_be_is_refused_by_all_that_read_it(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, value = CONFIGS[name]
    path = run / "config.json"
    config = node = json.loads(path.read_bytes())
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    path.write_text(json.dumps(config))
    verbs = ["verify", "report", "evaluate", "traverse"]
    for verb in verbs if "trillion weights" in name else ["inspect", "finetune", *verbs]:
        refused(capsys, (verb, f"{run}"), f"{run} cannot be opened." if "network" in name else f"{path} is damaged.")


def test_the_largest_models_are_outlined_without_memory() -> None:
    """Of 250 million parameters, a gigabyte, none is allocated; four times as many are refused."""
    small, large = (
        GatedVAEConfig({"pose": 2}, image_shape=(64, 64), network="fc", hidden=(side, side)) for side in (8_000, 32_000)
    )
    parameters = list(outline(small).parameters())
    assert 2**26 < sum(parameter.numel() for parameter in parameters) < MOST_PARAMETERS
    assert {parameter.device.type for parameter in parameters} == {"meta"}
    with pytest.raises(ValueError, match="parameters"):
        outline(large)


# Metrics

METRICS: dict[str, Any] = {
    "of another program": {"accuracy": 0.9},
    "a list of losses": {"train": {"steps": 6, "losses": [1]}},
    "losses in words": {"train": {"steps": 6, "losses": {"pose": {"kl": "low"}}}},
    "steps in words": {"train": {"steps": "six", "losses": {}}},
    "no scores": {"evaluate": {}},
    "scores that are a list": {"evaluate": [1, 2]},
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_that_cannot_be_are_refused_by_all_that_read_them(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "metrics.json").write_text(json.dumps(METRICS[name]))
    for verb in ("inspect", "verify", "report"):
        refused(capsys, (verb, f"{run}"), f"{run}/metrics.json")
    assert json.loads((run / "metrics.json").read_text()) == METRICS[name]


def test_any_score_that_is_no_number_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each number of what evaluating has written, one by one, as a word, as a list and beyond what a float holds."""
    path = run / "metrics.json"
    whole = json.loads(path.read_text())

    def numbers(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from numbers(inner, (*place, key))
        elif isinstance(value, int | float):
            yield place

    places = list(numbers(whole))
    assert len(places) > 10
    for place in places:
        for odd in ("much", [1], 10**400):
            node = changed = json.loads(json.dumps(whole))
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = odd
            path.write_text(json.dumps(changed))
            refused(capsys, ("inspect", f"{run}"), f"{path}")


# What is no file

ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "a folder": Path.mkdir,
    "nothing in it": Path.touch,
}
READ_BY: dict[str, tuple[str, ...]] = {
    "config.json": ("inspect", "verify", "report", "evaluate"),
    "metrics.json": ("inspect", "verify", "report"),
    "checkpoints/step-000000006.safetensors": ("verify", "report", "finetune"),
    "checkpoints/step-000000006.state.safetensors": ("verify", "train"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("file", READ_BY)
def test_what_is_no_file_is_neither_waited_for_nor_read(
    name: str, file: str, made: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / file).unlink()
    ODD[name](run / file)
    said = run if (name, file) == ("a link to nothing", "config.json") else run / file
    for verb in READ_BY[file]:
        refused(capsys, go_on(made, run) if verb == "train" else (verb, f"{run}"), f"{said}")


def test_a_report_shows_no_file_that_a_figure_leads_to(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run to be reported by whoever has secrets: its picture is a link to one, that begins as a picture does, too."""
    hinton, before = run / "figures" / "hinton_random_forest.png", (run / "report.html").read_bytes()
    scores = json.loads((run / "metrics.json").read_text())
    scores["evaluate"]["dci"] = {"lasso": _dci()}
    (run / "metrics.json").write_text(json.dumps(scores))
    picture = (run / "figures" / "pairs.png").read_bytes()
    (tmp_path / "secret").write_bytes(picture + b"nobody's business")
    hinton.symlink_to(tmp_path / "secret")
    refused(capsys, ("report", f"{run}"), f"{hinton} is not shown", "It is no png file")
    hinton.unlink()
    hinton.write_bytes(b"nobody's business")
    refused(capsys, ("report", f"{run}"), f"{hinton} is not shown", "It is no png file")
    assert (run / "report.html").read_bytes() == before
    hinton.write_bytes(picture)
    assert pipe("report", run) == 0


def _dci() -> dict[str, Any]:
    scores: dict[str, Any] = dict.fromkeys(("disentanglement", "completeness", "uninformativeness"), 0.5)
    scores |= {"completeness_per_factor": {"yaw": 0.5}, "uninformativeness_per_factor": {"yaw": 0.5}}
    return scores | {"disentanglement_per_code": [0.5], "importance": [[0.5]]}


@pytest.mark.parametrize("name", [name for name in ODD if name != "nothing in it"])
def test_a_picture_replaces_nothing_but_a_picture(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "figures" / "pairs.png"
    path.unlink()
    ODD[name](path)
    capsys.readouterr()
    assert pipe("report", run) == (2 if name == "a folder" else 1)
    assert f"{path}" in capsys.readouterr().err
    assert not path.is_file()


def test_events_are_not_appended_to_what_a_link_leads_to(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("time.time", "os.getpid"):
        monkeypatch.setattr(f"gated_vae.pipelines.training.journal.{name}", lambda: 7)
    link = run / f"events.out.tfevents.0000000007.000000006.{socket.gethostname()}.7"
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        EventLog(run, 6)
    link.unlink()
    EventLog(run, 6).close()
    assert (link.stat().st_size > 0, (tmp_path / "mine").read_text()) == (True, "mine")
