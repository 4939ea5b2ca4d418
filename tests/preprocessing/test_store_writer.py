"""A new kind of data in thirty lines: staging, resuming, the account and publishing are there for it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing import store_writer
from gated_vae.preprocessing.compute import RunTasks, processes, threads
from gated_vae.preprocessing.errors import BadSourceError, GatedVAEError
from gated_vae.preprocessing.files import digest, file_digest
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.store import (
    groups_path,
    images_path,
    manifest_path,
    open_store,
    rejected_path,
    samples_path,
)
from gated_vae.preprocessing.store_writer import Plan, StoreWriter
from tests.folders import read_tree


@dataclass(frozen=True)
class Digits:
    """Text files of digits, one an image: a bar as long as the digit; what is no digit is rejected, 0 cannot be drawn."""

    folder: Path
    lose: int = 0  # how many of the samples to lose

    def plan(self) -> Plan:
        content = {path.name: path.read_text() for path in sorted(self.folder.iterdir())}
        return Plan("digits", digest(json.dumps(content)), {"side": 10}, (10, 10))

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        content = {path.name: path.read_text() for path in sorted(self.folder.iterdir())}
        digits = {name: int(text) for name, text in content.items() if text.isdigit()}
        for name in content.keys() - digits:
            writer.reject(name, None, "no_digit", f"It says {content[name]!r}.")
        names, writer.seen = list(digits), len(content)
        regions = writer.images(len(names), each=4)
        tasks = [(region, [digits[name] for name in names[region.start : region.stop]]) for region in regions]
        for region, _ in zip(regions, run(draw_bars, tasks), strict=True):
            progress(region.stop, len(names))
        for place, why in writer.failed().items():
            writer.reject(names[place], 0, *why)
        names = names[: len(names) - self.lose]
        writer.samples(pa.table({"image": names, "digit": [digits[name] for name in names]}))


def draw_bars(region: Region, digits: list[int]) -> None:
    if not region.is_filled():
        bars = (np.arange(10) < np.array(digits)[:, None]) * np.uint8(255)
        failed = [(place, "no_bar", "0 has no bar") for place, digit in enumerate(digits) if digit == 0]
        region.write(np.ascontiguousarray(np.repeat(bars[:, None], 10, axis=1)), failed)


@pytest.fixture
def source(tmp_path: Path) -> Digits:
    (tmp_path / "digits").mkdir()
    for number in range(25):
        (tmp_path / "digits" / f"{number:02d}.txt").write_text("ten" if number == 7 else f"{number * 3 % 10}")
    return Digits(tmp_path / "digits")


def stop_after(count: int) -> Progress:
    def progress(done: int, _total: int, _note: str = "") -> None:
        if done >= count:
            raise KeyboardInterrupt

    return progress


def test_the_store_holds_what_the_source_gave(source: Digits, tmp_path: Path) -> None:
    store, already_done = make_store(source, tmp_path / "store")
    assert not already_done
    assert not verify(store.path).problems
    numbers = [n for n in range(25) if n != 7 and n * 3 % 10]
    assert store.samples["sample_id"].tolist() == list(range(len(numbers)))
    assert store.samples["image"].tolist() == [f"{n:02d}.txt" for n in numbers]
    assert [[int(row.sum() // 255) for row in image] for image in store.images] == [[n * 3 % 10] * 10 for n in numbers]
    rejected = pd.read_parquet(rejected_path(store.path))
    assert rejected["source"].tolist() == ["00.txt", "07.txt", "10.txt", "20.txt"]
    assert rejected["row"].tolist() == [0, pd.NA, 0, 0]
    assert rejected["reason"].tolist() == ["no_bar", "no_digit", "no_bar", "no_bar"]
    manifest = store.manifest
    assert (manifest["seen"], manifest["taken"], manifest["rejected"]) == (25, 21, 4)
    assert (store.kind, store.parameters, manifest["image_shape"]) == ("digits", {"side": 10}, [10, 10])
    assert manifest["digests"] == {name: file_digest(store.path / name) for name in manifest["digests"]}
    assert len(manifest["digests"]) == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seen": 26}, "21 taken and 4 rejected are not the 26 seen"),
        ({"factors": {"a": 3, "b": 8}}, "24 combinations, it holds 21"),
        ({"factors": {"a": 2**39, "b": 2**39}}, "it holds 21"),
        ({"splits": {"train": 9, "valid": 2, "test": 30}}, "41 samples, it holds 21"),
        ({"splits": {"test": 1, "valid": 2, "train": 18}}, "Its splits"),
        ({"taken": 2**60}, "Its taken"),
        ({"image_shape": [float("nan"), 1]}, "Its image_shape"),
        ({"partitions": {"a": {"method": "kmeans", "shared": [], "draws": 0}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "exact", "shared": ["c"], "draws": 1}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "change", "shared": [], "draws": 1, "stream": 1}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "change", "shared": [], "draws": 1, "k": 1}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "kmeans", "shared": ["x"], "draws": 1, "turns": {"x": 0}}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "kmeans", "shared": ["x"], "draws": 1, "seed": -1}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "follow", "shared": ["x", "y"], "draws": 1, "apart": 0}}}, "Its partitions"),
        ({"partitions": {"a": {"method": "follow", "shared": ["y"], "draws": 1, "apart": 1.0}}}, "Its partitions"),
        (
            {
                "factors": {"a": 3, "b": 7},
                "partitions": {"a": {"method": "exact", "shared": ["c"], "draws": 1, "stream": 1}},
            },
            "share c, which is no factor",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    source: Digits, tmp_path: Path, change: dict[str, object], why: str
) -> None:
    store, _ = make_store(source, tmp_path / "store")
    manifest_path(store.path).write_text(json.dumps({**store.manifest, **change}))
    with pytest.raises(GatedVAEError, match=why):
        open_store(store.path)


def test_samples_with_two_columns_of_one_name_are_refused(source: Digits, tmp_path: Path) -> None:
    store, _ = make_store(source, tmp_path / "store")
    table = pq.read_table(samples_path(store.path))
    pq.write_table(table.append_column("digit", table["digit"]), samples_path(store.path))
    with pytest.raises(GatedVAEError, match="two columns digit"):
        _ = open_store(store.path).samples


@pytest.mark.parametrize("stop", range(4, 25, 4))
def test_interrupted_half_way_it_resumes(
    source: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    make_store(source, tmp_path / "whole")
    written: Counter[int] = Counter()
    real = Region.write
    monkeypatch.setattr(Region, "write", lambda region, *given: (written.update([region.start]), real(region, *given)))
    with pytest.raises(KeyboardInterrupt):
        make_store(source, tmp_path / "store", workers=threads(1), progress=stop_after(stop))
    assert not manifest_path(tmp_path / "store").exists()
    assert len(written) >= stop / 4
    make_store(source, tmp_path / "store")
    assert written == dict.fromkeys(range(0, 24, 4), 1)  # what was filled is not filled again
    assert read_tree(tmp_path / "store") == read_tree(tmp_path / "whole")


def test_processes_make_the_same(source: Digits, tmp_path: Path) -> None:
    for name, workers in (("here", threads(1)), ("there", processes(2))):
        make_store(source, tmp_path / name, workers=workers)
    assert read_tree(tmp_path / "here") == read_tree(tmp_path / "there")


def test_a_lost_row_is_refused(source: Digits, tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match=r"does not add up.\n20 taken and 4 rejected are not the 25 seen"):
        make_store(replace(source, lose=1), tmp_path / "store")
    assert not manifest_path(tmp_path / "store").exists()
    make_store(source, tmp_path / "store")


class Careless(Digits):
    """Loses a sample and does not even count it."""

    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        replace(self, lose=1).build(writer, run, progress) if not self.lose else super().build(writer, run, progress)
        writer.seen = 24


def test_an_image_without_a_sample_is_refused(source: Digits, tmp_path: Path) -> None:
    with pytest.raises(GatedVAEError, match=r"does not add up.\n23 samples have 24 images"):
        make_store(Careless(source.folder), tmp_path / "store")


def test_a_region_that_was_left_empty_is_refused(
    source: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Region, "write", lambda *_: None)
    with pytest.raises(GatedVAEError, match=r"pixels-00000000-00000004 is damaged"):
        make_store(source, tmp_path / "store")


def test_a_finished_store_is_left_alone_and_another_is_refused(source: Digits, tmp_path: Path) -> None:
    out = tmp_path / "store"
    make_store(source, out)
    before, when = read_tree(out), images_path(out).stat().st_mtime_ns
    assert make_store(source, out).already_done
    (source.folder / "new.txt").write_text("3")
    with pytest.raises(GatedVAEError, match=r"holds another store.\nIt was made from other files, .*\n.*--overwrite"):
        make_store(source, out)
    assert (read_tree(out), images_path(out).stat().st_mtime_ns) == (before, when)
    groups_path(out, "p").parent.mkdir(parents=True)
    groups_path(out, "p").write_bytes(b"of the old store")
    assert not make_store(source, out, overwrite=True).already_done
    assert not groups_path(out, "p").exists()
    make_store(source, tmp_path / "fresh")
    assert read_tree(out) == read_tree(tmp_path / "fresh")


@pytest.mark.parametrize("at", range(1, 6))
def test_while_its_files_are_replaced_a_folder_is_no_store(
    source: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Else old images could lie beside new labels: the old manifest goes first, the new one comes last."""
    out, real, calls = tmp_path / "store", store_writer.commit, Counter[str]()
    make_store(source, out)
    (source.folder / "new.txt").write_text("3")

    def stopping(partial: Path, path: Path) -> None:
        calls["all"] += 1
        if calls["all"] == at:
            raise KeyboardInterrupt
        real(partial, path)

    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "commit", stopping)
        with pytest.raises(KeyboardInterrupt):
            make_store(source, out, overwrite=True)
    with pytest.raises(GatedVAEError, match="not a finished store"):
        open_store(out)
    make_store(source, out)
    make_store(source, tmp_path / "fresh")
    assert read_tree(out) == read_tree(tmp_path / "fresh")


