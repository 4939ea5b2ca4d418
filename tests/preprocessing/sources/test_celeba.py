"""What a store of faces holds, against plain pandas, plain loops and OpenCV read picture by picture."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.api import read_openface
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, CelebaReport, preprocess_celeba
from gated_vae.preprocessing.sources.celeba.survey import survey
from gated_vae.preprocessing.store import open_store, rejected_path
from tests.folders import GOOD, picture, seed_of, write_csv, write_details, write_image_faces, write_picture


def make(tmp_path: Path, **options: object) -> tuple[CelebaReport, pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Preprocess tmp_path/of; the report, the samples, the images and the rejected items."""
    report = preprocess_celeba(CelebaOptions(tmp_path / "of", **options), tmp_path / "store", workers=2)  # type: ignore[arg-type]
    store = open_store(tmp_path / "store")
    rejected = pd.read_parquet(rejected_path(tmp_path / "store"))
    assert report.seen == report.taken + len(rejected) == store.manifest["seen"]
    assert report.rejected == rejected["reason"].value_counts().to_dict()
    assert store.samples["sample_id"].tolist() == list(range(report.taken))
    assert store.images.shape == (report.taken, *store.manifest["image_shape"])
    return report, store.samples, np.asarray(store.images), rejected


def reasons(rejected: pd.DataFrame) -> dict[str, str]:
    rows = ["" if row is pd.NA else f":{row}" for row in rejected["row"]]
    return dict(zip(rejected["source"] + rows, rejected["reason"], strict=True))


