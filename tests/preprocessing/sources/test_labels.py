from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.pictures import path_parts
from gated_vae.preprocessing.sources.celeba.lists import (
    NamedValues,
    look_up,
    read_attributes,
    read_identities,
    read_splits,
)


def values(labels: NamedValues) -> dict[str, object]:
    return {"/".join(parts): row[0] if len(row) == 1 else row for parts, row in labels.values.items()}


ASKED = {"a.jpg": 1, "b.jpg": 20}


@pytest.mark.parametrize(
    "text",
    [
        b"a.jpg 1\nb.jpg 20\n",
        b"a.jpg 1\r\n\r\nb.jpg  20",
        b"a.jpg 1\rb.jpg 20\r",
        b"a.jpg 1\nb.jpg 20\na.jpg 1\n",
        b"\xef\xbb\xbfa.jpg 1\nb.jpg 20\n",
        b"a.jpg, 1\nb.jpg ,20\n",
        b"a.jpg\t1\nb.jpg\t20\n",
        b'"a.jpg" 1\n"b.jpg";"20"\n',
        b"2\na.jpg 1\nb.jpg 20\n",
        b"image_id,identity\r\na.jpg,1\r\nb.jpg,20\r\n",
        b"Datei;Person\na.jpg;1\nb.jpg;20\n",
        b"./a.jpg 1\n.\\b.jpg 20\n",
    ],
)
def test_the_same_list_in_many_forms(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "list").write_bytes(text)
    assert values(read_identities(tmp_path / "list")) == ASKED


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a.jpg Ada\nb.jpg Bo\n", {"a.jpg": "Ada", "b.jpg": "Bo"}),
        ("Ann Lee 1.jpg 1\nLee, Bo.png 2\n", {"Ann Lee 1.jpg": 1, "Lee, Bo.png": 2}),
        ("talk one 1\nwalk 2\n", {"talk one": 1, "walk": 2}),
        ("faces\\ann\\1.jpg 1\nfaces/bo/1.jpg 2\n", {"faces/ann/1.jpg": 1, "faces/bo/1.jpg": 2}),
        ("Mu\u0308ller.jpg 1\n", {"M\u00fcller.jpg": 1}),
    ],
)
def test_names_of_every_kind(tmp_path: Path, text: str, asked: dict[str, object]) -> None:
    (tmp_path / "list").write_bytes(text.encode())
    assert values(read_identities(tmp_path / "list")) == asked


@pytest.mark.parametrize(
    "text",
    [
        "2\nMale Smiling\na.jpg -1  1\nb.jpg  1 -1\n",
        "image_id,Male,Smiling\na.jpg,-1,1\nb.jpg,1,-1\n",
        "image_id Male Smiling\r\na.jpg -1 1\r\nb.jpg 1 -1\r\n",
    ],
)
def test_attributes_of_either_origin(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_bytes(text.encode())
    labels = read_attributes(tmp_path / "list")
    assert labels.columns == ("Male", "Smiling")
    assert values(labels) == {"a.jpg": (-1, 1), "b.jpg": (1, -1)}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"image Male\na.jpg 1\nb.jpg {2**63}\n", "Line 3 of"),
        (f"image Male\na.jpg {-(2**63) - 1}\n", "Line 2 of"),
        (f'image,Male\na.jpg,1\n"b.jpg","{"1" * 200_000}"\n', "Line 3 of"),
        ("image Male Male\na.jpg 1 2\n", "a column twice"),
        ("image,Male,\na.jpg,1,2\n", "one without a name"),
    ],
)
def test_attributes_that_cannot_be_are_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(GatedVAEError, match=what):
        read_attributes(tmp_path / "list")


def test_splits_as_words_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a.jpg 0\nb.jpg valid\nc.jpg test\nd.jpg val\n")
    assert values(read_splits(tmp_path / "list")) == {
        "a.jpg": "train",
        "b.jpg": "valid",
        "c.jpg": "test",
        "d.jpg": "valid",
    }