def test_work_that_was_not_wholly_thrown_away_is_not_gone_on_with(
    source: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        make_store(source, out, progress=stop_after(8))
    (source.folder / "new.txt").write_text("3")

    def stopping(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "remove", stopping)
        with pytest.raises(KeyboardInterrupt):
            make_store(source, out, overwrite=True)
    assert [*(out / ".work").iterdir()]
    assert not (out / ".work" / "plan.json").exists()


def test_unfinished_work_on_another_store_is_refused_or_thrown_away(source: Digits, tmp_path: Path) -> None:
    out = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        make_store(source, out, progress=stop_after(8))
    (source.folder / "new.txt").write_text("3")
    with pytest.raises(GatedVAEError, match="holds another store"):
        make_store(source, out)
    make_store(source, out, overwrite=True)
    make_store(source, tmp_path / "fresh")
    assert read_tree(out) == read_tree(tmp_path / "fresh")


class Empty(Digits):
    def build(self, writer: StoreWriter, run: RunTasks, progress: Progress) -> None:
        super().build(writer, run, progress)
        raise BadSourceError("Nothing in it.")


def test_a_source_that_gives_nothing_does_not_stand_in_the_way(source: Digits, tmp_path: Path) -> None:
    with pytest.raises(BadSourceError):
        make_store(Empty(source.folder), tmp_path / "store")
    (source.folder / "new.txt").write_text("3")
    assert len(make_store(source, tmp_path / "store").store) == 22
