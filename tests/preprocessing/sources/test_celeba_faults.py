"""Whatever interrupts `preprocess_celeba`: the old store or the new one, and the same bytes after running it again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pandas as pd
import pytest

from gated_vae.preprocessing import files, image_file
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources import pictures
from gated_vae.preprocessing.sources.celeba import tasks as shards
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.store import groups_path, images_path, manifest_path, open_store, rejected_path
from tests.folders import picture, read_tree, write_image_faces


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CelebaOptions:
    """Twelve images in several shards: two faces in one, none in another, one picture damaged, one face poor."""
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", 4)
    monkeypatch.setattr("gated_vae.preprocessing.sources.celeba.tasks.SHARD_FILES", 5)
    folder = tmp_path / "of"
    for stem in "abcdefghijkl":
        write_image_faces(folder, stem, {"c": [{}, {}], "e": [], "k": [{"confidence": 0.1}]}.get(stem, [{}]))
    damaged = cv2.imencode(".jpg", picture(1))[1].tobytes()[:-200] + b"\xff\xd9"
    (folder / "g_aligned" / "face_det_000000.bmp").write_bytes(damaged)
    return CelebaOptions(folder)


@pytest.fixture
def expected(source: CelebaOptions, tmp_path: Path) -> dict[str, bytes]:
    preprocess_celeba(source, tmp_path / "undisturbed", workers=1)
    return read_tree(tmp_path / "undisturbed")


class Interrupt:
    """Raises at the nth call, as a progress hook or in the place of a function."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error, self.calls = at, error, 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise self.error