def test_official_lists(real_data: Path, tmp_path: Path) -> None:
    for read, name in ((read_identities, "identity_CelebA.txt"), (read_splits, "list_eval_partition.txt")):
        labels = values(read(real_data / "celeba" / name))
        plain = pd.read_csv(real_data / "celeba" / name, sep=" ", header=None, index_col=0)[1]
        assert list(labels) == plain.index.tolist()
        asked = plain.map({0: "train", 1: "valid", 2: "test"}) if read is read_splits else plain
        assert list(labels.values()) == asked.tolist()
    with zipfile.ZipFile(real_data / "celeba" / "list_attr_celeba.txt.zip") as archive:
        text = archive.read(archive.namelist()[0])
    (tmp_path / "attributes.txt").write_bytes(b"\n".join(text.splitlines()[:2000]) + b"\n")
    attributes = read_attributes(tmp_path / "attributes.txt")
    plain = pd.read_csv(tmp_path / "attributes.txt", sep=r"\s+", skiprows=1)
    assert list(attributes.columns) == plain.columns.tolist()
    assert list(attributes.values.values()) == [tuple(row) for row in plain.to_numpy().tolist()]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"a.jpg 1\nb.jpg\n", "Line 2 of"),
        (b"a.jpg 1\nb.jpg 2 3\n", "Line 2 of"),
        (b"a.jpg 1\nb.jpg one\n", "Line 2 of"),
        (b"a.jpg,1\nb.jpg,\n", "Line 2 of"),
        (b"a.jpg 1" + b"0" * 30, "Line 1 of"),
        (b"a.jpg 1\nb.jpg 1\n\na.jpg 2\n", "Line 4 of .* contradicts another"),
        (b"image_id identity\n", "has no line"),
        (b"\n\n", "has no line"),
        (b"\xff\xfea\x00", "Save it as UTF-8"),
        ("Müller.jpg 1\n".encode("latin-1"), "Save it as UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: bytes, what: str) -> None:
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(GatedVAEError, match=what):
        read_identities(tmp_path / "list.txt")


def test_a_split_that_celeba_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg 0\nb.jpg 3\n")
    with pytest.raises(GatedVAEError, match=r"(?s)Line 2 of .*It is 'b.jpg 3'"):
        read_splits(tmp_path / "list.txt")


def found(lines: dict[str, int], images: list[str]) -> dict[str, int]:
    labels = NamedValues(Path("list"), ("identity",), {path_parts(name): (value,) for name, value in lines.items()})
    column = look_up(labels, [path_parts(name) for name in images])["identity"]
    return {name: value for name, value in zip(images, column, strict=True) if value is not pd.NA}


def test_a_stem_helps_only_where_it_is_unique() -> None:
    lines = {"a.jpg": 1, "b.jpg": 2, "c.jpg": 3, "c.png": 4, "e.f.jpg": 5}
    assert found(lines, ["a.jpg", "b.png", "c.bmp", "c.png", "d.jpg", "a.png", "b", "e.f", "e"]) == {
        "a.jpg": 1,  # by name
        "c.png": 4,
        "e.f": 5,  # by stem: the picture's own suffix was lost; for the others several may be meant
    }


def test_folders_count_as_far_as_both_have_some() -> None:
    lines = {"ann/1.jpg": 1, "bo/1.jpg": 2, "in/3.jpg": 3, "4.jpg": 4, "5.jpg": 5}
    images = ["/data/ann/1.jpg", "/data/bo/1.jpg", "3.jpg", "/data/x/4.jpg", "x/5.jpg", "y/5.jpg", "cy/1.jpg"]
    assert found(lines, images) == {"/data/ann/1.jpg": 1, "/data/bo/1.jpg": 2, "3.jpg": 3, "/data/x/4.jpg": 4}


def test_a_list_of_other_images_is_refused() -> None:
    with pytest.raises(GatedVAEError, match=r"(?s)names none.*'in/a.jpg'.*'b.jpg'"):
        found({"in/a.jpg": 1}, ["b.jpg"])
