"""Where commands write: into what is new or empty, or ours; over files of the same kind alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pipelines.training.run import open_run
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.simulate import faces
from gated_vae.preprocessing.store import pairs_path, samples_path
from tests.pipelines.test_cli import TINY, pipe
from tests.robustness.faultlib import read_tree
from tests.stores import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and a run of it, from which another starts."""
    folder = tmp_path_factory.mktemp("made")
    make_store(folder / "store")
    assert pipe("train", folder / "store", "--out", folder / "run", *TINY) == 0
    assert pipe("finetune", folder / "run", "--steps", "2") == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "here", symlinks=True)
    return tmp_path / "here"


# Files


def test_codes_replace_codes_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode = ("encode", here / "run", here / "store", "--out")
    assert pipe(*encode, here / "codes.parquet") == 0
    pq.write_table(pa.table({"sample_id": [1, 2], "age": [30, 40]}), here / "mine.parquet")
    (here / "text.parquet").write_text("notes")
    (here / "link.parquet").symlink_to(here / "codes.parquet")
    os.mkfifo(here / "pipe.parquet")
    (here / "empty.parquet").touch()
    before = read_tree(here)
    tables = (samples_path(here / "store"), pairs_path(here / "store", "pose"), here / "mine.parquet")
    for out in (*tables, *(here / f"{name}.parquet" for name in ("text", "link", "pipe"))):
        assert pipe(*encode, out) == 1, out
        assert f"{out}" in capsys.readouterr().err
    assert pipe(*encode, pairs_path(here / "store", "pose").with_name("codes.parquet")) == 1
    assert "among the files of" in capsys.readouterr().err
    assert pipe(*encode, here / "codes.parquet") == 0
    assert read_tree(here) == before
    assert pipe(*encode, here / "empty.parquet") == 0
    assert pipe(*encode, here / "store" / "codes.parquet") == 0, "it is in nobody's way"


PICTURES: dict[str, Callable[[Path], tuple[str | Path, ...]]] = {
    "traverse": lambda here: ("traverse", here / "run", "--steps", "2", "--out"),
    "inspect": lambda here: ("inspect", here / "store", "--pairs"),
}


