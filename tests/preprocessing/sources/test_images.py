"""A folder of pictures and tables, against pandas, Pillow and plain loops."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from gated_vae.pipelines.cli import app
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.images import read_pictures
from gated_vae.preprocessing.labels.trackers import BLENDSHAPES, parse_tracker
from gated_vae.preprocessing.sources import pictures
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.sources.images.build import ImagesOptions, ImagesReport, preprocess_images
from gated_vae.preprocessing.sources.sizes import parse_size
from gated_vae.preprocessing.sources.splits import parse_split
from gated_vae.preprocessing.store import open_store, rejected_path
from tests.folders import read_tree, write_image_faces, write_picture


def make(folder: Path, **options: Any) -> tuple[ImagesReport, pd.DataFrame, np.ndarray, dict[str, str]]:
    """Preprocess folder/in; the report, the samples, the images, and the reason of each rejected item."""
    report = preprocess_images(ImagesOptions(folder / "in", **{"size": 8, **options}), folder / "store", workers=1)
    store, rejected = open_store(folder / "store"), pd.read_parquet(rejected_path(folder / "store"))
    assert report.seen == report.taken + len(rejected) == store.manifest["seen"]
    items = rejected[["source", "row", "reason"]].astype(object).to_numpy().tolist()
    reasons = {source if row is pd.NA else f"{source}:{row}": reason for source, row, reason in items}
    assert len(reasons) == len(rejected)
    return report, store.samples, np.asarray(store.images), reasons


def fill(
    folder: Path, names: Sequence[str], table: Sequence[Mapping[str, Any]] = (), name: str = "metadata.csv"
) -> None:
    """Pictures by these names, each another, in folder/in, and a table beside them."""
    for number, picture in enumerate(names):
        write_picture(folder / "in" / picture, number, 20, 20)
    if table:
        pd.DataFrame(table).to_csv(folder / "in" / name, index=False)


@pytest.mark.parametrize("size", [(30, 45), (30, 15), (60, 90)])
@pytest.mark.parametrize("colour", [True, False])
def test_pixels_are_those_of_pillow(tmp_path: Path, size: tuple[int, int], colour: bool) -> None:
    fill(tmp_path, [])
    kinds = ["a.png", "b.bmp", "c.tif", "d.webp"]
    for number, name in enumerate(kinds):
        write_picture(tmp_path / "in" / name, number, 60, 90)
    _, samples, images, _ = make(tmp_path, size=size, colour=colour)
    assert samples["image"].tolist() == kinds
    assert images.shape == (4, *size, *([3] if colour else []))
    width = 30 if size == (30, 15) else 90  # of the middle that has these proportions
    for name, pixels in zip(kinds, images, strict=True):
        with Image.open(tmp_path / "in" / name) as image:
            whole = image.convert("RGB" if colour else "L")
        left = (90 - width) // 2
        part = whole.crop((left, 0, left + width, 60)).resize(size[::-1], Image.Resampling.BOX)
        assert np.abs(pixels.astype(int) - np.asarray(part)).max() <= 2, name


def test_a_column_for_each_of_the_tables(tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(6)]
    frame = pd.DataFrame(
        {
            "file_name": names,
            "id": ["007", "08", "9", "x", "y", "z"],
            "age": [1.5, None, 3, 4, 5, 6],
            "on": [True, False] * 3,
        }
    )
    for ending in ("csv", "jsonl", "parquet"):
        folder = tmp_path / ending
        fill(folder, names)
        path = folder / "in" / f"metadata.{ending}"
        {
            "csv": lambda path: frame.to_csv(path, index=False),
            "jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
            "parquet": frame.to_parquet,
        }[ending](path)
        _, samples, _, rejected = make(folder)
        expected = frame.rename(columns={"file_name": "image"})
        pd.testing.assert_frame_equal(samples.drop(columns="sample_id"), expected, check_dtype=False)
        assert rejected == {}


def test_names_match_by_path_then_by_stem_whatever_their_spelling(tmp_path: Path) -> None:
    """Each row's number is that of the picture that is meant."""
    named = {
        "a/1.png": "a/1.png",
        "b/1.png": r"b\1.png",
        "b/é.png": "b/" + unicodedata.normalize("NFD", "é.png"),
        "2.PNG": "2.png",
        "c/3.bmp": "3.jpg",
        "d/4.png": "/home/me/in/d/4.png",
        "5.tar.png": "5.tar",
        "1.png": "1.png",
    }
    fill(tmp_path, [*named], [{"file_name": name, "number": number} for number, name in enumerate(named.values())])
    _, samples, _, rejected = make(tmp_path)
    assert dict(zip(samples["image"], samples["number"], strict=True)) == {name: i for i, name in enumerate(named)}
    assert rejected == {}


