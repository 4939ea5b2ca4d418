"""`pipe train --seeds`: each is the run that training with its seed makes, whatever came between."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pairing.service.access import ServiceOptions
from gated_vae.pairing.service.server import PairService
from gated_vae.pipelines.experiments import seeds as of_seeds
from gated_vae.pipelines.experiments.seeds import train_seeds
from gated_vae.pipelines.presets import read_seeds
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.journal import DivergedError, RunningLosses
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.store import Store
from tests.pipelines.test_cli import pipe
from tests.pipelines.test_trainer import config, contents, stop_at

WORDS = ("--network", "fc", "--hidden", "16,16", "--latent", "pose=2,expression=3", "--beta", "1", "--batch-size", "32")
WORDS += ("--lr", "1e-3", "--schedule", "constant", "--precision", "fp32")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As each of the seeds has, so that sums are cut alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One seed after the other in this process; which were trained."""
    trained: list[str] = []

    @contextmanager
    def here(*_: object) -> Iterator[Callable[..., Iterator[Any]]]:
        yield lambda function, tasks: (trained.append(task[1].out.name) or function(*task) for task in tasks)

    monkeypatch.setattr(of_seeds, "one_core_each", here)
    return trained


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(of_seeds, "takes_graphs", lambda *_: True)


def test_each_is_the_run_that_training_with_its_seed_makes(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own; to the byte."""
    words = ("train", store.path, *WORDS, "--steps", "12", "--checkpoint-every", "5")
    assert pipe(*words, "--out", tmp_path / "many", "--seeds", "3,0-1") == 0
    told = capsys.readouterr().out.splitlines()
    table = [line.split() for line in told[3:]]
    assert table[0][:4] == ["seed", "steps", "pose", "kl"]
    assert [line[:2] for line in table[1:4]] == [["3", "12"], ["0", "12"], ["1", "12"]]
    assert table[4][0] == "mean"
    assert table[4].count("±") == 4
    for seed in (0, 1, 3):
        assert pipe(*words, "--out", tmp_path / "alone" / f"{seed}", "--seed", str(seed)) == 0
        assert contents(tmp_path / "many" / f"{seed}") == contents(tmp_path / "alone" / f"{seed}")
    capsys.readouterr()
    assert pipe(*words, "--out", tmp_path / "many", "--seeds", "0,3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(Path(run["out"]).name, run["steps_now"]) for run in found["runs"]] == [("0", 0), ("3", 0)]
    kl = [run["losses"]["pose"]["kl"] for run in found["runs"]]
    assert found["mean"]["pose kl"] == pytest.approx(sum(kl) / 2)
    assert found["half_width"]["pose kl"] == pytest.approx(12.706 * abs(kl[0] - kl[1]) / 2, rel=1e-4)


def test_what_was_begun_goes_on_and_what_is_finished_is_left_alone(
    store: Store, tmp_path: Path, in_turn: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", store.path, *WORDS, "--steps", "30")
    train(config(store, seed=0), TrainOptions(tmp_path / "many" / "0"))
    with pytest.raises(InterruptedTrainingError):
        train(config(store, seed=1), TrainOptions(tmp_path / "many" / "1"), stop_at(13))
    before = contents(tmp_path / "many" / "0")
    assert pipe(*words, "--out", tmp_path / "many", "--seeds", "0-2") == 0
    assert "nothing to do  seeds 0 were finished" in capsys.readouterr().out
    assert in_turn == ["1", "2"]
    assert contents(tmp_path / "many" / "0") == before
    for seed in (1, 2):
        train(config(store, seed=seed), TrainOptions(tmp_path / f"{seed}"))
        last = {name: digest for name, digest in contents(tmp_path / f"{seed}").items() if "30" in name}
        assert last.items() <= contents(tmp_path / "many" / f"{seed}").items()


def test_more_steps_and_other_options_need_what_one_run_needs(
    store: Store, tmp_path: Path, in_turn: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", store.path, *WORDS, "--out", tmp_path / "many", "--seeds")
    assert pipe(*words, "0-1", "--steps", "4") == 0
    assert pipe(*words, "0-2", "--steps", "6") == 1
    assert "Add --resume to go on beyond its end" in capsys.readouterr().err
    assert not (tmp_path / "many" / "2").exists(), "all are refused before any is begun"
    assert pipe(*words, "0-2", "--steps", "6", "--resume") == 0
    assert [open_run(tmp_path / "many" / f"{seed}").config.steps for seed in range(3)] == [6, 6, 6]
    in_turn.clear()
    assert pipe(*words, "1-2", "--steps", "6", "--lr", "2e-3", "--overwrite") == 0
    assert in_turn == ["1", "2"]
    assert [open_run(tmp_path / "many" / f"{seed}").config.lr for seed in range(3)] == [1e-3, 2e-3, 2e-3]


def test_all_are_overwritten_at_once_so_that_the_same_command_without_it_goes_on(
    store: Store, tmp_path: Path, in_turn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, options = config(store, steps=4), TrainOptions(tmp_path)
    train_seeds(wanted, [0, 1], options, store)
    honest = of_seeds.train_on_one_core

    def killed(one: object, at: TrainOptions) -> object:
        if at.out.name == "1":
            raise KeyboardInterrupt
        return honest(one, at)  # type: ignore[arg-type]

    other = replace(wanted, lr=2e-3)
    with monkeypatch.context() as patch:
        patch.setattr(of_seeds, "train_on_one_core", killed)
        with pytest.raises(KeyboardInterrupt):
            train_seeds(other, [0, 1], replace(options, overwrite=True), store)
    in_turn.clear()
    assert [report.steps_now for report in train_seeds(other, [0, 1], options, store)] == [0, 4]
    assert in_turn == ["1"]


def test_places_that_are_taken_are_refused_before_any_is_begun(
    store: Store, tmp_path: Path, in_turn: list[str]
) -> None:
    wanted, many = config(store, steps=2), TrainOptions(tmp_path / "many")
    (tmp_path / "many" / "1").mkdir(parents=True)
    (tmp_path / "many" / "1" / "notes.txt").write_text("mine")
    with pytest.raises(GatedVAEError, match=r"many/1 is not empty"):
        train_seeds(wanted, [0, 1], many, store)
    (tmp_path / "many" / "1" / "notes.txt").unlink()
    with locked(tmp_path / "many" / "1"), pytest.raises(GatedVAEError, match="many/1 is in use"):
        train_seeds(wanted, [0, 1], many, store)
    train(wanted, TrainOptions(tmp_path / "single"))
    for place in (store.path, tmp_path / "single"):
        with pytest.raises(GatedVAEError, match="cannot be written"):
            train_seeds(wanted, [0, 1], TrainOptions(place), store)
    assert in_turn == []
    assert not (tmp_path / "many" / "0" / "config.json").exists()


def test_where_one_diverges_the_others_are_trained_and_told_how_to_see(
    store: Store,
    tmp_path: Path,
    in_turn: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    honest = RunningLosses.add

    def spoiled(self: RunningLosses, label: str, terms: Mapping[str, torch.Tensor], steps: int = 1) -> None:
        bad = in_turn[-1] == "1" and label == "pose"
        honest(self, label, {name: term * math.nan for name, term in terms.items()} if bad else terms, steps)

    monkeypatch.setattr(RunningLosses, "add", spoiled)
    words = ("train", store.path, *WORDS, "--steps", "4", "--out", tmp_path, "--seeds")
    assert pipe(*words, "0-2") == 1
    assert in_turn == ["0", "1", "2"]
    told = capsys.readouterr().err
    assert f"By step 4 the loss of pose is not finite in {tmp_path / '1'}." in told
    assert "Leave 1 out of --seeds: the others are trained." in told
    assert pipe(*words, "0,2") == 0
    assert pipe(*words, "1") == 1
    assert "Leave" not in capsys.readouterr().err


@pytest.mark.usefixtures("stacked")
def test_where_one_of_a_stack_diverges_it_is_told_as_such(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RunningLosses.tell
    spoiled = [0, 1]  # of the first two that tell, the second

    def tell(self: RunningLosses) -> dict[str, dict[str, float]]:
        told = honest(self)
        if spoiled and spoiled.pop(0):
            self.means["pose"] = {"kl": math.inf}
        return told

    monkeypatch.setattr(RunningLosses, "tell", tell)
    with pytest.raises(DivergedError, match="Leave 1 out of --seeds") as diverged:
        train_seeds(config(store), range(3), TrainOptions(tmp_path, log_every=5), store)
    elsewhere = pickle.loads(pickle.dumps(diverged.value))
    assert (str(elsewhere), elsewhere.where) == (str(diverged.value), diverged.value.where)
    assert [open_run(tmp_path / f"{seed}").is_trained(30) for seed in range(3)] == [True, False, True]


@pytest.mark.usefixtures("stacked")
def test_as_a_stack_they_are_runs_of_their_seeds_and_more_come_later(store: Store, tmp_path: Path) -> None:
    wanted, options = config(store), TrainOptions(tmp_path, log_every=5)
    told: list[tuple[int, int, str]] = []
    first = train_seeds(wanted, [0, 1], options, store, lambda *it: told.append(it))  # type: ignore[arg-type]
    assert told[0][:2] == (0, 2)
    assert "step 5 of 30" in [note for _, _, note in told[1:]]
    reports = train_seeds(wanted, range(4), options, store)
    assert [report.steps_now for report in reports] == [0, 0, 30, 30]
    assert reports[0].losses == first[0].losses
    for seed, report in enumerate(reports):
        run = open_run(tmp_path / f"{seed}")
        assert run.config == replace(wanted, seed=seed)
        assert run.config.stacked
        alone = train(replace(wanted, seed=seed), replace(options, out=tmp_path / f"alone-{seed}"))
        assert report.losses["pose"] == pytest.approx(alone.losses["pose"], rel=1e-3, abs=2e-3)


@pytest.mark.usefixtures("stacked")
def test_a_stack_goes_on_beyond_its_end_beside_new_seeds(store: Store, tmp_path: Path) -> None:
    """With a schedule that has ended once for some of them: two stacks."""
    wanted = config(store, steps=10, schedule="cosine")
    train_seeds(wanted, [0, 1], TrainOptions(tmp_path), store)
    longer, options = replace(wanted, steps=16), TrainOptions(tmp_path, resume=True)
    assert [report.steps_now for report in train_seeds(longer, range(3), options, store)] == [6, 6, 16]
    assert [open_run(tmp_path / f"{seed}").config.earlier for seed in range(3)] == [(10,), (10,), ()]


@pytest.mark.usefixtures("in_turn")
def test_they_may_be_trained_from_a_service(store: Store, tmp_path: Path) -> None:
    service = PairService(store.path, ServiceOptions(port=0))
    words = ("--out", tmp_path / "many", "--seeds", "0-1", "--steps", "3")
    assert pipe("train", service.address, *WORDS, *words) == 0
    service.close()
    train(config(store, steps=3, seed=1), TrainOptions(tmp_path / "1"))
    runs = [tmp_path / "many" / "1", tmp_path / "1"]
    one, other = (checkpoints(run / "checkpoints")[-1].weights.read_bytes() for run in runs)
    assert one == other


@pytest.mark.slow
def test_killed_they_go_on_to_the_same_bytes(store: Store, tmp_path: Path) -> None:
    words = [str(word) for word in ("train", store.path, *WORDS, "--steps", "3000", "--checkpoint-every", "100")]
    code = "from gated_vae.pipelines.cli import main; main()"
    begun = [sys.executable, "-c", code, *words, "--out", str(tmp_path / "many"), "--seeds", "0-2"]
    with subprocess.Popen(begun, stdout=subprocess.DEVNULL) as process:
        while not checkpoints(tmp_path / "many" / "0" / "checkpoints"):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(2)  # until its processes have seen that it is gone
    subprocess.run(begun, check=True, stdout=subprocess.DEVNULL)
    for seed in range(3):
        assert pipe(*words, "--out", tmp_path / f"{seed}", "--seed", str(seed)) == 0
        last = {name: digest for name, digest in contents(tmp_path / f"{seed}").items() if "3000" in name}
        assert len(last) == 2
        assert last.items() <= contents(tmp_path / "many" / f"{seed}").items()


def test_seeds_are_read_as_they_are_written() -> None:
    assert read_seeds("0-9") == [*range(10)]
    assert read_seeds("0, 3,7") == [0, 3, 7]
    assert read_seeds("5-6,0") == [5, 6, 0]
    assert read_seeds(f"{2**63 - 1}") == [2**63 - 1]
    assert len(read_seeds("0-999")) == 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("9-0", "9-0 counts down.\nWrite 0-9."),
        ("a", "'a' is neither a seed nor a range"),
        ("-1", "'-1' is neither"),
        ("1.5", "'1.5' is neither"),
        ("", "'' is neither"),
        ("0,,1", "'' is neither"),
        ("²", "is neither"),
        (f"{2**63}", "is neither"),
        ("0-2,1", "names 1 twice"),
        ("0-1000", "too many.\nTrain at most 1,000"),
        ("0-998,1000,1001", "too many"),
        (f"0-{2**62}", "too many"),
    ],
)
def test_seeds_that_make_no_sense_are_told_plainly(text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_seeds(text)
    assert told in str(refused.value)
    assert "--seeds" in refused.value.what


def test_seeds_are_for_one_process_and_in_place_of_a_seed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", store.path, "--out", tmp_path / "run", *WORDS, "--steps", "2", "--seeds", "0-1")
    assert pipe(*words, "--seed", "0") == 2
    assert "give one of the two" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("gated_vae.pipelines.process.leave", lambda code: sys.exit(code))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert pipe(*words) == 2
    assert "Leave torchrun out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
