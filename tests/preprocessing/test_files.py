"""Files that are there whole or not at all, also when two processes write the same one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from gated_vae.preprocessing import errors, files
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import (
    atomic_file,
    file_digest,
    make_room,
    read_json,
    read_sealed,
    write_at,
    write_bytes,
    write_json,
    write_sealed,
)


def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.json'"):
        write_half()
    assert read_json(path, "") == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_is_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    with atomic_file(path) as file:
        file.write(b"first")
        with pytest.raises(GatedVAEError, match="being written by another process"):
            write_bytes(path, b"second")
    assert path.read_bytes() == b"first"
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"


def test_bytes_are_on_the_disk_before_they_have_their_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that stops could leave a file of that name with nothing in it."""
    happened, real = list[str](), Path.replace

    def sync(handle: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", lambda path, to: (happened.append("name"), real(path, to))[1])
    write_bytes(tmp_path / "a", b"whole")
    files.commit(tmp_path / "a", tmp_path / "b")
    assert happened == ["file", "name", "folder"] * 2
    with atomic_file(tmp_path / "work", durable=False):
        happened.clear()
    assert happened == ["name"]


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


@pytest.mark.parametrize("data", [b"", b"\0", b"words of a work file"])
def test_a_work_file_is_read_whole_or_not_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "work"
    assert read_sealed(path) is None
    write_sealed(path, data)
    assert read_sealed(path) == data
    whole = path.read_bytes()
    for torn in (b"", bytes(len(whole)), whole[:-1], whole + b"\0", whole[1:], bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(torn)
        assert read_sealed(path) is None


def test_parts_of_a_file_are_written_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "parts"
    with pytest.raises(FileNotFoundError):
        write_at(path, 0, b"a")
    make_room(path, 6)
    write_at(path, 3, b"def")
    write_at(path, 0, memoryview(b"abc"))
    assert path.read_bytes() == b"abcdef"
    make_room(path, 4)
    assert path.read_bytes() == b"abcd"
    make_room(path, 5)
    assert path.read_bytes() == b"abcd\0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
def test_a_full_disk_is_told_with_the_name_of_the_file() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_at(Path("/dev/full"), 0, b"a")


def test_a_link_named_like_the_temporary_file_is_removed_not_written_to(tmp_path: Path) -> None:
    """Whoever makes a run for others could have it lead to any file of theirs."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    partial = tmp_path / "run" / ".page.html.partial"
    partial.parent.mkdir()
    for make in (partial.symlink_to, partial.hardlink_to):
        make(mine)
        files.write_bytes(tmp_path / "run" / "page.html", b"page")
        assert (mine.read_text(), (tmp_path / "run" / "page.html").read_bytes()) == ("mine", b"page")
    os.mkfifo(partial)
    files.write_bytes(tmp_path / "run" / "page.html", b"more")
    assert (tmp_path / "run" / "page.html").read_bytes() == b"more"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "new")
    with pytest.raises(GatedVAEError, match=r"\.lock is a link"), files.locked(tmp_path):
        pass
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero"), lambda path: Path(path).mkdir()]
)
def test_what_is_no_file_is_not_waited_on(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "store.json")
    with pytest.raises(GatedVAEError, match="regular"):
        files.read_json(tmp_path / "store.json", "")
    with pytest.raises(GatedVAEError, match="regular"), files.readable(tmp_path / "store.json", ""):
        raise AssertionError
    with pytest.raises(OSError, match=r"(?i)regular|directory"):
        files.read_bytes(tmp_path / "store.json", 10)


def test_errors_name_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    with pytest.raises(OSError, match=f"File too large: '{tmp_path}/a'"):
        files.read_bytes(tmp_path / "a", 3)
    with pytest.raises(OSError, match=r"Stale.*a'"), errors.naming(tmp_path / "a"):
        raise OSError(errno.ESTALE, "Stale")
    with pytest.raises(OSError, match=r"^torn page$"), errors.naming(tmp_path / "a"):
        raise OSError("torn page")  # as Arrow does


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError("bad"), OSError("bad"), OSError(errno.EIO, "bad")])
def test_whatever_a_file_raises_names_it_and_the_machines_troubles_stay(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "a").touch()
    told = pytest.raises(GatedVAEError, match=r"a cannot be read\.\n(.bad|bad|Input).*\nMend it\.")
    with told, files.readable(tmp_path / "a", "Mend it."):
        raise error
    with pytest.raises(OSError, match=r"files.*a'"), files.readable(tmp_path / "a", ""):
        raise OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(GatedVAEError, match="does not exist"), files.readable(tmp_path / "b", ""):
        raise AssertionError


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b" " * (17 << 20), b"1" * 10_000])
def test_manifests_without_bounds_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "store.json").write_bytes(text)
    with pytest.raises(GatedVAEError, match="cannot be read"):
        files.read_json(tmp_path / "store.json", "")


def test_what_is_written_may_not_overlap_what_is_read(tmp_path: Path) -> None:
    read = tmp_path / "a" / "of"
    read.mkdir(parents=True)
    (tmp_path / "link").symlink_to(read)
    for out, how in ((read, "is"), (tmp_path / "a", "holds"), (read / "store", "lies in"), (tmp_path / "link", "is")):
        with pytest.raises(GatedVAEError, match=f"It {how} "):
            files.refuse_overlap(out, [read])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    files.refuse_overlap(tmp_path / "loop", [read])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"schema_version": 4}')
    with pytest.raises(GatedVAEError, match="a store or a run"):
        files.refuse_overlap(tmp_path / "run" / "deep" / "store", [read])
    files.refuse_overlap(tmp_path / "a" / "store", [read])
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    files.refuse_overlap(tmp_path / "circle" / "store", [read])


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk" / "pairs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    files.remove(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    files.remove(tmp_path / "link")
    assert (tmp_path / "disk" / "pairs").is_dir()