def test_every_row_and_every_picture_has_one_end(tmp_path: Path) -> None:
    pictures_there = ["a/1.png", "b/1.png", "2.png", "3.png", "4.png"]
    rows = ["1.png", "2.png", "2.png", "", "gone.png", "c/1.png", "4.jpg"]
    fill(tmp_path, pictures_there, [{"file_name": name, "x": number} for number, name in enumerate(rows)])
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("nor this")
    report, samples, _, reasons = make(tmp_path)
    assert samples["image"].tolist() == ["2.png", "4.png"]
    assert samples["x"].tolist() == [1, 6]
    assert reasons == {
        "metadata.csv:0": "ambiguous",
        "metadata.csv:2": "duplicate_row",
        "metadata.csv:3": "no_name",
        "metadata.csv:4": "no_picture",
        "metadata.csv:5": "ambiguous",
        "a/1.png": "no_row",
        "b/1.png": "no_row",
        "3.png": "no_row",
        "broken.jpg": "no_row",
    }
    assert report.rejected == {"no_row": 4, "ambiguous": 2, "duplicate_row": 1, "no_name": 1, "no_picture": 1}


def test_of_pictures_whose_names_differ_in_spelling_alone_the_first_is_taken(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    fill(tmp_path, names, [{"file_name": names[0], "x": 1}])
    first, second = sorted(names)
    _, samples, _, rejected = make(tmp_path)
    assert (samples["image"].tolist(), samples["x"].tolist()) == ([first], [1])
    assert rejected == {second: "duplicate_name"}


NAMING = ("filename", "file_name", "file", "image", "image_id", "image_name", "image_path", "input", "path", "name")


@pytest.mark.parametrize("column", NAMING)  # as docs/own_data.md says
def test_the_column_of_file_names_is_known_by_its_name(tmp_path: Path, column: str) -> None:
    fill(tmp_path, ["a.png", "b.png"], [{"y": 1, column: "b.png"}, {"y": 2, column: "a.png"}])
    assert make(tmp_path)[1]["y"].tolist() == [2, 1]


def test_random_tables_against_a_merge_of_pandas(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = [f"{folder}/{number}.png" for folder in "ab" for number in range(15)]
    fill(tmp_path, names)
    listed = generator.choice([*names, *(f"c/{number}.png" for number in range(15))], 30, replace=False)
    table = pd.DataFrame({"path": listed, "x": generator.standard_normal(30), "word": listed})
    table.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    _, samples, images, rejected = make(tmp_path, labels=tmp_path / "labels.tsv", size=20)
    expected = pd.DataFrame({"path": sorted(names)}).merge(table, on="path")
    pd.testing.assert_frame_equal(samples[["image", "x", "word"]].rename(columns={"image": "path"}), expected)
    assert len(rejected) == (30 - len(expected)) + (30 - len(expected))
    for name, pixels in zip(samples["image"], images, strict=True):
        with Image.open(tmp_path / "in" / name) as image:
            assert np.abs(np.asarray(image.convert("L")).astype(int) - pixels).max() <= 1


def test_folders_of_splits_and_their_tables(tmp_path: Path) -> None:
    names = ["train/a.png", "train/b.png", "validation/a.png", "Test/c.png"]
    fill(tmp_path, names)
    for folder, rows in {"train": ["a", "b"], "validation": ["a"], "Test": ["c"]}.items():
        table = pd.DataFrame({"file_name": [f"{row}.png" for row in rows], "of": folder})
        table.to_csv(tmp_path / "in" / folder / "metadata.csv", index=False)
    report, samples, _, _ = make(tmp_path)
    assert samples[["image", "of", "split"]].to_numpy().tolist() == [
        ["train/a.png", "train", "train"],
        ["train/b.png", "train", "train"],
        ["validation/a.png", "validation", "valid"],
        ["Test/c.png", "Test", "test"],
    ]
    assert report.splits == {"train": 2, "valid": 1, "test": 1}


def test_folders_are_labels_where_there_is_no_table(tmp_path: Path) -> None:
    fill(tmp_path / "plain", ["cat/a.png", "dog/a.png", "dog/b.png"])
    assert make(tmp_path / "plain")[1]["label"].tolist() == ["cat", "dog", "dog"]
    fill(tmp_path / "split", ["train/cat/a.png", "train/dog/a.png", "test/cat/b.png"])
    _, samples, _, _ = make(tmp_path / "split")
    assert samples[["label", "split"]].to_numpy().tolist() == [["cat", "train"], ["dog", "train"], ["cat", "test"]]
    fill(tmp_path / "flat", ["a.png", "b.png"])
    assert [*make(tmp_path / "flat")[1]] == ["sample_id", "image"]


def test_a_column_split_and_people_kept_together(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number:02d}.png", "identity": number % 10} for number in range(40)]
    fill(tmp_path / "shares", [row["file_name"] for row in rows], rows)  # type: ignore[misc]
    _, samples, _, _ = make(tmp_path / "shares", split=parse_split("train=.4,valid=.3,test=.3,seed=1"))
    assert (samples.groupby("identity")["split"].nunique() == 1).all()
    assert samples["split"].tolist() == sorted(samples["split"], key=["train", "valid", "test"].index)
    told = [{**row, "split": ["val", "training", None, "test"][place % 4]} for place, row in enumerate(rows)]
    fill(tmp_path / "told", [row["file_name"] for row in rows], told)  # type: ignore[misc]
    _, samples, _, _ = make(tmp_path / "told")
    assert samples["split"].fillna("none").tolist() == ["train"] * 10 + ["valid"] * 10 + ["test"] * 10 + ["none"] * 10
    with pytest.raises(GatedVAEError, match="Both --split"):
        make(tmp_path / "told", split=parse_split("train=1"))


@pytest.mark.parametrize("options", [{"file_column": "name"}, {"labeller": parse_tracker("pyfeat")}])
def test_what_is_said_of_a_table_that_is_not_there_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    fill(tmp_path, ["a.png"])
    with pytest.raises(GatedVAEError, match=r"(?s)There is no table.*--labels"):
        make(tmp_path, **options)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"file_name": "x.png"}], "(?s)names none of the pictures.*'x.png'.*'a.png'"),
        ([{"who": "a.png"}], "no column of file names"),
        ([{"file_name": "a.png", "split": "all"}], "no split 'all'"),
        ([{"file_name": "a.png", "split": "test"}], "No sample is left to train on"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, rows: list[dict[str, str]], told: str) -> None:
    fill(tmp_path, ["a.png"], rows)
    with pytest.raises(GatedVAEError, match=told) as caught:
        make(tmp_path)
    assert caught.value.remedy
    assert not (tmp_path / "store" / "store.json").exists()


