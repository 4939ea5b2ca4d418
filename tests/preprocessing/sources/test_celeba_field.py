"""What people's folders have and OpenFace's examples do not: each made small here, with what is right for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from tests.folders import GOOD, write_csv, write_details, write_image_faces, write_picture
from tests.preprocessing.openface.test_align import face
from tests.preprocessing.sources.test_celeba import drawn, make, reasons


def details(folder: Path, stem: str, given: str | bytes) -> None:
    """Details that name one input, in bytes as they stand there."""
    text = given.encode() if isinstance(given, str) else given
    (folder / f"{stem}_of_details.txt").write_bytes(b"Input:" + text + b"\nInput full path:" + text + b"\n")


def test_names_under_a_code_page_of_windows_are_found_by_their_stem(tmp_path: Path) -> None:
    write_image_faces(tmp_path / "of", "Müller", [{}])
    details(tmp_path / "of", "Müller", "C:\\faces\\Müller.jpg".encode("cp1252"))
    write_picture(tmp_path / "pictures" / "Müller.jpg", 7)
    _, samples, _, _ = make(tmp_path)
    assert samples["image"].tolist() == ["Müller"]
    (tmp_path / "of" / os.fsdecode(b"\xff_of_details.txt")).write_bytes(b"Input:\xff\n")
    report = preprocess_celeba(CelebaOptions(tmp_path / "of", tmp_path / "pictures"), tmp_path / "whole")
    assert (report.taken, report.rejected) == (1, {"no_face": 1})


def test_the_newest_picture_of_a_face_is_taken(tmp_path: Path) -> None:
    write_image_faces(tmp_path / "of", "a", [{}])
    folder = tmp_path / "of" / "a_aligned"
    os.utime(folder / "face_det_000000.bmp", ns=(5, 5))
    write_picture(folder / "face_det_000000.png", 99)
    _, _, images, _ = make(tmp_path)
    assert np.array_equal(images[0], drawn(99, suffix=".png"))


def test_pictures_by_as_much_of_the_path_as_it_takes(tmp_path: Path) -> None:
    """Copies that OpenFace drew over lie beside the CSVs; names repeat in the folders of people; one person was not shot."""
    people = {"ann": 1, "bo": 2}
    for person, seed in people.items():
        write_picture(tmp_path / "data" / "shots" / person / "1.jpg", seed)
        write_image_faces(tmp_path / "data" / "of" / f"out_{person}", "1", [{}])
        write_picture(tmp_path / "data" / "of" / f"out_{person}" / "1.jpg", 50 + seed)
        details(tmp_path / "data" / "of" / f"out_{person}", "1", f"D:\\home\\shots\\{person}\\1.jpg")
    write_image_faces(tmp_path / "data" / "of" / "out_cy", "1", [{}])
    details(tmp_path / "data" / "of" / "out_cy", "1", "D:\\home\\shots\\cy\\1.jpg")
    (tmp_path / "of").symlink_to(tmp_path / "data" / "of")
    _, samples, images, rejected = make(tmp_path, images=tmp_path / "data", crop="centre")
    assert samples["source"].tolist() == ["out_ann/1.csv", "out_bo/1.csv"]
    assert [
        np.array_equal(pixels, drawn(seed, suffix=".jpg")) for pixels, seed in zip(images, (1, 2), strict=True)
    ] == [
        True,
        True,
    ]
    assert samples["image"].tolist() == ["ann/1.jpg", "bo/1.jpg"]
    assert reasons(rejected) == {"out_cy/1.csv:0": "no_picture"}


@pytest.mark.parametrize(
    ("frames", "taken"), [((1, 2, 3), [0, 1, 2]), ((0, 2), [0, 2]), ((2, 4), [1, 3]), ((2, 3), None)]
)
def test_frames_that_may_be_counted_from_0_or_1_are_no_guess(
    tmp_path: Path, frames: tuple[int, ...], taken: list[int] | None
) -> None:
    """Four pictures that count, by suffixes in lower case; a last frame of 4 can only be counted from 1."""
    for number, suffix in enumerate((".jpg", ".png", ".jpg", ".png")):
        write_picture(tmp_path / "pictures" / "walk" / f"{number}{suffix}", number)
    for name in ("0b.JPG", "2b.PNG"):
        (tmp_path / "pictures" / "walk" / name).write_bytes((tmp_path / "pictures" / "walk" / "0.jpg").read_bytes())
    write_csv(tmp_path / "of" / "walk.csv", [{"frame": frame, "face_id": 0, **GOOD} for frame in frames])
    write_details(tmp_path / "of", "walk", "walk")
    if taken is None:
        with pytest.raises(GatedVAEError, match="frames begin at 2"):
            make(tmp_path, images=tmp_path / "pictures")
        return
    _, samples, _, _ = make(tmp_path, images=tmp_path / "pictures")
    assert [int(name[0]) for name in samples["image"]] == taken


def test_the_frames_of_two_videos_lie_in_folders_of_their_names(tmp_path: Path) -> None:
    for video, seed in (("walk", 10), ("talk", 20)):
        write_csv(tmp_path / "of" / f"{video}.csv", [{"frame": frame, "face_id": 0, **GOOD} for frame in (1, 2)])
        write_details(tmp_path / "of", video, f"/films/{video}.mp4")
        for frame in (1, 2):
            write_picture(tmp_path / "frames" / video / f"{frame:04d}.png", seed + frame)
    _, samples, images, _ = make(tmp_path, images=tmp_path / "frames", identities=Path("folder"))
    assert samples["image"].tolist() == ["talk/0001.png", "talk/0002.png", "walk/0001.png", "walk/0002.png"]
    assert samples["identity"].tolist() == ["talk", "talk", "walk", "walk"]
    seeds = (21, 22, 11, 12)
    assert all(np.array_equal(pixels, drawn(seed, suffix=".png")) for pixels, seed in zip(images, seeds, strict=True))


def test_a_table_of_many_images(tmp_path: Path) -> None:
    """Every row names its picture; the faces of one picture compete, those of two do not."""
    names = ("a.jpg", "b.jpg", "b.jpg", "c.jpg")
    rows = [{"file": name, "face": number, **GOOD} for name, number in zip(names, (0, 0, 1, 0), strict=True)]
    rows[2]["confidence"] = 0.99
    write_csv(tmp_path / "of" / "all.csv", rows, separator=",")
    for number, name in enumerate("abc"):
        write_picture(tmp_path / "pictures" / f"{name}.jpg", number)
        write_picture(tmp_path / "of" / f"{name}_aligned" / "face_det_000000.bmp", 10 + number)
    write_picture(tmp_path / "of" / "all_aligned" / "face_det_000000.bmp", 99)
    _, samples, images, rejected = make(tmp_path, images=tmp_path / "pictures")
    assert samples[["image", "row", "face"]].to_numpy().tolist() == [["a.jpg", 0, 0], ["b.jpg", 2, 1], ["c.jpg", 3, 0]]
    assert all(np.array_equal(pixels, drawn(seed, suffix=".jpg")) for seed, pixels in enumerate(images))
    assert reasons(rejected) == {"all.csv:1": "other_face"}
    report = preprocess_celeba(CelebaOptions(tmp_path / "of"), tmp_path / "aligned")
    assert (report.taken, report.rejected) == (3, {"no_picture": 1})


def test_what_most_files_have_decides(tmp_path: Path) -> None:
    """One stray file has columns that the others lack; another lacks one of theirs."""
    bare = {name: value for name, value in GOOD.items() if not name.startswith("pose_")}
    for stem in "abcd":
        write_image_faces(tmp_path / "of", stem, [{}])
        write_csv(tmp_path / "of" / f"{stem}.csv", [{"face": 0, **bare}])
    write_image_faces(tmp_path / "of", "stray", [{}])
    write_image_faces(tmp_path / "of", "poor", [{}])
    write_csv(tmp_path / "of" / "poor.csv", [{"face": 0, "confidence": 0.9, "AU01_r": 0.5}])
    report, samples, _, rejected = make(tmp_path)
    assert samples["source"].tolist() == ["a.csv", "b.csv", "c.csv", "d.csv", "stray.csv"]
    assert "pose_Rx" not in samples
    assert report.left_out["pose_Rx"] == "in 1 of 6 files only, first stray.csv"
    details = rejected.set_index("source")["detail"].to_dict()
    assert details == {"poor.csv": "no column AU12_r, which most files have"}


def test_a_face_without_landmarks_cannot_be_cut_out(tmp_path: Path) -> None:
    """Two of three files have them, as OpenFace writes them where it is asked to; details name a fourth that is gone."""
    landmarks = face(0.6, 0, 89, 109)[0]
    points = {f"{axis}_{place}": landmarks[place, i] for i, axis in enumerate("xy") for place in range(68)}
    for number, stem in enumerate("abc"):
        write_csv(tmp_path / "of" / f"{stem}.csv", [{"face": 0, **GOOD, **(points if stem != "b" else {})}])
        write_picture(tmp_path / "pictures" / f"{stem}.jpg", number, height=218, width=178)
    write_details(tmp_path / "of", "d", "d.jpg")
    _, samples, _, rejected = make(tmp_path, images=tmp_path / "pictures")
    assert samples["image"].tolist() == ["a.jpg", "c.jpg"]
    assert reasons(rejected) == {"b.csv:0": "no_landmarks", "d_of_details.txt": "missing_csv"}


def test_the_largest_face_where_asked(tmp_path: Path) -> None:
    for stem, sizes in (("a", [{"p_scale": 3.0}, {"p_scale": 1.0}]), ("b", [{"pose_Tz": 300}, {"pose_Tz": 900}])):
        faces = [{**size, "confidence": 0.9 + index / 100} for index, size in enumerate(sizes)]
        write_image_faces(tmp_path / "of", stem, faces)
    assert make(tmp_path)[1]["face"].tolist() == [1, 1]
    report = preprocess_celeba(CelebaOptions(tmp_path / "of", face="largest"), tmp_path / "large")
    assert report.taken == 2
    assert pd.read_parquet(tmp_path / "large" / "samples.parquet")["face"].tolist() == [0, 0]


def test_two_people_of_one_video_are_two(tmp_path: Path) -> None:
    rows = [{"frame": frame, "face_id": frame % 2, **GOOD} for frame in (1, 2, 3, 4)]
    write_csv(tmp_path / "of" / "ann" / "talk.csv", rows)
    for frame in (1, 2, 3, 4):
        write_picture(tmp_path / "of" / "ann" / "talk_aligned" / f"frame_det_{frame % 2:02d}_{frame:06d}.bmp", frame)
    _, samples, _, _ = make(tmp_path, identities=Path("folder"))
    assert samples["identity"].tolist() == ["ann/1", "ann/0", "ann/1", "ann/0"]


def test_folders_that_tell_nobody_apart_are_refused(tmp_path: Path) -> None:
    for stem in "ab":
        write_image_faces(tmp_path / "of", stem, [{}])
        (tmp_path / "of" / f"{stem}_of_details.txt").unlink()
    with pytest.raises(GatedVAEError, match=r"(?s)Folders do not tell.*a\.csv"):
        make(tmp_path, identities=Path("folder"))


def test_attributes_become_columns(tmp_path: Path) -> None:
    for stem in "ab":
        write_image_faces(tmp_path / "of", stem, [{}])
    (tmp_path / "list.csv").write_text("image_id,Male,Smiling\na.jpg,-1,1\nb.jpg,1,-1\n")
    _, samples, _, _ = make(tmp_path, attributes=tmp_path / "list.csv")
    assert samples[["Male", "Smiling"]].to_numpy().tolist() == [[-1, 1], [1, -1]]
    (tmp_path / "twice.csv").write_text("image_id,AU12_r\na.jpg,1\n")
    with pytest.raises(GatedVAEError, match="AU12_r is a column already"):
        preprocess_celeba(CelebaOptions(tmp_path / "of", attributes=tmp_path / "twice.csv"), tmp_path / "other")


def test_where_nothing_is_taken_the_first_reason_is_told_and_all_are_kept(tmp_path: Path) -> None:
    for stem in "ab":
        write_image_faces(tmp_path / "of", stem, [{"pose_Ry": 10.3}])
    with pytest.raises(GatedVAEError) as caught:
        make(tmp_path)
    table = tmp_path / "store.rejected.parquet"
    assert caught.value.why == (
        "Rejected: 2 impossible_pose. The first, a.csv row 0: pose_Ry is 10.3, in degrees? OpenFace writes radians. "
        f"All are in {table}."
    )
    assert pd.read_parquet(table)["source"].tolist() == ["a.csv", "b.csv"]
    write_image_faces(tmp_path / "of", "c", [{}])
    make(tmp_path)
    assert not table.exists()


@pytest.mark.parametrize(
    ("name", "value"), [("AU12_r", 1e39), ("AU01_r", -5), ("AU12_r", 5.5), ("AU12_c", 2), ("confidence", 98)]
)
def test_values_that_no_openface_writes_cost_their_row(tmp_path: Path, name: str, value: float) -> None:
    for stem in "ab":
        write_image_faces(tmp_path / "of", stem, [{name: value} if stem == "b" else {"AU12_r": 5, "AU01_r": 0}])
    _, samples, _, rejected = make(tmp_path)
    assert samples["source"].tolist() == ["a.csv"]
    assert rejected[["source", "row", "reason", "detail"]].to_numpy().tolist() == [
        ["b.csv", 0, "impossible_value", f"{name} is {float(value)}"]
    ]
