"""Files that are there whole or not at all, also when two processes write the same one."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from preprocessing.errors import GatedVAEError
from preprocessing.files import atomic_path, file_digest, read_json, write_bytes, write_json


def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def write_half() -> None:
        with atomic_path(path) as partial:
            partial.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.json'"):
        write_half()
    assert read_json(path, "") == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_is_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    with atomic_path(path) as partial:
        partial.write_bytes(b"first")
        with pytest.raises(GatedVAEError, match="being written by another process"):
            write_bytes(path, b"second")
    assert path.read_bytes() == b"first"
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").write_bytes(b"longer than what follows")
    write_bytes(tmp_path / "a", b"whole")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"whole"}


def _write_often(path: Path, letter: int, start: Barrier) -> None:
    start.wait()
    for _ in range(60):
        try:
            write_bytes(path, bytes([letter]) * 20_000)
        except GatedVAEError:
            continue


def test_many_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"0" * 20_000)
    fresh = multiprocessing.get_context("spawn")
    start = fresh.Barrier(3)
    writers = [fresh.Process(target=_write_often, args=(path, 65 + n, start)) for n in range(3)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        data = path.read_bytes()
        assert (len(data), len(set(data))) == (20_000, 1)
        seen.add(data[0])
        time.sleep(0.001)
    assert [writer.exitcode for writer in writers] == [0] * 3
    assert len(seen) > 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