def test_two_tables_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png"], [{"file_name": "a.png"}])
    (tmp_path / "in" / "metadata.jsonl").write_text('{"file_name": "a.png", "x": 1}\n')
    with pytest.raises(GatedVAEError, match="several tables"):
        make(tmp_path)
    assert make(tmp_path, labels=tmp_path / "in" / "metadata.jsonl")[1]["x"].tolist() == [1]


def test_what_is_odd_in_a_table_is_told(tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.png", "age": "?x" if n == 2 else n, "sample_id": n} for n in range(5)]
    fill(tmp_path, [f"{n}.png" for n in range(5)], rows)
    report, samples, _, _ = make(tmp_path)
    assert report.notes == {
        "age": "text, not numbers: row 2 has '?x'",
        "sample_id": "left out: the store has its own",
    }
    assert samples["age"].tolist() == ["0", "1", "?x", "3", "4"]


def test_files_of_several_pictures_and_broken_ones_are_rejected_by_name(tmp_path: Path) -> None:
    fill(tmp_path, ["good.png", "link.png"])
    folder = tmp_path / "in"
    first, second = (Image.fromarray(np.full((9, 9), grey, np.uint8)) for grey in (50, 200))
    for name in ("moves.gif", "moves.webp", "moves.png", "pages.tif"):
        first.save(folder / name, save_all=True, append_images=[second])
    for name in ("one.webp", "one.tif"):
        second.save(folder / name)
    (folder / "cut.webp").write_bytes((folder / "one.webp").read_bytes()[:-30])
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "black.png")
    (folder / "link.png").rename(tmp_path / "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nothing")
    _, samples, _, reasons = make(tmp_path)
    assert samples["image"].tolist() == ["good.png", "link.png", "one.tif", "one.webp"]
    assert reasons == {
        **dict.fromkeys(["moves.gif", "moves.webp", "moves.png", "pages.tif"], "several_pictures"),
        **dict.fromkeys(["cut.webp", "phone.heic", "dangling.png"], "unreadable_picture"),
        "black.png": "blank",
    }


