from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.celeba.lists import look_up, read_identities, read_splits


def test_lines_in_either_form(tmp_path: Path) -> None:
    for name, text in (
        ("lf", b"a.jpg 1\nb.jpg 20\n"),
        ("crlf", b"a.jpg 1\r\n\r\nb.jpg  20"),
        ("twice", b"a.jpg 1\nb.jpg 20\na.jpg 1\n"),
    ):
        (tmp_path / name).write_bytes(text)
        assert read_identities(tmp_path / name).to_dict() == {"a.jpg": 1, "b.jpg": 20}


def test_official_lists(real_data: Path) -> None:
    for read, name in ((read_identities, "identity_CelebA.txt"), (read_splits, "list_eval_partition.txt")):
        labels = read(real_data / "celeba" / name)
        plain = pd.read_csv(real_data / "celeba" / name, sep=" ", header=None, index_col=0)[1]
        assert labels.index.tolist() == plain.index.tolist()
        assert (
            labels.tolist() == plain.map({0: "train", 1: "valid", 2: "test"} if read is read_splits else int).tolist()
        )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"a.jpg 1\nb.jpg\n", "Line 2 of"),
        (b"a.jpg 1\nb.jpg 2 3\n", "Line 2 of"),
        (b"202599\nimage_id identity\n", "Line 1 of"),
        (b"a.jpg,1\n", "Line 1 of"),
        (b"a.jpg -1\n", "Line 1 of"),
        (b"a.jpg 1" + b"0" * 30, "Line 1 of"),
        ("a.jpg ²\n".encode(), "Line 1 of"),
        (b"a.jpg 1\nb.jpg 1\n\na.jpg 2\n", "It gives a.jpg the number 2, an earlier line 1"),
        (b"\n\n", "has no line"),
        (b"\xff\xfea\x00", "cannot be read"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: bytes, what: str) -> None:
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(GatedVAEError, match=what):
        read_identities(tmp_path / "list.txt")


def test_a_split_that_celeba_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg 0\nb.jpg 3\n")
    with pytest.raises(GatedVAEError, match=r"(?s)Line 2 of .*3 is none of 0, 1, 2"):
        read_splits(tmp_path / "list.txt")


def test_a_stem_helps_only_where_it_is_unique() -> None:
    labels = pd.Series({"a.jpg": 1, "b.jpg": 2, "c.jpg": 3, "c.png": 4, "e.f.jpg": 5}, dtype="Int64", name="identity")
    images = pd.Series(["a.jpg", "b.png", "c.bmp", "c.png", "d.jpg", "a.png", "b", "e.f", "e"])
    found = zip(images, look_up(labels, images), strict=True)
    assert {name: label for name, label in found if label is not pd.NA} == {
        "a.jpg": 1,  # by name
        "c.png": 4,
        "e.f": 5,  # by stem: the picture's own suffix was lost; for the others several may be meant
    }
