"""The command line as a user meets it: exit codes, messages, results, speed of --help's imports."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import typer

from gated_vae.models.methods.base import Method
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.partners import Partners
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.metrics.partition import FULL
from gated_vae.models.objectives import DIPVAE2
from gated_vae.models.registry import METHODS, NETWORKS, OBJECTIVES, PRECISIONS, SCHEDULES
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pipelines.channels import explain
from gated_vae.pipelines.cli import VERBS, app, main
from gated_vae.pipelines.evaluation.opened import encode_store
from gated_vae.pipelines.evaluation.opened import open_run as opened_run
from gated_vae.pipelines.experiments.runner import make_experiment
from gated_vae.pipelines.presets import PRESETS
from gated_vae.pipelines.training.run import open_run
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.store import Store, manifest_path
from tests.pipelines.evaluation.test_probes_of_faces import label_store


def pipe(*words: str | Path) -> int:
    """Run `pipe` in this process; return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


TINY = ("--network", "fc", "--hidden", "8,8", "--steps", "6", "--batch-size", "16", "--latent", "pose=2,expression=2")


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    assert pipe("train", store.path, "--out", tmp_path / "run", *TINY) == 0
    return tmp_path / "run"


def test_train_twice_says_that_it_was_finished(run: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert pipe("train", store.path, "--out", run, *TINY) == 0
    assert "it was finished" in capsys.readouterr().out


def test_results_as_json_on_standard_output(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert pipe("inspect", run, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["config"]["steps"] == 6
    assert captured.err == ""


def test_encode_writes_means_and_deviations(run: Path, store: Store, tmp_path: Path) -> None:
    assert pipe("encode", run, store.path, "--out", tmp_path / "codes.parquet") == 0
    codes = pd.read_parquet(tmp_path / "codes.parquet")
    assert list(codes["sample_id"]) == list(range(300))
    assert {"pose_0", "pose_1_std", "expression_1"} < set(codes.columns)
    assert (codes.filter(like="_std") > 0).all().all()
    assert pipe("encode", run, store.path, "--out", tmp_path / "pose.parquet", "--partition", "pose") == 0
    assert not any("expression" in name for name in pd.read_parquet(tmp_path / "pose.parquet").columns)


def test_finetune_makes_a_run_of_its_own(run: Path) -> None:
    assert pipe("finetune", run, "--steps", "3") == 0
    assert pipe("inspect", run / "finetuned") == 0
    assert open_run(run / "finetuned").config.model.method == Ungated(), "target = input"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "nowhere"], "no store at nowhere"),
        (["train", "nowhere", "--out", "r"], "no store at nowhere"),
        (["finetune", "nowhere"], "does not exist"),
        (["cluster", "nowhere"], "nowhere"),
    ],
)
def test_failures_are_three_lines_at_most_and_exit_1(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pipe(*words) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) <= 3
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_debug_shows_where(tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError):
        main(["inspect", str(tmp_path / "nowhere"), "--debug"])


def test_an_interrupt_is_told_and_exits_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gated_vae.preprocessing.sources.base.make_store", interrupted)
    assert pipe("preprocess", "dsprites", "--out", tmp_path / "store") == 130
    err = capsys.readouterr().err.strip()  # rich before 14.3 ends a bar that was never shown with a line
    assert err == "Interrupted. The same command, run again, goes on from what is finished."


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "x", "--out", "y", "--steps", "many"],
        ["train", "x", "--out", "y", "--objective", "nope"],
        ["train", "x", "--out", "y", "--objective", "beta:depth=3"],
        ["train", "x", "--out", "y", "--objective", "beta:beta=-1"],
        ["train", "x", "--out", "y", "--beta", "-1"],
        ["train", "x", "--out", "y", "--seed", str(2**64)],
        ["train", "x", "--out", "y", "--seed", "-1"],
        ["train", "x", "--out", "y", "--objective", "info:alpha=2"],
        ["train", "x", "--out", "y", "--objective", "beta:beta=inf"],
        ["evaluate", "x", "--seed", str(2**63)],
        ["simulate", "faces", "--out", "y", "--seed", str(2**64)],
        ["train", "x", "--out", "y", "--method", "nope"],
        ["train", "x", "--out", "y", "--method", "partners:self_reconstruction=2"],
        ["train", "x", "--out", "y", "--method", "gate:regulariser=maybe"],
        ["train", "x", "--out", "y", "--network", "cnn"],
        ["train", "x", "--out", "y", "--preset", "nope"],
        ["train", "x", "--out", "y", "--schedule", "linear"],
        ["nonsense"],
        ["inspect", "a", "--nope"],
        ["cluster", "x", "--rule", "nope"],
        ["cluster", "x", "--pose", "nope"],
        ["reproduce", "table1", "--only", "nope"],
        ["reproduce", "curves", "--set", "axes=nope"],
        ["reproduce", "curves", "--set", "lr=nan"],
        ["reproduce", "curves", "--set", "steps=0.5"],
        ["reproduce", "curves", "--set", "images=0"],
        ["reproduce", "curves", "--seeds", str(10**9)],
        ["reproduce", "table2"],
        ["reproduce", "faces"],
    ],
)
def test_wrong_usage_exits_2(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pipe(*words) == 2


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ((), Partners(self_reconstruction=0.5)),
        (("--method", "partners"), Partners()),
        (("--method", "exchange:open_every=4"), Exchange(open_every=4)),
        (("--no-gate",), Ungated()),
    ],
)
def test_a_preset_gives_what_is_not_said(
    store: Store, tmp_path: Path, options: tuple[str, ...], method: Method
) -> None:
    words = ("--preset", "faces-partners", "--steps", "2", "--batch-size", "16")
    assert pipe("train", store.path, "--out", tmp_path / "run", *words, *options) == 0
    config = open_run(tmp_path / "run").config
    assert config.model.method == method
    assert config.model.latent == {"pose": 4, "expression": 6}
    assert config.model.kl_weights == {"pose": 0.3, "expression": 0.3}
    assert config.lr == 5e-4