def test_same_bytes_whatever_the_workers_and_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "REGION_IMAGES", 4)
    rows = [{"file_name": f"{number}.png", "x": number} for number in range(11)]
    fill(tmp_path, [f"{number}.png" for number in range(10)], rows)
    options = ImagesOptions(tmp_path / "in", size=(8, 6), colour=True)
    preprocess_images(options, tmp_path / "one", workers=1)
    expected = read_tree(tmp_path / "one")
    monkeypatch.setattr(pictures, "PROCESSES_FROM", 1)
    preprocess_images(options, tmp_path / "two", workers=2)
    assert read_tree(tmp_path / "two") == expected
    monkeypatch.setattr(pictures, "PROCESSES_FROM", 1000)

    def stop(done: int, _total: int, _note: str = "") -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess_images(options, tmp_path / "three", workers=1, progress=stop)
    assert not (tmp_path / "three" / "store.json").exists()
    preprocess_images(options, tmp_path / "three", workers=1)
    assert read_tree(tmp_path / "three") == expected
    assert preprocess_images(options, tmp_path / "three", workers=1).already_done
    os.utime(tmp_path / "in" / "3.png", (1, 1))
    assert preprocess_images(options, tmp_path / "three", workers=1).already_done
    write_picture(tmp_path / "in" / "3.png", 99, 30, 30)
    with pytest.raises(GatedVAEError, match="holds another store"):
        preprocess_images(options, tmp_path / "three", workers=1)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("64", "48x64", "8X9")] == [(64, 64), (48, 64), (8, 9)]
    for text in ("", "x", "64x", "1x2x3", "-3", "6.5", "a", "9999999"):
        with pytest.raises(UsageError, match="--size"):
            parse_size(text)
    with pytest.raises(GatedVAEError, match="1 to 4096"):
        ImagesOptions(Path(), size=(8, 5000))