def drawn(seed: int, size: int = 64, suffix: str = ".bmp", **shape: int) -> np.ndarray:
    """The stored form of a picture that `write_picture` wrote."""
    encoded = cv2.imencode(suffix, picture(seed, **shape))[1]
    grey = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    return cv2.resize(grey[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


def test_real_files_give_what_plain_pandas_and_opencv_give(real_data: Path, tmp_path: Path) -> None:
    source, identities = real_data / "celeba" / "processed_bmp", real_data / "celeba" / "identity_CelebA.txt"
    report = preprocess_celeba(CelebaOptions(source, identities=identities), tmp_path)
    store = open_store(tmp_path)

    wanted = ("face", "confidence", "pose_R", "AU")
    faces = [
        pd.read_csv(path, sep=", ", engine="python", usecols=lambda name: name.startswith(wanted)).assign(
            source=path.name
        )
        for path in sorted(source.glob("*.csv"))
    ]
    table = pd.concat(faces).reset_index(names="row")
    pose = table[["pose_Rx", "pose_Ry", "pose_Rz"]].abs().max(axis=1)
    usable = table[(table["confidence"] >= 0.8) & (pose <= 1.0)]
    best = (
        usable.sort_values(["confidence", "face"], ascending=[False, True])
        .groupby("source")
        .head(1)
        .sort_values("source")
    )
    images = best["source"].str.replace(".csv", ".jpg")
    persons = pd.read_csv(identities, sep=" ", header=None, index_col=0)[1]
    no_face = len(list(source.glob("*_of_details.txt"))) - len(faces)

    assert store.samples["image"].tolist() == images.tolist()
    assert store.samples["identity"].tolist() == images.map(persons).tolist()
    labels = [name for name in store.samples if name in table and name != "source"]
    assert len([name for name in labels if name.startswith("AU")]) == 35
    pd.testing.assert_frame_equal(
        store.samples[labels], best[labels].reset_index(drop=True), check_dtype=False, check_exact=True
    )
    for pixels, name, face in zip(store.images, best["source"], best["face"], strict=True):
        whole = cv2.imread(f"{source}/{name[:-4]}_aligned/face_det_{face:06d}.bmp", cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(pixels, cv2.resize(whole, (64, 64), interpolation=cv2.INTER_AREA))
    assert (report.seen, report.rejected["no_face"]) == (len(table) + no_face, no_face)
    assert (report.people, report.without_identity) == (persons[images].nunique(), 0)


def test_random_faces_against_plain_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", 4)
    monkeypatch.setattr("gated_vae.preprocessing.sources.celeba.tasks.SHARD_FILES", 7)
    generator = np.random.default_rng(0)
    taken, dropped, suffixes = {}, {}, {}
    for number in range(60):
        stem = f"{number:03d}"
        faces = [
            {
                "confidence": float(generator.choice([0.4, 0.8, 0.9, 0.98])),
                "pose_Ry": float(generator.choice([0.2, -0.9, 1.0, 1.1, -3.1])),
                "AU12_r": float(generator.choice([0, 1.5, np.nan, np.inf], p=[0.4, 0.4, 0.1, 0.1])),
            }
            for _ in range(generator.integers(0, 4))
        ]
        suffixes[stem] = str(generator.choice([".bmp", ".png"]))
        write_image_faces(tmp_path / "of", stem, faces, suffix=suffixes[stem])
        best = None
        for index, face in enumerate(faces):
            item = f"{stem}.csv:{index}"
            if not np.isfinite(face["AU12_r"]):
                dropped[item] = "not_finite"
            elif face["confidence"] < 0.8:
                dropped[item] = "low_confidence"
            elif abs(face["pose_Ry"]) > 1.0:
                dropped[item] = "impossible_pose"
            elif best is None or face["confidence"] > faces[best]["confidence"]:
                if best is not None:
                    dropped[f"{stem}.csv:{best}"] = "other_face"
                best = index
            else:
                dropped[item] = "other_face"
        if best is not None:
            taken[stem] = best
        if not faces:
            dropped[f"{stem}_of_details.txt"] = "no_face"

    _, samples, images, rejected = make(tmp_path)
    assert dict(zip(samples["source"].str[:-4], samples["face"], strict=True)) == taken
    assert reasons(rejected) == dropped
    assert set(dropped.values()) == {"not_finite", "low_confidence", "impossible_pose", "other_face", "no_face"}
    for pixels, (stem, face) in zip(images, taken.items(), strict=True):
        assert np.array_equal(pixels, drawn(seed_of(stem, face), suffix=suffixes[stem]))


def test_pictures_that_fail_leave_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", 3)
    folder = tmp_path / "of"
    for stem in "abcdefgh":
        write_image_faces(folder, stem, [{}])
    faces = {stem: folder / f"{stem}_aligned" / "face_det_000000.bmp" for stem in "abcdefgh"}
    faces["a"].write_bytes(b"")
    faces["d"].write_bytes(faces["d"].read_bytes()[:999])
    faces["e"].rename(tmp_path / "moved.bmp")
    faces["f"].unlink()
    faces["f"].symlink_to(tmp_path / "nothing.bmp")
    faces["h"].write_text("hello")
    _, samples, images, rejected = make(tmp_path)
    assert samples["image"].tolist() == ["b.jpg", "c.jpg", "g.jpg"]
    assert [np.array_equal(pixels, drawn(seed_of(stem, 0))) for pixels, stem in zip(images, "bcg", strict=True)] == [
        True
    ] * 3
    assert reasons(rejected) == {
        "a.csv:0": "unreadable_picture",
        "d.csv:0": "unreadable_picture",
        "e.csv:0": "no_picture",
        "f.csv:0": "no_picture",
        "h.csv:0": "unreadable_picture",
    }


def test_a_store_of_links_is_as_the_files(tmp_path: Path) -> None:
    """As git-annex and DVC keep data sets: every file a link, folders as well; one leads nowhere, one round in a loop."""
    for stem in "abc":
        write_image_faces(tmp_path / "annex", stem, [{}])
    for file in sorted((tmp_path / "annex").rglob("*.*")):
        link = tmp_path / "of" / file.relative_to(tmp_path / "annex")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    shutil.rmtree(tmp_path / "of" / "b_aligned")
    (tmp_path / "of" / "b_aligned").symlink_to(tmp_path / "annex" / "b_aligned")
    (tmp_path / "of" / "lost.csv").symlink_to("nothing")
    (tmp_path / "of" / "loop").symlink_to("../of")
    (tmp_path / "of" / "more").symlink_to(tmp_path / "more")
    write_image_faces(tmp_path / "more", "d", [{}])
    _, samples, images, rejected = make(tmp_path)
    assert samples["image"].tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert all(np.array_equal(pixels, drawn(seed_of(stem, 0))) for pixels, stem in zip(images, "abcd", strict=True))
    assert dict(zip(rejected["source"], rejected["detail"], strict=True)) == {"lost.csv": "It is a link to nothing."}


def test_damaged_and_blank_pictures_are_rejected_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = cv2.imencode(".jpg", picture(1))[1].tobytes()
    middle = len(whole) // 2
    pictures = {"whole": whole, "no_end": whole[:-2], "other_name": cv2.imencode(".png", picture(1))[1].tobytes()}
    damaged = {
        "closed": whole[:middle] + b"\xff\xd9",
        "hole": whole[:middle] + bytes(200) + whole[middle + 200 :],
        "text": b"<!DOCTYPE html>",
        "empty": b"",
        "black": cv2.imencode(".bmp", np.zeros((112, 112, 3), np.uint8))[1].tobytes(),
        "night": cv2.imencode(".png", np.full((112, 112, 3), (2, 3, 1), np.uint8))[1].tobytes(),
    }
    for stem, data in {**pictures, **damaged}.items():
        write_image_faces(tmp_path / "of", stem, [{}], suffix=".jpg")
        (tmp_path / "of" / f"{stem}_aligned" / "face_det_000000.jpg").write_bytes(data)
    _, samples, images, rejected = make(tmp_path)
    assert samples["image"].tolist() == ["no_end.jpg", "other_name.jpg", "whole.jpg"]
    assert np.array_equal(images[0], images[2])
    details = dict(zip(rejected["source"], rejected["reason"] + ": " + rejected["detail"], strict=True))
    assert details.pop("hole.csv").startswith("unreadable_picture: damaged JPEG: ")
    assert details == {
        "black.csv": "blank: it is black all over",
        "closed.csv": "unreadable_picture: damaged JPEG: premature end of data segment",
        "empty.csv": "unreadable_picture: empty file",
        "night.csv": "blank: it is black all over",
        "text.csv": "unreadable_picture: text: an error page, or what Git LFS leaves",
    }
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("numbered", ["frame_det_00_{:06d}.png", "frame_det_{:06d}.png"])
def test_frames_of_a_sequence(tmp_path: Path, numbered: str) -> None:
    """FeatureExtraction 2.x and 1.x: pictures by frame number; rows out of order, a failed frame, one without picture."""
    rows = [{"frame": n, "timestamp": 0.0, **GOOD, "success": 1} for n in (3, 1, 2, 5, 4)]
    rows[2] |= {"success": 0, "confidence": 0.02, "pose_Rx": -2.7}
    write_csv(tmp_path / "of" / "walk.csv", rows, separator=",")
    write_details(tmp_path / "of", "walk", "walk.mp4")
    for frame in (1, 2, 3, 4):
        write_picture(tmp_path / "of" / "walk_aligned" / numbered.format(frame), frame)
    _, samples, images, rejected = make(tmp_path, size=32)
    assert samples["image"].tolist() == ["walk/000003", "walk/000001", "walk/000004"]
    assert samples["frame"].tolist() == [3, 1, 4]
    assert all(
        np.array_equal(pixels, drawn(frame, 32, ".png")) for pixels, frame in zip(images, (3, 1, 4), strict=True)
    )
    assert reasons(rejected) == {"walk.csv:2": "no_success", "walk.csv:3": "no_picture"}


def test_several_faces_in_a_frame(tmp_path: Path) -> None:
    rows = [
        {"frame": frame, "face_id": face, **GOOD, "confidence": 0.9 + face / 50} for frame in (1, 2) for face in (0, 1)
    ]
    write_csv(tmp_path / "of" / "two.csv", [*rows, rows[-1]])
    for frame in (1, 2):
        for face in (0, 1):
            write_picture(tmp_path / "of" / "two_aligned" / f"frame_det_{face:02d}_{frame:06d}.bmp", frame * 10 + face)
    _, samples, images, rejected = make(tmp_path)
    assert samples[["frame", "face"]].to_numpy().tolist() == [[1, 1], [2, 1]]
    assert [np.array_equal(images[0], drawn(11)), np.array_equal(images[1], drawn(21))] == [True, True]
    assert reasons(rejected) == {"two.csv:0": "other_face", "two.csv:2": "other_face", "two.csv:4": "duplicate"}


def test_whole_pictures_by_the_name_of_the_input(tmp_path: Path) -> None:
    """a.jpg and a.png collide: the details tell which; without details both may be meant. Nothing falls back on order."""
    for index, name in enumerate(["a.jpg", "a.png", "b.jpg", "b.png", "c.png", "e.jpg"]):
        write_picture(tmp_path / "pictures" / name, index, height=218, width=178)
    write_image_faces(tmp_path / "of", "a", [{}, {"confidence": 0.99}], given="a.png")
    write_image_faces(tmp_path / "of", "d", [{}], given="d.jpg")
    write_image_faces(tmp_path / "of", "e", [{}], given="e.bmp")
    write_image_faces(tmp_path / "of", "f", [{}], given="b.bmp")
    for stem in "bc":
        write_csv(tmp_path / "of" / f"{stem}.csv", [{"face": 0, **GOOD}])
    _, samples, images, rejected = make(tmp_path, images=tmp_path / "pictures")
    assert samples["image"].tolist() == ["a.png", "c.png", "e.jpg"]  # e.bmp has become e.jpg
    assert samples["face"].tolist() == [1, 0, 0]
    assert np.array_equal(images[0], drawn(1, suffix=".png", height=218, width=178))
    assert np.array_equal(images[1], drawn(4, suffix=".png", height=218, width=178))
    assert reasons(rejected) == {
        "a.csv:0": "other_face",
        "b.csv:0": "no_picture",
        "d.csv:0": "no_picture",
        "f.csv:0": "no_picture",
    }
    details = rejected.set_index("source")["detail"]
    assert details["b.csv"] == "b.jpg and b.png may both be it"
    assert details["d.csv"] == "no picture is named d.jpg"
    assert details["f.csv"] == "b.jpg and b.png may both be it"


def test_whole_pictures_in_folders_and_claimed_twice(tmp_path: Path) -> None:
    for index, person in enumerate("xy"):
        write_picture(tmp_path / "pictures" / person / "1.jpg", index)
        write_image_faces(tmp_path / "of" / person, "1", [{}])
    write_image_faces(tmp_path / "of" / "x", "2", [{}], given="1.jpg")
    _, samples, images, rejected = make(tmp_path, images=tmp_path / "pictures")
    assert samples["source"].tolist() == ["x/1.csv", "y/1.csv"]
    assert [np.array_equal(pixels, drawn(seed, suffix=".jpg")) for seed, pixels in enumerate(images)] == [True, True]
    assert reasons(rejected) == {"x/2.csv:0": "duplicate"}
    assert rejected["detail"].tolist() == ["its picture went to x/1.csv row 0"]


@pytest.mark.parametrize("first", [0, 1])
def test_whole_pictures_of_an_image_sequence(tmp_path: Path, first: int) -> None:
    """Frame n is the nth picture by name, of the very folder that the details name, if it has as many as there are frames."""
    for folder, count in (("walk", 3), ("other", 9)):
        for number in range(count):
            write_picture(tmp_path / "pictures" / folder / f"{10 * number:03d}.png", number)
    for stem, given, count in (("walk", "walk", 3), ("film", "film.avi", 3), ("lost", "", 3), ("more", "walk", 4)):
        frames = range(first, first + count)
        write_csv(tmp_path / "of" / f"{stem}.csv", [{"frame": frame, "face_id": 0, **GOOD} for frame in frames])
        if given:
            write_details(tmp_path / "of", stem, given)
    _, samples, images, rejected = make(tmp_path, images=tmp_path / "pictures")
    assert samples["image"].tolist() == ["000.png", "010.png", "020.png"]
    assert all(np.array_equal(pixels, drawn(number, suffix=".png")) for number, pixels in enumerate(images))
    assert set(rejected["reason"]) == {"no_picture"}
    assert rejected.drop_duplicates("source").set_index("source")["detail"].to_dict() == {
        "film.csv": "no folder of pictures is named film.avi",
        "lost.csv": "no folder of pictures is named lost",
        "more.csv": f"frames go up to {first + 3}, but there are 3 pictures",
    }


def test_lists_become_columns(tmp_path: Path) -> None:
    for stem in "abc":
        write_image_faces(tmp_path / "of", stem, [{}], given=f"{stem}.png")
    (tmp_path / "identities.txt").write_bytes(b"a.png 7\r\nc.jpg 2880\r\nz.jpg 1\r\n")
    (tmp_path / "splits.txt").write_bytes(b"a.png 0\nb.png 1\nc.png 2\n")
    lists = {"identities": tmp_path / "identities.txt", "partitions": tmp_path / "splits.txt"}
    report, samples, _, _ = make(tmp_path, **lists)
    assert samples["identity"].tolist() == [7, pd.NA, 2880]
    assert str(samples["identity"].dtype) == "Int64"
    assert samples["split"].tolist() == ["train", "valid", "test"]
    assert (report.people, report.without_identity, report.without_split) == (2, 1, 0)


@pytest.mark.parametrize(("missing", "left"), [("pose_", "AU"), ("AU", "pose_")])
def test_sources_with_pose_or_action_units_alone(tmp_path: Path, missing: str, left: str) -> None:
    row = {"face": 0} | {name: value for name, value in GOOD.items() if not name.startswith(missing)}
    write_csv(tmp_path / "of" / "a.csv", [row])
    write_picture(tmp_path / "of" / "a_aligned" / "face_det_000000.jpg", 1)
    _, samples, _, _ = make(tmp_path)
    assert not any(name.startswith(missing) for name in samples)
    assert any(name.startswith(left) for name in samples)
    assert samples["image"].tolist() == ["a"]


def test_flavours_in_one_folder(tmp_path: Path) -> None:
    """Presences may be missing altogether; pose or intensities that other files have may not."""
    rows = {"all": GOOD, "bare": {name: value for name, value in GOOD.items() if not name.endswith("_c")}}
    rows |= {
        "gap": GOOD | {"AU12_c": "nan", "AU28_c": 1},
        "aus": {name: GOOD[name] for name in ("confidence", "AU01_r", "AU12_r")},
    }
    for stem, row in rows.items():
        write_csv(
            tmp_path / "of" / f"{stem}.csv", [{"face": 0, **row, "AU28_c": 0} if stem == "all" else {"face": 0, **row}]
        )
        write_picture(tmp_path / "of" / f"{stem}_aligned" / "face_det_000000.bmp", 1)
    _, samples, _, rejected = make(tmp_path)
    assert samples["image"].tolist() == ["all", "bare"]
    assert samples["AU12_c"].isna().tolist() == [False, True]
    details = dict(zip(rejected["source"], rejected["reason"] + ": " + rejected["detail"], strict=True))
    assert details == {
        "aus.csv": "missing_columns: no column pose_Rx, which most files have",
        "gap.csv": "not_finite: AU12_c is nan",
    }


def test_names_that_are_no_text_and_rows_that_are_no_rows(tmp_path: Path) -> None:
    for stem in ("caf\udce9", "with, comma", "new\nline", "é"):
        write_image_faces(tmp_path / "of", stem, [{}])
    damaged = tmp_path / "of" / "é.csv"
    damaged.write_text(damaged.read_text() + "1, what, is, this\n")
    write_csv(tmp_path / "of" / "mine.csv", [{"price": 1}])
    (tmp_path / "of" / "zero.csv").touch()
    _, samples, _, rejected = make(tmp_path)
    assert samples["image"].tolist() == ["caf\\xe9", "new", "with, comma.jpg", "é.jpg"]
    assert set(reasons(rejected)) == {"é.csv:1", "mine.csv", "zero.csv"}
    assert not rejected["reason"].str.contains(" ").any()


def test_a_folder_given_relative_to_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_faces(tmp_path / "of", "a", [{}])
    write_image_faces(tmp_path / "of", "b", [])
    monkeypatch.chdir(tmp_path / "of")
    report = preprocess_celeba(CelebaOptions(Path()), Path("../store"))
    assert (report.taken, report.rejected) == (1, {"no_face": 1})


def test_lists_the_csvs_that_read_openface_reads(tmp_path: Path) -> None:
    root = tmp_path / "of"
    for stem in ("a", "deep/er/b", "deep/a_aligned/in_aligned"):
        write_image_faces(root / Path(stem).parent, Path(stem).name, [{}])
    write_csv(root / "own_aligned" / "c.csv", [GOOD])
    write_csv(root / "a_aligned" / "no.csv", [GOOD])
    write_csv(root / ".hidden" / "no.csv", [GOOD])
    write_csv(root / ".no.csv", [GOOD])
    write_csv(root / "UPPER.CSV", [GOOD])
    write_csv(root / "folder.csv" / "d.csv", [GOOD])
    (root / "link.csv").symlink_to("a.csv")
    (root / "linked").symlink_to("deep")
    (root / "broken.csv").symlink_to("nothing")
    (root / "loop").symlink_to(".")
    os.mkfifo(root / "pipe.csv")
    listed, frame = list(survey(CelebaOptions(root)).sizes), read_openface(root)
    assert listed == sorted({*frame["source"], *(entry["source"] for entry in frame.attrs["rejected"])})
    assert len(listed) == 9


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("size", {"size": 0}),
        ("min_confidence", {"min_confidence": 1.5}),
        ("max_angle", {"max_angle": float("nan")}),
        ("There is no OpenFace output", {"openface": "empty"}),
        ("absent", {"openface": "absent"}),
        ("absent cannot be listed", {"images": "absent"}),
        ("There are no pictures", {"images": "empty"}),
        ("has columns of OpenFace's pose or action units", {"openface": "gaze"}),
        ("Rejected: 1 no_picture", {"openface": "bare"}),
        ("Line 2", {"identities": "bad.txt"}),
        ("Line 3", {"partitions": "bad.txt"}),
        ("absent.txt cannot be read", {"partitions": "absent.txt"}),
    ],
)
def test_bad_input_is_named_and_writes_nothing(tmp_path: Path, what: str, options: dict[str, object]) -> None:
    write_image_faces(tmp_path / "of", "a", [{}])
    write_csv(tmp_path / "gaze" / "a.csv", [{"face": 0, "gaze_0_x": 0.1}])
    write_csv(tmp_path / "bare" / "a.csv", [{"face": 0, **GOOD}])
    (tmp_path / "empty").mkdir()
    bad = b"a.jpg 1\na.jpg one\n" if "identities" in options else b"a.jpg 1\n\na.jpg 3\n"
    (tmp_path / "bad.txt").write_bytes(bad)
    given = {"openface": "of"} | options
    paths = {name: tmp_path / value if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(GatedVAEError, match=what) as caught:
        preprocess_celeba(CelebaOptions(**paths), tmp_path / "store")  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) <= 3
    assert [path.name for path in (tmp_path / "store").glob("*")] in ([], [".lock"])