def test_choices_on_the_command_line_are_those_there_are() -> None:
    parameters = typer.main.get_command(app).commands["train"].params  # type: ignore[attr-defined]
    offered = {parameter.name: (parameter.metavar or "").partition("]")[0].lstrip("[") for parameter in parameters}
    choices = {
        "preset": PRESETS,
        "method": METHODS,
        "objective": OBJECTIVES,
        "network": NETWORKS,
        "schedule": SCHEDULES,
    }
    for option, names in {**choices, "precision": (*PRECISIONS, "auto")}.items():
        assert offered[option].split("|") == [*names]


def test_options_that_contradict_each_other_are_wrong_usage(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ("train", store.path, "--out", tmp_path / "run", *TINY)
    assert pipe(*train, "--no-gate", "--method", "gate") == 2
    assert "It is --method vae; give one of the two." in capsys.readouterr().err
    assert pipe(*train, "--objective", "info", "--beta", "2") == 2
    assert "has no beta" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--beta", "nan"),
        ("--beta", "inf"),
        ("--lr", "inf"),
        ("--lr", "nan"),
        ("--lr", "-1e-3"),
        ("--lr", "0"),
        ("--steps", str(10**9)),
        ("--kl-weights", "pose=nan"),
        ("--kl-weights", "pose=1e400"),
        ("--kl-weights", "pose=-1e-3"),
        ("--kl-weights", "pose=1,pose=2"),
        ("--latent", "pose=1e3,expression=2"),
        ("--latent", f"pose={2**31},expression=2"),
        ("--hidden", "8,0"),
        ("--hidden", "8,²"),
        ("--hidden", str(2**64)),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(
    words: tuple[str, ...], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.process_time()  # other programs do not count
    assert pipe("train", store.path, "--out", tmp_path / "run", "--network", "fc", *words) in (1, 2)
    told = capsys.readouterr().err
    assert "Unexpected" not in told
    assert "--debug" not in told
    assert not (tmp_path / "run" / "config.json").exists()
    assert time.process_time() - start < 10


@pytest.mark.parametrize("weight", ["1e-3", "1E-3", ".001", "0.001", "+1.e-3"])
def test_weights_are_written_as_numbers_are(weight: str, store: Store, tmp_path: Path) -> None:
    assert pipe("train", store.path, "--out", tmp_path / "run", *TINY, "--kl-weights", f"pose={weight}") == 0
    assert open_run(tmp_path / "run").config.model.kl_weights == {"pose": 0.001}


def test_settings_are_written_as_numbers_are() -> None:
    made = make_experiment("curves", {"out": Path("x")}, ["lr=1e-2", "steps=1e3", "images=500"])
    assert (made.lr, made.steps) == (0.01, 1000)


def test_the_order_in_which_sizes_are_given_does_not_matter(store: Store, tmp_path: Path) -> None:
    train = ("train", store.path, "--out", tmp_path / "run", *TINY[:-2], "--latent")
    assert pipe(*train, "expression=3,pose=2") == 0
    assert list(open_run(tmp_path / "run").config.model.latent.items()) == [("pose", 2), ("expression", 3)]
    assert pipe(*train, "pose=2,expression=3") == 0


@pytest.mark.parametrize("name", ["all", "open"])
def test_a_partition_may_have_any_name(name: str, store: Store, tmp_path: Path) -> None:
    labelled = label_store(store).with_partitions({})
    assert pipe("pair", labelled.path, "--share", f"{name}=identity") == 0
    run = tmp_path / "run"
    assert pipe("train", labelled.path, "--out", run, *TINY[:-2]) == 0
    assert pipe("evaluate", run) == 0
    assert set(open_run(run).read_metrics()["evaluate"]["r2"]["ridge"]["mean"]) == {name, FULL}


def test_but_for_that_of_the_whole_latent_in_scores(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    label_store(store)
    before = manifest_path(store.path).read_bytes()
    for words in (
        ("pair", store.path, "--share", f"{FULL}=identity"),
        ("cluster", store.path, "--near", f"{FULL}=AU06_r"),
    ):
        assert pipe(*words) == 2
        assert "Scores call the whole latent so" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"\.\./out"):
        pair_exactly(store, {"../out": ("identity",)})
    assert manifest_path(store.path).read_bytes() == before


@pytest.mark.parametrize("draws", [2**20 + 1, 2**64])
def test_draws_beyond_all_measure_are_refused(draws: int, store: Store) -> None:
    label_store(store)
    assert pipe("pair", store.path, "--share", "who=identity", "--draws", str(draws)) == 2
    assert pipe("cluster", store.path, "--near", "smile=AU12_r:3", "--draws", str(draws), "--overwrite") == 2
    assert pipe("cluster", store.path, "--near", "smile=AU12_r:3", "--rule", f"nearest:{draws}", "--overwrite") == 0


def test_this_folder_is_a_place_for_a_run_but_not_for_a_file(
    run: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert pipe("train", store.path, "--out", ".", *TINY) == 0
    assert pipe("evaluate", ".", "--samples", "100") == 0
    assert pipe("finetune", ".", "--steps", "2") == 0
    for words in (("encode", run, store.path), ("traverse", run)):
        assert pipe(*words, "--out", ".") == 2
        assert ". cannot be written.\nIt is a folder.\n" in capsys.readouterr().err


def test_a_run_takes_no_folder_of_something_else(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --overwrite it would remove what is not its own."""
    (tmp_path / "own" / "figures").mkdir(parents=True)
    for place, why in (
        (store.path, f"It is {store.path}, which is read."),
        (tmp_path / "own", "It holds files, but no run."),
    ):
        assert pipe("train", store.path, "--out", place, *TINY) == 1
        assert why in capsys.readouterr().err
        assert not (place / "config.json").exists()
    for words in ((), ("--overwrite",)):
        assert pipe("finetune", run, "--steps", "2", "--out", run, *words) == 1
    assert open_run(run).latest() is not None


def test_what_does_not_fit_into_memory_is_told_so() -> None:
    for error in (
        MemoryError("Unable to allocate 16.0 GiB"),
        RuntimeError("can't allocate memory: 2199023255552 bytes"),
    ):
        assert explain(error).startswith("Memory does not suffice.")


@pytest.mark.parametrize(
    ("ending", "magic"),
    [
        ("png", b"\x89PNG"),
        ("PNG", b"\x89PNG"),
        ("jpg", b"\xff\xd8"),
        ("pdf", b"%PDF"),
        ("svg", b"<?xml"),
        ("gif", b"GIF89a"),
    ],
)
def test_pictures_are_what_their_name_says(ending: str, magic: bytes, run: Path, store: Store, tmp_path: Path) -> None:
    assert pipe("traverse", run, "--out", tmp_path / f"t.{ending}", "--steps", "3") == 0
    assert (tmp_path / f"t.{ending}").read_bytes().startswith(magic)
    if ending != "gif":
        assert pipe("inspect", store.path, "--pairs", tmp_path / f"p.{ending}") == 0
        assert (tmp_path / f"p.{ending}").read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["t.tif", "t.webp", "t.csv", "t", "t.parquet"])
def test_other_names_are_refused(
    name: str, run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [("traverse", run, "--out"), ("inspect", store.path, "--pairs")]
    commands += [] if name == "t.parquet" else [("encode", run, store.path, "--out")]
    for words in commands:
        assert pipe(*words, tmp_path / name) == 2
        assert f"{name} cannot be written" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("reach", ["nan", "inf", "1e400"])
def test_a_traversal_goes_no_way_that_is_no_number(reach: str, run: Path) -> None:
    assert pipe("traverse", run, "--reach", reach) == 2
    assert pipe("traverse", run, "--steps", str(2**40)) == 2


def test_beta_is_the_objective_s_constant(store: Store, tmp_path: Path) -> None:
    train = ("train", store.path, "--out", tmp_path / "run", *TINY)
    assert pipe(*train, "--objective", "dip2:lambda_od=3", "--beta", "2") == 0
    assert open_run(tmp_path / "run").config.model.objective == DIPVAE2(beta=2.0, lambda_od=3.0)
    assert pipe(*train, "--objective", "dip2:lambda_od=3,beta=2") == 0, "the same run"


def test_messages_name_the_remedy() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "store/images.npy")
    assert explain(full).splitlines() == [
        "store/images.npy: No space left on device.",
        "Free some space, then run the same command again: it goes on where it stopped.",
    ]
    assert len(explain(ValueError("a\n\nb")).splitlines()) == 2
    assert "--debug" in explain(RuntimeError("surprise"))


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in VERBS:
        assert pipe(name, "--help") == 0
        assert f"Example: pipe {name}" in " ".join(capsys.readouterr().out.split())


def test_every_option_says_in_a_short_sentence_what_it_does() -> None:
    def options(command: Any, name: str = "pipe") -> Iterator[tuple[str, str]]:
        for word, inner in getattr(command, "commands", {}).items():
            yield from options(inner, f"{name} {word}")
        for option in command.params:
            told = getattr(option, "help", None) or ""  # which old versions do not keep of arguments
            if option.name != "help" and (told or option.param_type_name == "option"):
                yield f"{name} {option.name}", told

    told = dict(options(typer.main.get_command(app)))
    assert len(told) > 100
    short = {name: text for name, text in told.items() if not (5 <= len(text.split()) <= 40 and text.endswith("."))}
    assert short == {}


def test_help_and_the_packages_import_nothing_heavy() -> None:
    heavy = ["torch", "pandas", "pyarrow", "dask", "faiss", "cv2", "numpy", "bokeh", "tornado"]
    code = "import sys, gated_vae.preprocessing, gated_vae.pairing, gated_vae.models, gated_vae.pipelines.cli"
    code += f"; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_codes_are_written_a_row_group_at_a_time(run: Path, store: Store, tmp_path: Path) -> None:
    opened = opened_run(run)
    encode_store(opened, store, tmp_path / "whole.parquet")
    encode_store(opened, store, tmp_path / "parts.parquet", row_group=7)
    assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups == -(-len(store) // 7)
    whole, parts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4, atol=1e-6)  # codes about 0 have float32 roundings of the sum
    assert whole["sample_id"].tolist() == list(range(len(store)))


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_sleep_soon_while_they_wait(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before PyTorch is loaded, which `--help` does not do; what the user says counts."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    pipe("--help")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_training_starts_from_the_weights_of_another_run(run: Path, store: Store, tmp_path: Path) -> None:
    words = ("train", store.path, "--seed", "1", "--steps", "1", "--lr", "1e-12")
    sizes = ("--network", "fc", "--hidden", "8,8", "--batch-size", "16", "--latent", "pose=2,expression=2")
    assert pipe(*words, *sizes, "--initial", run, "--out", tmp_path / "next") == 0
    before, after = (opened_run(path).model.state_dict() for path in (run, tmp_path / "next"))
    parameters = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in parameters)
    assert pipe(*words, *sizes, "--out", tmp_path / "next") == 1  # another beginning is another run
    other = ("--network", "fc", "--hidden", "9,8", "--batch-size", "16", "--latent", "pose=2,expression=2")
    assert pipe(*words, *other, "--initial", run, "--out", tmp_path / "wide") == 1
    assert not (tmp_path / "wide" / "config.json").exists()


def test_dead_partitions_are_told_with_a_remedy(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", store.path, *TINY, "--checkpoint-every", "4")
    monkeypatch.setattr("gated_vae.pipelines.evaluation.opened.DEAD", 0.0)
    assert pipe(*words, "--out", tmp_path / "run") == 0
    assert "no dimension" not in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*[0-9].safetensors"))
    assert names == ["step-000000004.safetensors", "step-000000006.safetensors"]
    kl = opened_run(tmp_path / "run").encode(store.images).kl()
    pose, expression = max(kl[:2]), max(kl[2:])
    assert pose != expression
    monkeypatch.setattr("gated_vae.pipelines.evaluation.opened.DEAD", (pose + expression) / 2)
    assert pipe(*words, "--overwrite", "--out", tmp_path / "run") == 0
    dead = "pose" if pose < expression else "expression"
    assert f"dead {dead}: no dimension tells" in " ".join(capsys.readouterr().out.split())


def test_a_service_that_cannot_start_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert pipe("serve", tmp_path / "absent") == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
