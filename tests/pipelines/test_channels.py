"""Results and messages where they cannot be written, and names that a terminal would obey."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gated_vae.pipelines import channels, console
from gated_vae.pipelines.channels import clean
from gated_vae.pipelines.console import Lines
from gated_vae.preprocessing.store import Store, images_path, manifest_path
from tests.machine import HANG
from tests.pipelines.test_cli import TINY, pipe
from tests.robustness.faultlib import read_tree

MAIN = "from gated_vae.pipelines.cli import main; main()"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")


def shell(line: str, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ``pipe words`` with its channels as a line of the shell says."""
    command = ["sh", "-c", f'"$0" -c "{MAIN}" "$@" {line}', sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=HANG, check=False)


@pytest.mark.parametrize(("line", "form"), [pytest.param(">/dev/full", "--json", marks=needs_full), (">&-", "")])
def test_a_result_that_cannot_be_printed_is_one_message(line: str, form: str, store: Store) -> None:
    ended = shell(line, "inspect", store.path, *filter(None, [form]))
    assert ended.returncode == 1
    what, why, remedy = ended.stderr.decode().splitlines()
    assert what == "The result cannot be printed."
    assert why in ("No space left on device.", "It is closed.")
    assert remedy


def test_a_reader_that_goes_away_is_one_message(store: Store) -> None:
    """The pipe is closed before anything is written to it."""
    for form in ("--json", ""):
        ended = shell("| exec <&-; sleep 0", "inspect", store.path, *filter(None, [form]))
        assert ended.stderr.decode().splitlines()[:1] == ["The result cannot be printed."]


@pytest.mark.parametrize("line", ["", "2>&-"])
def test_a_store_whose_images_are_cut_while_they_are_read_ends_a_command_in_words(line: str, store: Store) -> None:
    cut = f"""
import os
from gated_vae.preprocessing.store import Store
images = Store.images.func
def cut(store):
    mapped = images(store)
    os.truncate({str(images_path(store.path))!r}, 128)
    return mapped
Store.images = property(cut)
from gated_vae.pipelines.cli import main
main()"""
    words = [cut, "inspect", store.path, "--pairs", store.path.parent / "pairs.png"]
    command = ["sh", "-c", f'"$0" -c "$@" {line}', sys.executable, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, timeout=HANG, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == (0 if line else 3)
    assert line or ended.stderr.startswith(b"A file was cut while it was read")


@pytest.mark.parametrize("line", [pytest.param("2>/dev/full", marks=needs_full), "2>&- <&-"])
def test_messages_that_cannot_be_written_stop_nothing(line: str, tmp_path: Path) -> None:
    """Told often, as after five seconds; and no file that is opened meanwhile gets the number of standard error."""
    often = "from gated_vae.pipelines.console import Lines; Lines.FIRST = Lines.EVERY = 0.001; "
    words = ["simulate", "faces", "--n", "3", "--workers", "1", "--json", "--out", tmp_path / "shouted"]
    command = ["sh", "-c", f'"$0" -c "{often}{MAIN}" "$@" {line}', sys.executable, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, timeout=HANG, check=False)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["images"] == 3
    assert ended.stderr == b""
    assert pipe(*words[:-1], tmp_path / "told") == 0
    made, whole = (read_tree(tmp_path / name) for name in ("shouted", "told"))
    assert made == whole


@needs_full
def test_a_failure_that_cannot_be_told_keeps_its_exit_code(tmp_path: Path) -> None:
    assert shell("2>/dev/full", "inspect", tmp_path / "none").returncode == 1
    assert shell("2>/dev/full", "inspect").returncode == 2


class Broken(io.StringIO):
    """A terminal that has gone away."""

    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        return True


def test_a_terminal_that_goes_away_stops_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Broken())
    channels.prepare()
    with console.progress("work") as update:
        update(1, 2)
    console.say("done")


# Names

ODD = "a\x1b]0;title\x07b\x9b31mc\x08d\u202ee\x7f"


def test_control_characters_are_replaced_and_letters_are_not() -> None:
    assert clean(ODD) == "a\ufffd]0;title\ufffdb\ufffd31mc\ufffdd\ufffde\ufffd"
    assert clean("Müller\tλ 张\n\N{ZERO WIDTH JOINER}👩") == "Müller\tλ 张\n\N{ZERO WIDTH JOINER}👩"


def test_no_name_or_manifest_speaks_to_the_terminal(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path.rename(tmp_path / ODD)
    manifest = json.loads(manifest_path(path).read_text())
    manifest |= {"kind": f"celeba{ODD}", "parameters": {ODD: "first\nsecond"}}
    manifest_path(path).write_text(json.dumps(manifest))
    monkeypatch.setattr(Lines, "FIRST", 0.001)
    assert pipe("inspect", path) == 0
    assert pipe("verify", path) == 1
    assert pipe("train", path, "--out", tmp_path / f"run{ODD}", *TINY) == 0
    assert pipe("inspect", tmp_path / f"run{ODD}") == 0
    assert pipe("inspect", tmp_path / f"none{ODD}") == 1
    console.say(ODD)
    printed, said = capsys.readouterr()
    for text in (printed, said):
        assert "\N{REPLACEMENT CHARACTER}" in text
        assert not set(text) & set("\x1b\x07\x9b\x08\u202e\x7f")
    assert "first second" in printed, "a line of a table stays one line"


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a:smile:[b]b")
    console.show({}, {"a:smile:[b]b": "a:smile:[b]b"}, as_json=False)
    assert "".join(capsys.readouterr()).count("a:smile:[b]b") == 3


def test_json_escapes_what_a_terminal_would_obey(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads(manifest_path(store.path).read_text())
    manifest_path(store.path).write_text(json.dumps({**manifest, "kind": "\x1b[31m"}))
    assert pipe("inspect", store.path, "--json") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert json.loads(printed)["kind"] == "\x1b[31m"