def test_a_trackers_rows_without_a_face_are_rejected_and_of_two_faces_the_surer_is_taken(tmp_path: Path) -> None:
    rows = [
        {"input": "0.png", "FaceScore": 0.7, "AU01": 0.1},
        {"input": "0.png", "FaceScore": 0.9, "AU01": 0.2},
        {"input": "1.png", "FaceScore": None, "AU01": None},
    ]
    fill(tmp_path, ["0.png", "1.png"], rows)
    report, samples, _, reasons = make(tmp_path, labeller=parse_tracker("pyfeat:version=2.0.3"))
    assert samples[["image", "confidence", "AU01_r"]].to_numpy().tolist() == [["0.png", 0.9, 0.2]]
    assert reasons == {"metadata.csv:0": "duplicate_row", "metadata.csv:2": "not_finite"}
    assert report.tracker == {"name": "pyfeat", "version": "2.0.3", "angles": None}


def test_a_run_is_given_pictures_as_the_store_has_them(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png", "b.jpg"])
    _, _, images, _ = make(tmp_path, size=(12, 9), colour=True)
    paths = [tmp_path / "in" / name for name in ("a.png", "b.jpg")]
    np.testing.assert_array_equal(read_pictures(paths, (12, 9, 3)), images)


def test_faces_of_openface_in_colour_and_of_other_proportions(tmp_path: Path) -> None:
    """The middle of the aligned face, against OpenCV."""
    write_image_faces(tmp_path / "of", "a", [{}])
    preprocess_celeba(CelebaOptions(tmp_path / "of", size=(32, 16), colour=True), tmp_path / "store")
    store = open_store(tmp_path / "store")
    face = cv2.imread(str(tmp_path / "of" / "a_aligned" / "face_det_000000.bmp"))[:, 28:84, ::-1]
    assert (store.parameters["size"], store.parameters["colour"]) == ("32x16", True)
    np.testing.assert_array_equal(store.images[0], cv2.resize(face, (16, 32), interpolation=cv2.INTER_AREA))


def test_a_trackers_labels_and_the_users_are_grouped_by_the_commands(tmp_path: Path) -> None:
    generator, names = np.random.default_rng(0), [f"{number:03d}.png" for number in range(60)]
    fill(tmp_path, names)
    shapes = {name: generator.uniform(size=60) for name in BLENDSHAPES[:-1]}  # MediaPipe's
    turns = {f"Head{name}": generator.normal(0, 0.2, 60) for name in ("Pitch", "Yaw", "Roll")}
    own = {"mood": ["good", "bad"] * 30, "age": [None, *range(59)], "one": [1] * 60}
    frame = pd.DataFrame({"image": names, **shapes, **turns, **own})
    frame.to_parquet(tmp_path / "faces.parquet")

    def pipe(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, str(done.exception or "")

    store = tmp_path / "store"
    tables = ("--labels", tmp_path / "faces.parquet", "--tracker", "blendshapes")
    assert pipe("preprocess", "images", tmp_path / "in", *tables, "--size", "8x8", "--out", store) == (0, "")
    assert pipe("cluster", store, "--pose", 4) == (0, "")
    assert pipe("pair", store, "--share", "mood=mood") == (0, "")
    assert list(open_store(store).partitions) == ["pose", "blendshapes", "mood"]
    samples, pairs = open_store(store).samples, pd.read_parquet(store / "pairs")
    mood = pairs[pairs["partition"] == "mood"]
    assert (samples["mood"][mood["input_id"]].to_numpy() == samples["mood"][mood["target_id"]].to_numpy()).all()
    assert "1 of 60 samples have no age" in pipe("cluster", store, "--near", "age=age:3")[1]
    assert "same one" in pipe("cluster", store, "--near", "one=one:3")[1]
    assert "cannot be read" in pipe("cluster", store, "--near", "age=age:0")[1]
    assert "mood holds no numbers" in pipe("cluster", store, "--near", "mood=mood:3")[1]