def test_same_bytes_whatever_the_workers_and_shards(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(expected) == {"images.npy", "rejected.parquet", "samples.parquet", "store.json"}
    for workers, shard in ((3, 4), (2, 1), (1, 100)):
        monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", shard)
        monkeypatch.setattr("gated_vae.preprocessing.sources.celeba.tasks.SHARD_FILES", shard)
        preprocess_celeba(source, tmp_path / f"{workers}", workers=workers)
        assert read_tree(tmp_path / f"{workers}") == expected


def test_same_bytes_from_processes(
    source: CelebaOptions,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.PROCESSES_FROM", 1)
    preprocess_celeba(source, tmp_path / "store", workers=2)
    assert read_tree(tmp_path / "store") == expected
    assert capfd.readouterr() == ("", "")  # what libjpeg says of the damaged one is not seen


def test_interrupted_at_every_step_it_resumes_to_the_same_bytes(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []
    for module, name in (
        (shards, "read_faces"),
        (pictures, "use_one_thread"),
    ):  # once in each task that has something to do
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, real=real: (made.append(given), real(*given))[1])
    undisturbed = Interrupt(-1, KeyboardInterrupt())
    preprocess_celeba(source, tmp_path / "count", progress=undisturbed)
    assert undisturbed.calls == 3 + 3 + 1
    assert len(made) == 3 + 3
    for step in range(1, undisturbed.calls + 1):
        out = tmp_path / f"{step}"
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            preprocess_celeba(source, out, workers=1, progress=Interrupt(step, KeyboardInterrupt()))
        assert not manifest_path(out).exists()
        assert len(made) >= min(step, 6)
        preprocess_celeba(source, out, workers=2)
        assert len(made) == 6  # what was finished is not done again
        assert read_tree(out) == expected


def flipped(data: bytes) -> bytes:
    """One bit of the byte in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("tear", [lambda _: b"", lambda data: bytes(len(data)), lambda data: data[:-9], flipped])
def test_work_that_a_machine_tore_by_stopping_is_done_again(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, workers=1, progress=Interrupt(6, KeyboardInterrupt()))
    work = [path for path in (out / ".work").iterdir() if path.name.startswith(("faces-", "pixels-"))]
    assert len(work) == 6
    for path in work:
        path.write_bytes(tear(path.read_bytes()))
    preprocess_celeba(source, out)
    assert read_tree(out) == expected


@pytest.mark.parametrize(
    ("tear", "again"),
    [(None, 3), (lambda _: b"", 3), (lambda data: bytes(len(data)), 3), (lambda data: data[:-9], 1), (flipped, 1)],
)
def test_pixels_that_a_machine_tore_are_decoded_again(
    source: CelebaOptions,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tear: Callable[[bytes], bytes] | None,
    again: int,
) -> None:
    out, decoded = tmp_path / "store", Interrupt(-1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, workers=1, progress=Interrupt(6, KeyboardInterrupt()))
    images = images_path(out / ".work" / "store")
    if tear is None:
        images.unlink()
    else:
        images.write_bytes(tear(images.read_bytes()))
    monkeypatch.setattr(pictures, "use_one_thread", decoded)  # once in each task that has something to do
    preprocess_celeba(source, out)
    assert decoded.calls == again
    assert read_tree(out) == expected


@pytest.mark.parametrize("at", [1, 2, 3])
def test_interrupted_while_it_closes_gaps_it_resumes_to_the_same_bytes(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of three regions the second has a picture that failed: the header, it and the third are written."""
    out, real, interrupt = tmp_path / "store", image_file.write_at, Interrupt(3 + at, KeyboardInterrupt())
    with monkeypatch.context() as patch:
        patch.setattr(image_file, "write_at", lambda *given: (interrupt(), real(*given)))
        with pytest.raises(KeyboardInterrupt):
            preprocess_celeba(source, out, workers=1)
    preprocess_celeba(source, out)
    assert read_tree(out) == expected


def test_pixels_that_change_under_its_hands_are_noticed(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "store"
    images = images_path(out / ".work" / "store")

    def change(_done: int, _total: int, note: str) -> None:
        if note == "writing":
            images.write_bytes(flipped(images.read_bytes()))

    with pytest.raises(GatedVAEError, match=r"images\.npy is damaged.*\n.*\n.*same command again"):
        preprocess_celeba(source, out, progress=change)
    preprocess_celeba(source, out)
    assert read_tree(out) == expected


@pytest.mark.slow
def test_a_failure_at_every_write_leaves_the_old_store_or_none(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sync and every rename fails in turn, while a store of other options lies in the folder."""
    old_options = CelebaOptions(source.openface, size=16)
    preprocess_celeba(old_options, tmp_path / "old")
    old = read_tree(tmp_path / "old")
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", 6)
    monkeypatch.setattr("gated_vae.preprocessing.sources.celeba.tasks.SHARD_FILES", 6)
    real_sync, real_replace, survived = files.sync, Path.replace, 0
    for at in range(1, 100):
        out = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "old", out)
        fail = Interrupt(at, OSError(28, "No space left on device"))
        monkeypatch.setattr(files, "sync", lambda path: (fail(), real_sync(path)))  # noqa: B023
        monkeypatch.setattr(Path, "replace", lambda path, to: (fail(), real_replace(path, to))[1])  # noqa: B023
        try:
            preprocess_celeba(source, out, workers=1, overwrite=True)
        except OSError:
            assert fail.calls >= at
        else:
            break
        finally:
            monkeypatch.setattr(files, "sync", real_sync)
            monkeypatch.setattr(Path, "replace", real_replace)
        left = {name: data for name, data in read_tree(out).items() if not name.startswith(".work")}
        assert left in (old, expected) or "store.json" not in left
        survived += left == old
        preprocess_celeba(source, out, overwrite=True)
        assert read_tree(out) == expected
    assert at > survived > 10


def test_a_finished_command_does_nothing(source: CelebaOptions, tmp_path: Path) -> None:
    out = tmp_path / "store"
    preprocess_celeba(source, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    report = preprocess_celeba(source, out, progress=Interrupt(1, AssertionError("it worked")))
    assert report.already_done
    assert (report.seen, report.taken) == (13, 9)
    assert report.rejected == {"unreadable_picture": 1, "other_face": 1, "low_confidence": 1, "no_face": 1}
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_finished_command_starts_no_processes(
    source: CelebaOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess_celeba(source, tmp_path / "store")
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.PROCESSES_FROM", 1)
    started = Interrupt(1, AssertionError("it started some"))
    monkeypatch.setattr("gated_vae.preprocessing.compute.ProcessPoolExecutor", started)
    assert preprocess_celeba(source, tmp_path / "store").already_done
    with pytest.raises(AssertionError, match="started some"):
        preprocess_celeba(source, tmp_path / "other")


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_is_refused(source: CelebaOptions, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "store"
    if finished:
        preprocess_celeba(source, out)
    else:
        with pytest.raises(KeyboardInterrupt):
            preprocess_celeba(source, out, progress=Interrupt(2, KeyboardInterrupt()))
    before = read_tree(out)
    with pytest.raises(GatedVAEError, match=r"made with size 64; this command has 32\.\n.*preprocess` .*--overwrite"):
        preprocess_celeba(CelebaOptions(source.openface, size=32), out)
    write_image_faces(source.openface, "new", [{}])
    with pytest.raises(GatedVAEError, match="before they changed"):
        preprocess_celeba(source, out)
    assert read_tree(out) == before
    assert preprocess_celeba(source, out, overwrite=True).taken == 10


def test_a_source_that_changed_behind_the_same_names_and_sizes_is_noticed(
    source: CelebaOptions, tmp_path: Path
) -> None:
    """Faces made anew, a CSV corrected at the same length; what was only touched, or copied, makes the same store."""
    out, csv = tmp_path / "store", source.openface / "a.csv"
    preprocess_celeba(source, out)
    before = read_tree(out)
    os.utime(csv, ns=(1, 1))
    assert preprocess_celeba(source, out).already_done
    shutil.copytree(source.openface, tmp_path / "copy", copy_function=shutil.copyfile)
    assert preprocess_celeba(CelebaOptions(tmp_path / "copy"), out).already_done
    corrected = csv.read_text().replace("2.25", "4.75")
    csv.write_text(corrected)
    with pytest.raises(GatedVAEError, match=r"(?s)holds an older store.*samples\.parquet would be others.*--overwrite"):
        preprocess_celeba(source, out)
    assert read_tree(out) == before | {name: data for name, data in read_tree(out).items() if name.startswith(".work")}
    assert preprocess_celeba(source, out, overwrite=True).taken == 9
    face = source.openface / "a_aligned" / "face_det_000000.bmp"
    face.write_bytes(face.read_bytes()[:-3000] + bytes(3000))
    with pytest.raises(GatedVAEError, match=r"images\.npy would be others"):
        preprocess_celeba(source, out)


def test_work_on_a_source_that_changed_begins_anew(source: CelebaOptions, tmp_path: Path) -> None:
    out, csv = tmp_path / "store", source.openface / "a.csv"
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, workers=1, progress=Interrupt(4, KeyboardInterrupt()))
    csv.write_text(csv.read_text().replace("2.25", "4.75"))
    preprocess_celeba(source, out)
    assert open_store(out).samples["AU12_r"].tolist() == [4.75] + [2.25] * 8


def test_overwriting_removes_what_was_made_of_the_old_store(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "store"
    preprocess_celeba(CelebaOptions(source.openface, size=16), out)
    groups_path(out, "pose").parent.mkdir(parents=True)
    groups_path(out, "pose").write_bytes(b"of the old store")
    preprocess_celeba(source, out, overwrite=True)
    assert read_tree(out) == expected


def test_a_folder_of_something_else_is_left_alone(source: CelebaOptions, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "images.npy").write_bytes(b"my own")
    with pytest.raises(GatedVAEError, match="is not empty"):
        preprocess_celeba(source, out)
    assert read_tree(out) == {"images.npy": b"my own"}


def test_a_folder_in_use_is_refused(source: CelebaOptions, tmp_path: Path) -> None:
    with files.locked(tmp_path / "store"), pytest.raises(GatedVAEError, match="in use"):
        preprocess_celeba(source, tmp_path / "store")


def test_a_source_moved_in_between_is_resumed(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, workers=1, progress=Interrupt(4, KeyboardInterrupt()))
    source.openface.rename(tmp_path / "elsewhere")
    preprocess_celeba(CelebaOptions(tmp_path / "elsewhere"), out)
    assert read_tree(out) == expected


def test_useless_input_does_not_stand_in_the_way(source: CelebaOptions, tmp_path: Path) -> None:
    write_image_faces(tmp_path / "poor", "a", [{"confidence": 0.1}])
    with pytest.raises(GatedVAEError, match="1 low_confidence"):
        preprocess_celeba(CelebaOptions(tmp_path / "poor"), tmp_path / "store")
    assert preprocess_celeba(source, tmp_path / "store").taken == 9


@pytest.fixture
def cluster() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as local:
        yield local.scheduler_address


@pytest.mark.slow
def test_same_bytes_on_a_cluster(
    source: CelebaOptions, expected: dict[str, bytes], cluster: str, tmp_path: Path
) -> None:
    preprocess_celeba(source, tmp_path / "store", scheduler=cluster)
    assert read_tree(tmp_path / "store") == expected


@pytest.mark.slow
def test_killed_at_any_time_it_resumes_to_the_same_bytes(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "celeba" / "processed_bmp"
    preprocess_celeba(CelebaOptions(source), tmp_path / "undisturbed")
    code = "import sys; from pathlib import Path\n"
    code += "from gated_vae.preprocessing.sources import pictures\n"
    code += "from gated_vae.preprocessing.sources.celeba import build, tasks as shards\n"
    code += "from gated_vae.preprocessing.sources.celeba.build import *\n"
    code += "pictures.REGION_IMAGES = shards.SHARD_FILES = 20\n"
    code += f"print('go', flush=True); preprocess_celeba(CelebaOptions(Path({os.fspath(source)!r})), Path(sys.argv[1]))"
    killed = 0
    for number in range(8):
        out = tmp_path / f"{number}"
        child = subprocess.Popen([sys.executable, "-c", code, out], stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        time.sleep(0.05 * number)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        child.stdout.close()
        preprocess_celeba(CelebaOptions(source), out)
        assert read_tree(out) == read_tree(tmp_path / "undisturbed")
    assert killed >= 3


@pytest.mark.parametrize(
    ("call", "name", "trouble"),
    [
        ("open", "b.csv", errno.EMFILE),
        ("open", "b_of_details.txt", errno.ENFILE),
        ("open", "e_of_details.txt", errno.ENOMEM),
        ("open", "face_det_000000.bmp", errno.ESTALE),
        ("scandir", "b_aligned", errno.ETIMEDOUT),
        ("scandir", "of/", errno.EMFILE),
    ],
)
def test_the_troubles_of_a_machine_are_none_of_the_faces(
    source: CelebaOptions,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    name: str,
    trouble: int,
) -> None:
    """They end the command, whatever was being opened or listed; the next one takes every face."""
    real = getattr(os, call)

    def fail(path: object, *more: object, **keys: object) -> object:
        if str(path if not isinstance(path, bytes) else os.fsdecode(path)).endswith(name):
            raise OSError(trouble, os.strerror(trouble), path)
        return real(path, *more, **keys)

    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(trouble)):
            preprocess_celeba(source, out, workers=1)
    preprocess_celeba(source, out)
    assert read_tree(out) == expected


def test_a_few_bad_sectors_cost_their_faces_and_many_end_the_command(
    source: CelebaOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def fail(path: object, *more: object, **keys: object) -> int:
        text = str(path if not isinstance(path, bytes) else os.fsdecode(path))
        if text.endswith(bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *more, **keys)  # type: ignore[arg-type,call-overload,no-any-return]

    monkeypatch.setattr(os, "open", fail)
    bad: tuple[str, ...] = ("a.csv", "b_aligned/face_det_000000.bmp")
    report = preprocess_celeba(source, tmp_path / "store")
    assert report.taken == 7
    assert report.rejected["unreadable"] == 1
    bad = (".csv",)
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.FEW_BAD", 8)
    with pytest.raises(GatedVAEError, match=r"(?s)11 files could not be read, the first is a\.csv: Input/output error"):
        preprocess_celeba(source, tmp_path / "other")


@pytest.mark.parametrize(("call", "name"), [("scandir", "b_aligned"), ("scandir", "of/"), ("stat", "of/")])
def test_a_folder_on_a_bad_sector_ends_the_command(
    source: CelebaOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    """Nobody knows how many faces it hides."""
    real = getattr(os, call)

    def fail(path: object, *more: object, **keys: object) -> object:
        if str(path).endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *more, **keys)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=f"Input/output error.*{name}"):
        preprocess_celeba(source, tmp_path / "store", workers=1)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: (path.unlink(), os.mkfifo(path)), "Not a regular file: its details"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "Too many levels of symbolic links: its details"),
        (lambda path: path.unlink(), None),  # no details are no trouble: the CSV's stem decides
    ],
)
def test_a_face_whose_details_cannot_be_read_is_rejected(
    source: CelebaOptions, tmp_path: Path, spoil: Callable[[Path], object], why: str | None
) -> None:
    """Else its picture would silently get another name."""
    spoil(source.openface / "c_of_details.txt")
    report = preprocess_celeba(source, tmp_path / "store", workers=1)
    assert report.seen == report.taken + sum(report.rejected.values())
    rejected = pd.read_parquet(rejected_path(tmp_path / "store"))
    told = rejected[(rejected["source"] == "c.csv") & (rejected["reason"] == "unreadable")]
    assert told["detail"].tolist() == ([why] * 2 if why else [])
    assert sorted(told["row"]) == ([0, 1] if why else [])


def test_what_was_begun_is_not_thrown_away_for_a_bad_sector(
    source: CelebaOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "store", os.open
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, workers=1, progress=Interrupt(3, KeyboardInterrupt()))
    begun = sorted((out / ".work").rglob("*"))

    def fail(path: object, *more: object, **keys: object) -> int:
        if str(path).endswith("plan.json"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *more, **keys)  # type: ignore[arg-type,call-overload,no-any-return]

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match=r"plan\.json"):
        preprocess_celeba(source, out, workers=1)
    assert sorted((out / ".work").rglob("*")) == begun


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_changes(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path
) -> None:
    preprocess_celeba(source, tmp_path / "store", workers=1)
    (tmp_path / "store" / "rejected.parquet").unlink()
    (tmp_path / "store" / "rejected.parquet").mkdir()
    with pytest.raises(GatedVAEError, match=r"rejected\.parquet cannot be replaced"):
        preprocess_celeba(source, tmp_path / "store", workers=1, overwrite=True)
    left = read_tree(tmp_path / "store")
    assert left == {name: data for name, data in expected.items() if name != "rejected.parquet"}


def test_only_stores_are_replaced(source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "groups").mkdir(parents=True)
    (mine / "groups" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(GatedVAEError, match="is not empty"):
            preprocess_celeba(source, mine, overwrite=overwrite)
    (mine / "store.json").write_text('{"shop": "open"}')
    with pytest.raises(GatedVAEError, match="none of a store"):
        preprocess_celeba(source, mine, overwrite=True)
    assert (mine / "groups" / "thesis.txt").read_text() == "years of work"
    for out in (source.openface, source.openface.parent, source.openface / "store"):
        with pytest.raises(GatedVAEError, match="which is read"):
            preprocess_celeba(source, out, overwrite=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("torn")
    preprocess_celeba(source, tmp_path / "store", overwrite=True)
    assert read_tree(tmp_path / "store") == expected


def test_links_in_a_store_lead_to_what_stays(source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path) -> None:
    out, disk = tmp_path / "store", tmp_path / "disk"
    preprocess_celeba(source, out)
    (disk / "pairs").mkdir(parents=True)
    (disk / "pairs" / "of_another").touch()
    (out / "pairs").symlink_to(disk / "pairs")
    preprocess_celeba(source, out, overwrite=True)
    assert read_tree(out) == expected
    assert (disk / "pairs" / "of_another").exists()
    (out / ".work").symlink_to(disk)
    with pytest.raises(GatedVAEError, match=r"\.work cannot be used\.\nA link leads"):
        preprocess_celeba(source, out, overwrite=True)


def test_work_that_leads_into_another_store_is_refused(
    source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out, other = tmp_path / "store", tmp_path / "other"
    preprocess_celeba(source, other)
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, progress=Interrupt(2, KeyboardInterrupt()))
    shutil.rmtree(out / ".work" / "store", ignore_errors=True)
    (out / ".work" / "store").symlink_to(other)
    with pytest.raises(GatedVAEError, match=r"\.work/store cannot be used\.\nA link leads"):
        preprocess_celeba(source, out)
    assert read_tree(other) == expected


def test_a_torn_plan_is_thrown_away(source: CelebaOptions, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        preprocess_celeba(source, out, progress=Interrupt(2, KeyboardInterrupt()))
    (out / ".work" / "plan.json").write_text('{"schema')
    preprocess_celeba(source, out)
    assert read_tree(out) == expected
