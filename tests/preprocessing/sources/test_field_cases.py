"""Folders as people have them, each with what is right for it: every picture beside its own labels, or a reason why not.

In every folder face n has `pose_Ry` n/100, `AU12_r` n/10 and a picture of grey 20 + 8n.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.store import open_store, rejected_path

LISTS = sorted(f"identity_{name}" for name in ("CelebA.csv", "bom.txt", "comma_space.txt", "old_mac.txt", "paths.txt"))
LISTS += [f"identity_{name}.txt" for name in ("quoted", "tab", "upper", "windows_paths")]


class Made:
    """A store made of a folder, with the number of the face in each picture and in each row of labels."""

    def __init__(self, folder: Path, out: Path, **options: object) -> None:
        paths = {
            name: folder / value if isinstance(value, str) and name != "face" else value
            for name, value in options.items()
        }
        self.report = preprocess_celeba(CelebaOptions(**{"openface": folder / "of", "size": 32} | paths), out)  # type: ignore[arg-type]
        store = open_store(out)
        self.samples = store.samples
        grey = np.median(np.asarray(store.images).reshape(len(store), -1), axis=1)
        self.pictures = np.rint((grey - 20) / 8).astype(int).tolist()
        column, scale = ("pose_Ry", 100) if "pose_Ry" in self.samples else ("AU12_r", 10)
        self.labels = np.rint(self.samples[column].to_numpy() * scale).astype(int).tolist()
        self.rejected = pd.read_parquet(rejected_path(out))
        assert self.pictures == self.labels

    def column(self, name: str) -> list[object]:
        return self.samples[name].tolist()


@pytest.mark.parametrize(
    ("folder", "options", "faces"),
    [
        ("one-bad-of-many", {"images": "pics"}, range(1, 21)),
        ("windows-codepage", {}, [1, 3, 2]),
        ("windows-codepage", {"images": "pics"}, [1, 3, 2]),
        ("seq-mixed-case", {"images": ""}, [1, 3, 4, 6]),
        ("stray-csv", {}, range(1, 22)),
        ("decimal-comma", {"openface": "dates"}, [1, 3]),
        *(("decimal-comma", {"openface": name}, [1, 2, 3]) for name in ("excel", "rtable", "sep", "tab")),
        ("merged-csv", {"images": "pics"}, range(1, 7)),
        ("seq-dot", {"openface": "walk/processed", "images": "walk"}, [1, 2, 3, 4]),
        ("path-in-details", {"images": "faces"}, [1, 2, 3, 4]),
        ("video-frames", {"images": "frames"}, [1, 2, 3]),
        ("folder-per-person", {"images": "faces"}, range(1, 7)),
        ("converted-png", {"images": "img_align_celeba_png"}, [1, 2]),
        ("two-in-picture", {}, [2]),
        ("two-in-picture", {"face": "largest"}, [1]),
    ],
)
def test_pictures_lie_beside_their_labels(
    cases: Path, tmp_path: Path, folder: str, options: dict[str, object], faces: list[int]
) -> None:
    assert Made(cases / folder, tmp_path / "store", **options).labels == list(faces)


@pytest.mark.parametrize(
    ("folder", "options", "what"),
    [
        ("seq-zero-filtered", {"images": ""}, "frames begin at 2"),
        ("merged-csv", {}, "no picture of this face"),
        ("decimal-comma", {"openface": "gui"}, "a.csv row 0: .* cells under a header of"),
        ("openface3", {}, "AU03_r exists in no OpenFace 1 or 2"),
        *(
            ("other-trackers", {"openface": name}, "pose or action units")
            for name in ("libreface", "pyfeat", "mediapipe")
        ),
        ("other-trackers", {"openface": "degrees"}, "in degrees"),
        ("latin1-list", {"identities": "ids.txt"}, "Save it as UTF-8"),
        ("latin1-list", {"identities": "ids16.txt"}, "Save it as UTF-8"),
        ("folder-per-person", {"identities": "identity_names.txt"}, "contradicts another"),
        ("folder-per-person", {"identities": "identity_partial.txt"}, r"'0001_01.jpg',.*'faces/n000002/0001_01.jpg'"),
    ],
)
def test_what_cannot_be_told_is_refused(
    cases: Path, tmp_path: Path, folder: str, options: dict[str, object], what: str
) -> None:
    with pytest.raises(GatedVAEError, match=f"(?s){what}"):
        Made(cases / folder, tmp_path / "store", **options)
    assert not list((tmp_path / "store").glob("[!.]*"))


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_identities_in_every_form(cases: Path, tmp_path: Path, name: str) -> None:
    made = Made(cases / "kaggle-lists", tmp_path / "store", identities=name)
    assert made.column("identity") == [2880, 2937, 8692]


def test_other_lists(cases: Path, tmp_path: Path) -> None:
    made = Made(
        cases / "kaggle-lists",
        tmp_path / "names",
        identities="identity_names.txt",
        partitions="list_eval_partition.csv",
    )
    assert made.column("identity") == ["Ada", "Ada", "Bo"]
    assert made.column("split") == ["train", "valid", "test"]
    for name in ("list_attr_celeba.csv", "list_attr_celeba.txt"):
        made = Made(cases / "kaggle-lists", tmp_path / name, identities="identity_short.txt", attributes=name)
        assert made.column("Male")[:2] == [-1, 1]
        assert made.column("identity") == [2880, 2937, pd.NA]


def test_who_is_who(cases: Path, tmp_path: Path) -> None:
    people = cases / "folder-per-person"
    for index, options in enumerate(
        ({"identities": Path("folder")}, {"identities": Path("folder"), "images": "faces"})
    ):
        made = Made(people, tmp_path / str(index), **options)
        assert made.column("identity") == ["n000002"] * 3 + ["n000003"] * 3
        assert made.column("image")[0] == "n000002/0001_01.jpg"
    made = Made(people, tmp_path / "paths", identities="identity_paths.txt")
    assert made.column("identity") == [0, 0, 0, 1, 1, 1]
    assert Made(cases / "names-with-spaces", tmp_path / "b", identities="ids.txt").column("identity") == [1, 2]
    assert Made(cases / "windows-codepage", tmp_path / "c", identities="ids.txt").column("identity") == [1, 3, 2]
    made = Made(cases / "vidmulti", tmp_path / "d", identities="people.txt")
    assert {f"1/{face}" for face in made.column("face")} == set(made.column("identity")) == {"1/0", "1/1"}
    assert made.column("identity") == [f"1/{face}" for face in made.column("face")]


def test_faces_are_cut_out_of_pictures_in_the_wild(cases: Path, tmp_path: Path) -> None:
    """A bright face somewhere in a dark picture: cut out by its landmarks; the middle square holds one of three only."""
    folder = cases / "in-the-wild"
    options = {"openface": folder / "of", "images": folder / "img_celeba", "size": 32}
    preprocess_celeba(CelebaOptions(**options), tmp_path / "store")  # type: ignore[arg-type]
    store = open_store(tmp_path / "store")
    assert store.parameters["crop"] == "landmarks"
    shares = (store.images > 120).mean(axis=(1, 2))
    assert len(shares) == 3
    assert shares.min() > 0.4
    report = preprocess_celeba(CelebaOptions(**options, crop="centre"), tmp_path / "centre")  # type: ignore[arg-type]
    assert (report.taken, report.rejected) == (1, {"outside": 2})
    details = pd.read_parquet(rejected_path(tmp_path / "centre"))["detail"]
    assert details.str.fullmatch(r"\d\d% of the face is outside the middle square that is stored of its picture").all()


def test_a_column_that_one_file_has_is_left_out_and_named(cases: Path, tmp_path: Path) -> None:
    made = Made(cases / "stray-csv", tmp_path / "store")
    assert made.report.left_out == dict.fromkeys(
        ("pose_Rx", "pose_Ry", "pose_Rz"), "in 1 of 21 files only, first 999999.csv"
    )