@pytest.mark.parametrize(
    ("name", "ending"),
    [("traverse", "png"), ("traverse", "gif"), ("inspect", "jpg"), ("inspect", "svg"), ("inspect", "pdf")],
)
def test_a_picture_replaces_one_of_its_form_and_nothing_else(
    name: str, ending: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, out = PICTURES[name](here), here / f"picture.{ending}"
    assert pipe(*draw, out) == 0
    assert pipe(*draw, out) == 0
    whole = out.read_bytes()
    other = here / f"other.{ending}"
    for content in (b"<?xml version='1.0'?><html>", b"%P", whole[1:4]):
        other.write_bytes(content)
        assert pipe(*draw, other) == 1
        assert f"{other} is not replaced.\nIt is no {ending} file." in capsys.readouterr().err
        assert other.read_bytes() == content
    other.unlink()
    other.symlink_to("/dev/null")
    assert pipe(*draw, other) == 1
    assert other.is_symlink()


def test_a_page_replaces_a_page_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ("report", here / "run", "--out")
    assert pipe(*report, here / "page.html") == 0
    assert pipe(*report, here / "page.html") == 0
    (here / "mine.html").write_text("notes")
    (here / "link.html").symlink_to("/dev/null")
    for name in ("mine", "link"):
        assert pipe(*report, here / f"{name}.html") == 1
        assert "It is no html file" in capsys.readouterr().err
    assert (here / "mine.html").read_text() == "notes"


@pytest.mark.parametrize("verb", ["report", "evaluate"])
def test_results_go_into_no_store_and_no_other_run(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other").mkdir()
    shutil.copy(here / "run" / "config.json", here / "other")
    before = read_tree(here)
    for out in (here / "store", here / "store" / "pairs", here / "other", here / "run" / "deeper"):
        assert pipe(verb, here / "run", "--out", out) == 1
        assert "a store or a run" in capsys.readouterr().err
    (here / "results").mkdir()
    (here / "results" / "metrics.json").write_text('{"accuracy": 0.9}')
    assert pipe(verb, here / "run", "--out", here / "results") == 1
    assert "metrics.json cannot be used." in capsys.readouterr().err
    (here / "results" / "metrics.json").unlink()
    (here / "results").rmdir()
    assert read_tree(here) == before


# Folders


def train(here: Path, out: Path, *more: str) -> int:
    return pipe("train", here / "store", "--out", out, *TINY, *more)


def test_a_run_takes_a_new_folder_or_an_empty_one_or_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = here / "mine"
    (mine / "events.d").mkdir(parents=True)
    (mine / "config.json").write_text('{"name": "of another program", "schema_version": 1}')
    (here / "papers").mkdir()
    (here / "papers" / "thesis.tex").touch()
    before = read_tree(here)
    for out in (mine, here / "papers", here, here / "store", here / "store" / "runs", here / "run" / "more"):
        for more in ((), ("--overwrite",)):
            assert train(here, out, *more) == 1, out
            assert len(capsys.readouterr().err.splitlines()) <= 3
            assert read_tree(here) == before
    (here / "empty").mkdir()
    (here / "empty" / ".git").touch()
    assert train(here, here / "empty") == 0
    assert train(here, here / "new") == 0


def test_overwriting_removes_what_a_run_has_and_nothing_else(here: Path) -> None:
    run, disk = here / "run", here / "disk"
    assert pipe("report", run) == 0
    shutil.move(run / "checkpoints", disk)
    (run / "checkpoints").symlink_to(disk)
    own = ["notes.txt", "figures/for-the-paper.svg", "finetuned/notes.txt", "events.d/a", "events.csv"]
    for name in own:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(name)
    kept = read_tree(disk)
    assert train(here, run, "--overwrite", "--lr", "0.5") == 0
    assert open_run(run).config.lr == 0.5
    assert [(run / name).read_text() for name in own] == own
    assert read_tree(disk) == kept
    assert not {"report.html", "MODEL_CARD.md", "figures/pairs.png", "finetuned/config.json"} & set(read_tree(run))


def test_a_run_stays_where_what_is_to_replace_it_cannot_be_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = here / "run"
    before = read_tree(run)
    shutil.copytree(here / "store", here / "unpaired")
    manifest = json.loads((here / "unpaired" / "store.json").read_text())
    (here / "unpaired" / "store.json").write_text(json.dumps({**manifest, "partitions": {}}))
    hidden = [word if word != "8,8" else "1000000,1000000" for word in TINY]
    for words in (
        ("train", here / "none", "--out", run, *TINY),
        ("train", here / "unpaired", "--out", run, *TINY),
        ("train", here / "store", "--out", run, *hidden),
        ("train", here / "store", "--out", run, *TINY, "--method", "composed"),
    ):
        assert pipe(*words, "--overwrite") == 1
        assert read_tree(run) == before
    weights = checkpoints(run / "checkpoints")[-1].weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    before = read_tree(run)
    assert pipe("finetune", run, "--steps", "3", "--overwrite") == 1
    assert f"{weights}" in capsys.readouterr().err
    assert read_tree(run) == before
    with locked(run):
        assert train(here, run, "--overwrite") == 1
    assert read_tree(run) == before


def test_a_run_that_is_replaced_is_there_until_the_new_one_is_trained(here: Path) -> None:
    run = here / "run"
    for words in (("traverse", run), ("report", run)):
        assert pipe(*words) == 0
    before = read_tree(run)
    for _ in range(2):
        assert train(here, run, "--overwrite", "--lr", "1e30", "--precision", "fp32") == 1  # it diverges
        assert read_tree(run / ".replaced") == before
    assert pipe("verify", run / ".replaced") == 0
    shutil.copytree(run / ".replaced", here / "older")
    assert train(here, run, "--overwrite", "--seed", "1") == 0
    assert not (run / ".replaced").exists()
    shutil.move(here / "older", run / ".replaced")  # as if training had been killed before it removed that
    newer = read_tree(run / "checkpoints")
    assert train(here, run, "--overwrite", "--lr", "1e30", "--precision", "fp32") == 1
    assert read_tree(run / ".replaced" / "checkpoints") == newer
    assert train(here, run, "--overwrite", "--seed", "1") == 0
    assert read_tree(run).keys() == {
        name for name in before if not name.startswith(("figures", "finetuned", "report", "MODEL_CARD"))
    }


def test_simulated_faces_that_are_replaced_are_there_until_the_new_ones_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = tmp_path / "faces", faces.draw_batch
    simulate = ("simulate", "faces", "--n", "1", "--workers", "1", "--out", out)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert pipe(*simulate) == 0
    before = read_tree(out)
    monkeypatch.setattr(faces, "draw_batch", full)
    for seed in ("1", "2"):
        assert pipe(*simulate, "--seed", seed, "--overwrite") == 1
        assert read_tree(out / ".replaced") == before
    monkeypatch.setattr(faces, "draw_batch", drawn)
    assert pipe(*simulate, "--seed", "2") == 0
    assert read_tree(out).keys() == before.keys()
    assert read_tree(out) != before


def test_what_is_replaced_goes_nowhere_where_a_link_leads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate = ("simulate", "faces", "--n", "1", "--workers", "1", "--out", here / "faces")
    assert pipe(*simulate) == 0
    assert pipe("report", here / "run") == 0
    for name in ("report.html", "identity.txt", "figures/pairs.png"):
        (here / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "mine" / name).write_text("mine")
    commands = {
        here / "faces": (*simulate, "--seed", "1", "--overwrite"),
        here / "run": ("train", here / "store", "--out", here / "run", *TINY, "--overwrite"),
    }
    links = {here / "faces" / ".replaced": here / "mine", here / "run" / ".replaced": here / "mine"}
    links[here / "run" / ".replaced" / "figures"] = here / "mine" / "figures"
    for link, place in links.items():
        if link.parent.is_symlink():
            link.parent.unlink()
            link.parent.mkdir()
        link.symlink_to(place)
        before = read_tree(here)
        assert pipe(*commands[next(folder for folder in commands if folder in link.parents)]) == 1
        assert "cannot be used.\nA link leads to where it lies." in capsys.readouterr().err
        assert read_tree(here) == before


def test_an_experiment_takes_a_new_folder_or_an_empty_one_or_its_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "papers").mkdir()
    (here / "papers" / "faces.md").write_text("mine")
    before = read_tree(here)
    for out in (here / "papers", here / "store", here / "run", here / "run" / "experiment"):
        assert pipe("reproduce", "faces", here / "store", "--out", out, "--seeds", "1", "--steps", "2") == 1
        assert f"{out}" in capsys.readouterr().err
    assert read_tree(here) == before


def test_simulated_faces_take_a_new_folder_or_an_empty_one_or_their_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a", '{"version": 2}'), ("b", "[" * 10**5), ("c", None)):
        (here / name / "processed").mkdir(parents=True)
        if content:
            (here / name / "simulation.json").write_text(content)
    before = read_tree(here)
    simulate = ("simulate", "faces", "--n", "1", "--workers", "1", "--overwrite", "--out")
    for out in (here / "a", here / "b", here / "c", here / "store", here / "store" / "faces", here / "run"):
        assert pipe(*simulate, out) == 1
        assert f"{out}" in capsys.readouterr().err
    assert read_tree(here) == before
    assert pipe(*simulate, here / "d") == 0
    shutil.move(here / "d" / "processed", here / "disk")
    (here / "d" / "processed").symlink_to(here / "disk")
    kept = read_tree(here / "disk")
    assert pipe(*simulate, here / "d", "--seed", "1") == 0
    assert read_tree(here / "disk") == kept
    assert not (here / "d" / "processed").is_symlink()


# Names


def test_a_tilde_that_no_shell_has_replaced_is_refused_in_words(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in --out=~/store, which shells leave as it is, while Arrow opens what lies in the user's home."""
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.chdir(here)
    shutil.move(here / "store", here / "~")
    before = read_tree(here)
    for words in (
        ("inspect", "~"),
        ("train", "~", "--out", "new", *TINY),
        ("simulate", "faces", "--out", "~root/faces"),
    ):
        assert pipe(*words) == 1
        assert "The shell has not replaced its ~.\nWrite /" in capsys.readouterr().err
    assert read_tree(here) == before


@pytest.mark.parametrize("name", ["truth.parquet", ".parts/00000001.parquet"])
def test_what_simulated_faces_cannot_have_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate = ("simulate", "faces", "--n", "1", "--workers", "1", "--out", tmp_path / "faces")
    assert pipe(*simulate) == 0
    path = tmp_path / "faces" / name
    (tmp_path / "faces" / "truth.parquet").unlink()
    path.parent.mkdir(exist_ok=True)
    for make in (Path.touch, os.mkfifo, lambda path: pq.write_table(pa.table({"outcome": [[1]]}), path)):
        path.unlink(missing_ok=True)
        make(path)
        assert pipe(*simulate) == 1
        assert f"{path} cannot be read.\n" in capsys.readouterr().err


def test_paths_that_are_not_utf_8_are_refused_in_words_or_work(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = here / os.fsdecode(b"\xff")
    odd.mkdir()
    store, run = (shutil.copytree(here / name, odd / name) for name in ("store", "run"))
    before = read_tree(odd)
    for words in (
        *((verb, store) for verb in ("inspect", "verify", "cluster")),
        *((verb, run) for verb in ("inspect", "verify", "report", "evaluate", "finetune")),
        ("train", store, "--out", here / "new", *TINY),
        ("train", here / "store", "--out", odd / "new", *TINY),
        ("reproduce", "faces", here / "store", "--out", odd / "new"),
        ("simulate", "faces", "--n", "1", "--out", odd / "new"),
        ("encode", here / "run", store, "--out", here / "codes.parquet"),
    ):
        assert pipe(*words) == 1, words
        assert "is not UTF-8" in capsys.readouterr().err
    assert read_tree(odd) == before
    assert pipe("encode", here / "run", here / "store", "--out", odd / "codes.parquet") == 0
    assert pipe("traverse", here / "run", "--out", odd / "picture.png") == 0
    assert pipe("report", here / "run", "--out", odd / "page.html") == 0
    assert {"codes.parquet", "picture.png", "page.html"} <= set(read_tree(odd))


# Folders taken for others


def test_a_folder_that_is_taken_for_a_store_or_a_run_is_told_as_what_it_is(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    Path("seeds").mkdir()
    for seed in ("0", "1"):
        shutil.copytree("run", f"seeds/{seed}")
    Path("photos").mkdir()
    for words, told in {
        ("cluster", "run"): ["run is no store but a run.", "`pipe inspect run` says where its store is."],
        ("cluster", "photos"): ["photos is no store.", "It has no store.json."],
        ("evaluate", "store"): ["store is no run but a store.", "Give the --out of `pipe train store`."],
        ("evaluate", "seeds"): ["seeds is no run, but holds some.", "They are 0, 1.", "Give one of them: seeds/0."],
        ("evaluate", "photos"): ["photos/config.json does not exist."],
    }.items():
        assert pipe(*words) == 1
        assert capsys.readouterr().err.splitlines()[: len(told)] == told


def test_a_run_of_a_method_that_is_not_registered_here_is_not_called_damaged(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = here / "run" / "config.json"
    config.write_text(config.read_text().replace('"gate:regulariser=true"', '"leaky-gate:leak=0.2"'))
    assert pipe("inspect", here / "run") == 1
    cannot, why, remedy = capsys.readouterr().err.splitlines()
    assert (cannot, why) == (f"{here}/run cannot be opened.", "Nothing here is called 'leaky-gate'.")
    assert "script that adds it" in remedy
