"""Progress where there is no terminal: plain lines in a job's log, in time, and none where a command ends soon."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from gated_vae.pipelines import console
from gated_vae.pipelines.console import Lines
from gated_vae.preprocessing.store import Store
from tests.machine import HANG
from tests.pipelines.evaluation.test_probes_of_faces import label_store
from tests.pipelines.test_cli import TINY, pipe


def test_a_line_tells_steps_losses_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6,000 steps 1,000 were done before; 500 more took 50 s, so that the 4,500 that are left take 450 s."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = Lines("train", "steps")
    assert lines.line(107.0) == "0:00:07 so far"
    now = 110.0
    lines.update(1000, 6000)
    assert lines.line(111.0) == "1,000 of 6,000 steps, 0:00:11 so far"
    now = 160.0
    lines.update(1500, 6000, "pose 512.3  expression 498.1")
    assert lines.line(160.0) == "1,500 of 6,000 steps, pose 512.3  expression 498.1, 0:01:00 so far, 0:07:30 left"


def test_no_time_is_told_where_the_stage_under_way_takes_longer_than_all_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of three took 10 s together, so that the third may take 5; after more than 10 nobody knows."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = Lines("evaluate")
    lines.update(0, 3, "encoding")
    now = 10.0
    lines.update(2, 3, "DCI")
    assert lines.line(12.0) == "2 of 3, DCI, 0:00:12 so far, 0:00:06 left"
    now = 20.0
    lines.update(2, 3, "DCI")
    assert lines.line(25.0) == "2 of 3, DCI, 0:00:25 so far"


def test_rows_are_whole_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths of a job's log are copied, so that none is cut in two; blanks at the ends of lines are nobody's."""
    path = "/".join(["a-folder-of-some-length"] * 9)
    monkeypatch.delenv("COLUMNS", raising=False)
    console.show({}, {"store": path, "pairs": "few"}, as_json=False)
    assert capsys.readouterr().out == f"store  {path}\npairs  few\n"
    monkeypatch.setenv("COLUMNS", "40")
    console.show({}, {"store": path}, as_json=False)
    assert len(capsys.readouterr().out.splitlines()) == -(-len(path) // 33)


def write_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever commands tell is written before they go on."""
    monkeypatch.setattr(Lines, "FIRST", 0.002)
    monkeypatch.setattr(Lines, "EVERY", 0.002)
    written, update, line = Event(), Lines.update, Lines.line

    def wait(self: Lines, *told: Any) -> None:
        update(self, *told)
        for _ in range(2):  # one may have been under way
            written.clear()
            assert written.wait(HANG)

    monkeypatch.setattr(Lines, "line", lambda self, now: (line(self, now), written.set())[0])
    monkeypatch.setattr(Lines, "update", wait)


@pytest.mark.parametrize(
    ("words", "told", "forced"),
    [
        (
            ("train", "STORE", "--out", "RUN", *TINY[:-6], "--steps", "100", "--batch-size", "16"),
            r"\d+ of 100 steps, ",
            True,
        ),
        (("evaluate", "RUN"), r"\d of 4, (encoding|probes|DCI|swaps), ", False),
        (
            ("cluster", "STORE", "--pose", "9", "--expression", "9", "--draws", "99", "--overwrite"),
            r"[\d,]+ of 59,400 pairs, pose: \w+, ",
            True,
        ),
        (("simulate", "faces", "--n", "9", "--out", "FACES", "--workers", "1"), r"\d of 9, pictures, ", False),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_commands_tell_how_far_they_are_in_plain_lines(
    words: tuple[str, ...],
    told: str,
    forced: bool,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the environment asks for colours, as that of CI often does."""
    label_store(store)
    if words[0] == "evaluate":
        assert pipe("train", store.path, "--out", tmp_path / "run", *TINY) == 0
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    write_at_once(monkeypatch)
    capsys.readouterr()
    places = {"STORE": store.path, "RUN": tmp_path / "run", "FACES": tmp_path / "faces"}
    assert pipe(*(places.get(word, word) for word in words)) == 0
    lines = capsys.readouterr().err
    assert re.search(rf"^{words[0]}: {told}\d:\d\d:\d\d so far", lines, re.MULTILINE)
    assert not set(lines) & {"\r", "\x1b"}
    assert all(re.fullmatch(rf"{words[0]}: .*\d:\d\d:\d\d so far(, .* left)?", line) for line in lines.splitlines())


def test_a_command_that_ends_soon_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("quick") as update:
        update(1, 2)
    assert capsys.readouterr().err == ""
    assert 1 <= Lines.FIRST <= 10 <= Lines.EVERY <= 30
