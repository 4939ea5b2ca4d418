"""OpenFace's files against plain pandas, quirks against values worked out by hand, damage against the account."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated_vae.preprocessing import read_openface
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface import reader as openface_shard
from gated_vae.preprocessing.openface import text as openface_text
from gated_vae.preprocessing.openface.cells import numbers
from gated_vae.preprocessing.openface.pictures import read_details
from gated_vae.preprocessing.openface.reader import read_csvs
from tests.robustness.fuzz import EXACT

HEADER = "frame, face_id, timestamp, confidence, success, pose_Rx, pose_Ry, x_0, X_0, AU01_r, AU28_c"
ROW = "1, 0, 0.000, 0.98, 1, -0.109, 0.128, 602.6, -13.1, 0.05, 1.00"
NAMES = HEADER.split(", ")
VALUES = [1, 0, 0.0, 0.98, 1, -0.109, 0.128, 602.6, -13.1, 0.05, 1.0]


def plain_pandas(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, skipinitialspace=True, low_memory=False, **EXACT)
    return frame.rename(columns=str.strip)


def read_text(folder: Path, text: str | bytes, columns: list[str] | None = None) -> pd.DataFrame:
    path = folder / "one.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_openface(path, columns)


def values(frame: pd.DataFrame) -> list[list[Any]]:
    return frame.drop(columns=["source", "row"]).to_numpy().tolist()  # type: ignore[no-any-return]


def reasons(frame: pd.DataFrame) -> list[tuple[int | None, str]]:
    return [(entry["row"], entry["reason"]) for entry in frame.attrs["rejected"]]


def assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    ours = ours.drop(columns=["source", "row"])
    ours.attrs = {}
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


# Real files


def test_every_real_flavour_reads_as_in_plain_pandas(real_data: Path) -> None:
    files = sorted([*(real_data / "openface").rglob("*.csv"), *(real_data / "celeba" / "sequence").rglob("*.csv")])
    assert len(files) == 27
    for file in files:
        ours, theirs = read_openface(file), plain_pandas(file)
        if file.name == "of20_714col_jt.csv":  # ends in the middle of a row, which pandas fills up with NaN
            detail = "196 cells under a header of 714."
            rejection = {"source": file.name, "row": 474, "reason": "cell_count", "detail": detail}
            assert ours.attrs["rejected"] == [rejection]
            theirs = theirs.iloc[:-1]
        else:
            assert ours.attrs["rejected"] == []
        assert_same(ours, theirs)


def test_all_real_flavours_in_one_folder_keep_their_rows_apart(real_data: Path) -> None:
    root = real_data / "openface"
    columns = ["pose_Rx", "AU12_r", "frame", "nothing"]
    ours = read_openface(root, columns)
    assert list(ours) == ["pose_Rx", "AU12_r", "frame", "source", "row"]
    assert list(ours["source"].unique()) == sorted(str(file.relative_to(root)) for file in root.rglob("*.csv"))
    for source, rows in ours.groupby("source"):
        theirs = plain_pandas(root / str(source)).iloc[: len(rows)]
        assert rows["row"].tolist() == list(range(len(theirs)))
        for name in columns[:3]:
            expected = theirs[name] if name in theirs else np.full(len(theirs), np.nan)
            np.testing.assert_array_equal(rows[name], expected)


def test_real_file_per_image_reads_as_in_plain_pandas(real_data: Path) -> None:
    root = real_data / "celeba" / "processed"
    files = [root / "006578.csv", *sorted(root.glob("*.csv"))[:40]]
    table = read_csvs([str(file) for file in files], [file.name for file in files])
    frames = [plain_pandas(file) for file in files]
    assert_same(table.rows, pd.concat(frames, ignore_index=True))
    assert table.rows["source"].tolist() == [
        file.name for file, frame in zip(files, frames, strict=True) for _ in range(len(frame))
    ]
    assert table.rejected == []
    assert len(frames[0]) == 2


def test_real_details_say_what_was_read_and_written(real_data: Path) -> None:
    details = read_details(f"{real_data}/celeba/processed/000002_of_details.txt")
    assert (details.input, details.csv) == ("img_align_celeba/000002.jpg", "000002.csv")


# Ways to write the same thing


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW}",
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\r{ROW}\r",
        f"{HEADER}\n\n  \n{ROW}\n\n",
        f"\n\r\n{HEADER}\n{ROW}\n",
        f"\ufeff{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW} \n",
        f"{HEADER}\n{ROW}\n".replace(", ", ","),
        f"{HEADER}\n{ROW}\n".replace(", ", ";"),
        f"{HEADER}\n{ROW}\n".replace(", ", " ; "),
        f"{HEADER}\n{ROW.replace(', ', ',')}\n",
        f"{HEADER.replace(', ', ',')}\n{ROW.replace(', ', ',  ')}\n",
        f"{HEADER.replace(', ', ',')}\n{ROW.replace(', ', ',  ').replace(',  0.05,  1', ', 0.05, 1')}\r\n",
        HEADER + "\n" + ", ".join(f'"{cell}"' for cell in ROW.split(", ")) + "\n",
        ", ".join(f'"{cell}"' for cell in NAMES) + f"\n{ROW}\n",
        "," + HEADER.replace(", ", ",") + "\n0," + ROW.replace(", ", ",") + "\n",
        "Unnamed: 0," + HEADER.replace(", ", ",") + "\n17," + ROW.replace(", ", ",") + "\n",
        f"{HEADER}\n{ROW}\n".replace(", ", "\t"),
        "\t" + f"{HEADER}\n17\t{ROW}\n".replace(", ", "\t"),
        "sep=;\r\n" + f"{HEADER}\r\n{ROW}\r\n".replace(", ", ";"),
        "\ufeffsep=,\n" + f"{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW}\n".replace(", ", ";").replace(".", ","),
        f"{HEADER}\n{ROW}\n".replace("0.98, 1,", "0.98, TRUE,"),
        ", ".join(f'"{cell}"' for cell in NAMES) + f'\n"1", {ROW}\n',  # R names rows in a column without a name
    ],
)
def test_separators_line_ends_quotes_and_saved_indexes_do_not_matter(tmp_path: Path, text: str) -> None:
    frame = read_text(tmp_path, text)
    assert list(frame) == [*NAMES, "source", "row"]
    assert values(frame) == [VALUES]
    assert frame.iloc[0][["source", "row"]].tolist() == ["one.csv", 0]
    assert [str(kind) for kind in frame.dtypes.iloc[:5]] == ["int64", "int64", "float64", "float64", "int64"]
    assert frame.attrs["rejected"] == []


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1e-05", 1e-5),
        ("4.8E+07", 4.8e7),
        ("+0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e400", math.inf),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("-1.#INF00", -math.inf),
        ("0.1234567890123456789", 0.12345678901234568),
        ("7.0385307e-26", 7.0385307e-26),  # one bit off unless correctly rounded
        ("99999999999999999999", 1e20),
        ("9" * 5000, math.inf),
        *(
            (nan, math.nan)
            for nan in ("", "nan", "-nan", "NaN", "-nan(ind)", "nan(snan)", "1.#QNAN", "-1.#IND00", "NA")
        ),
    ],
)
@pytest.mark.parametrize("space", ["", " "])
def test_every_spelling_of_a_number(tmp_path: Path, cell: str, value: float, space: str) -> None:
    frame = read_text(tmp_path, f"AU01_r,pose_Rx\n0.5,1\n0.25,{space}{cell}\n")
    np.testing.assert_array_equal(frame["pose_Rx"], [1.0, value])
    assert frame.attrs["rejected"] == []


def test_a_header_may_have_row_names_in_one_file_and_not_in_the_next(tmp_path: Path) -> None:
    header = ",".join(f'"{name}"' for name in NAMES)
    for name, line in (("a", ROW), ("b", f'"1",{ROW}'), ("c", ROW), ("d", f'"1",{ROW}')):
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{line.replace(' ', '')}\n")
    (tmp_path / "e.csv").write_text(f"{header}\n1,{ROW.replace(' ', '')}\n")  # a name would be quoted as the others are
    frame = read_openface(tmp_path)
    assert values(frame) == [VALUES] * 4
    assert reasons(frame) == [(0, "cell_count")]


def test_units_that_openface_does_not_measure_are_refused(tmp_path: Path) -> None:
    """OpenFace 3.0 gives eight numbered outputs, which wrappers write as if they were units of FACS."""
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{ROW}\n")
    (tmp_path / "b.csv").write_text("frame,AU01_r,AU02_r,AU03_r\n1,0.5,0.5,0.5\n")
    frame = read_openface(tmp_path)
    assert frame["source"].tolist() == ["a.csv"]
    (rejected,) = frame.attrs["rejected"]
    assert (rejected["source"], rejected["reason"]) == ("b.csv", "not_openface")
    assert rejected["detail"].startswith("AU03_r exists in no OpenFace 1 or 2")


@pytest.mark.parametrize(
    "cell", ["abc", "0x1F", "1_000", "0.1.2", "1e", "--1", "true", "1 2", "1\0", "2020-01-01", "12:30", "\u0663"]
)
def test_a_cell_that_is_no_number_costs_its_row_only(tmp_path: Path, cell: str) -> None:
    frame = read_text(tmp_path, f"frame, AU01_r, note\n1, 0.5, a\n2, {cell}, b\n3, 1.5, c\n")
    assert values(frame) == [[1, 0.5, "a"], [3, 1.5, "c"]]
    assert str(frame["frame"].dtype) == "int64"
    assert frame["row"].tolist() == [0, 2]
    assert reasons(frame) == [(1, "not_a_number")]
    assert frame.attrs["rejected"][0]["detail"].startswith("AU01_r is ")


def test_columns_of_the_users_own_are_as_plain_pandas_reads_them(tmp_path: Path) -> None:
    text = (
        "AU01_r,name,smiling,day,code,hex,sparse,x,x\n"
        "0.5,Ann Lee,True,2020-01-01,007,0x1F,,1,2\n"
        '1.5,"Lee, Bo",False,2020-01-02,8,b,NA,3,4\n'
    )
    frame = read_text(tmp_path, text)
    assert_same(frame, plain_pandas(tmp_path / "one.csv"))
    assert frame["name"].tolist() == ["Ann Lee", "Lee, Bo"]
    without_quotes = read_text(tmp_path, text.replace('"Lee, Bo"', "Bo Lee"))
    assert_same(without_quotes, plain_pandas(tmp_path / "one.csv"))


def test_an_empty_row_saved_by_pandas_stays_a_row_of_nan(tmp_path: Path) -> None:
    frame = read_text(tmp_path, "frame,AU01_r,AU02_r\n1,0.5,0.25\n,,\n3,,1\n")
    np.testing.assert_array_equal(frame["frame"], [1, np.nan, 3])
    np.testing.assert_array_equal(frame["AU01_r"], [0.5, np.nan, np.nan])


def test_rows_with_too_few_or_too_many_cells_are_rejected(tmp_path: Path) -> None:
    failed = ROW.removesuffix("0.05, 1.00") + "0"  # a bare 0 in place of the list of action units
    frame = read_text(tmp_path, f"{HEADER}\n{failed}\n{ROW}\n{ROW}, 1\n\n{ROW}\n{ROW[:20]}")
    assert values(frame) == [VALUES, VALUES]
    assert frame["row"].tolist() == [1, 3]
    assert reasons(frame) == [(row, "cell_count") for row in (0, 2, 4)]
    assert frame.attrs["rejected"][0]["detail"] == "10 cells under a header of 11."


def test_quotes_that_do_not_close_reject_their_line(tmp_path: Path) -> None:
    spanning = 'AU01_r,note\n1,a\n2,"b\n3,c"\n4,d\n'
    frame = read_text(tmp_path, spanning)
    assert frame["AU01_r"].tolist() == [1, 4]
    assert reasons(frame) == [(1, "open_quote"), (2, "open_quote")]
    frame = read_text(tmp_path, 'AU01_r,note\n1,a\n2,"b\n3,c\n4,"d"e\n')
    assert frame["AU01_r"].tolist() == [1, 3]
    assert reasons(frame) == [(1, "open_quote"), (3, "open_quote")]


def test_repeated_names_are_numbered_as_pandas_does(tmp_path: Path) -> None:
    text = "AU01_r,x,x,x.1,x,x.1\n0,1,2,3,4,5\n"
    frame = read_text(tmp_path, text)
    assert_same(frame, plain_pandas(tmp_path / "one.csv"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\r\n \n", "empty"),
        (HEADER.encode(), "no_rows"),
        (HEADER.encode() + b"\r\n\r\n", "no_rows"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "encoding"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16-be"), "encoding"),
        (bytes(5000), "encoding"),
        (b"image_id,identity\n000001.jpg,2880\n", "not_openface"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe,,,", "not_openface"),
        (ROW.encode(), "not_openface"),
        (b'"' + b"AU01_r," * 40_000, "not_openface"),
    ],
)
def test_a_file_that_gives_no_row_is_an_entry_of_its_own(tmp_path: Path, content: bytes, reason: str) -> None:
    frame = read_text(tmp_path, content)
    assert len(frame) == 0
    assert reasons(frame) == [(None, reason)]
    assert list(frame)[-2:] == ["source", "row"]


@pytest.mark.parametrize(("cell", "value", "kind"), [(b"7", 7, np.int64), (b"7.5", 7.5, np.float64)])
def test_a_cell_that_is_no_number_changes_no_other(cell: bytes, value: float, kind: type) -> None:
    found, bad = numbers([cell, b"much"])
    assert (found.tolist(), found.dtype, bad) == ([value, 0], kind, [1])


def test_bytes_of_another_encoding_cost_no_numbers(tmp_path: Path) -> None:
    frame = read_text(tmp_path, b"AU01_r,na\xefve,name\n0.5,1,M\xfcller\n")
    assert values(frame) == [[0.5, 1, "M\\xfcller"]]
    assert list(frame)[1] == "na\\xefve"


def test_asked_for_columns_come_in_the_order_asked_as_far_as_they_exist(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{ROW}\n{ROW[:9]}\n")
    (tmp_path / "b.csv").write_text("confidence, AU01_r, AU12_r\n0.5, 0.25, 0.75\n")
    frame = read_openface(tmp_path, ["AU12_r", "X_0", "confidence", "AU99_r", "X_0"])
    assert list(frame) == ["AU12_r", "X_0", "confidence", "source", "row"]
    np.testing.assert_array_equal(frame["AU12_r"], [np.nan, 0.75])
    np.testing.assert_array_equal(frame["X_0"], [-13.1, np.nan])
    nothing = read_openface(tmp_path, ["AU99_r"])
    assert nothing.to_numpy().tolist() == [["a.csv", 0], ["b.csv", 0]]
    assert reasons(nothing) == [(1, "cell_count")]


def test_thousands_of_columns(tmp_path: Path) -> None:
    names = ["AU01_r", *(f"own_{number}" for number in range(8000))]
    frame = read_text(tmp_path, ",".join(names) + "\n" + ",".join(map(str, range(8001))) + "\n")
    assert values(frame) == [list(range(8001))]


def test_reading_in_blocks_and_batches_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{number}, 0.5, {number / 8}, word{number}" for number in range(400)]
    lines[100], lines[250] = "100, 0.5", "250, 0.5, broken, x"
    (tmp_path / "long.csv").write_text("\n".join(["frame, confidence, AU01_r, note", *lines]))
    (tmp_path / "quoted.csv").write_text("\n".join(["frame, confidence, AU01_r, note", *lines[:300]]) + ', "y')
    for number in range(20):
        (tmp_path / f"{number}.csv").write_text(
            f"{HEADER if number % 3 else 'face, AU01_r'}\n{ROW if number % 3 else '0, 1'}\n"
        )
    whole = read_openface(tmp_path)
    for name, size in (("BATCH", 300), ("BLOCK", 700), ("PIECE", 64)):
        monkeypatch.setattr(openface_shard, name, size)
    parts = read_openface(tmp_path)
    assert len(whole) > 700
    assert parts.attrs == whole.attrs
    pd.testing.assert_frame_equal(parts[list(whole)], whole)


def test_a_line_without_end_is_rejected_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openface_shard, "BLOCK", 100)
    monkeypatch.setattr(openface_shard, "PIECE", 10)
    frame = read_text(tmp_path, "AU01_r\n" + "1\n" * 90 + "1" * 1000)
    assert len(frame) == 90
    assert reasons(frame) == [(90, "long_line")]


# Folders


def test_rows_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.csv", "a/z.csv", "a.csv", "c,\n.CSV"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{HEADER}\n{ROW}\n{ROW}\n" if name != "a.csv" else "face, AU01_r\n0, 1\n")
    frame = read_openface(tmp_path)
    assert frame["source"].unique().tolist() == ["a.csv", "a/z.csv", "b.csv", "c,\n.CSV"]
    assert frame["row"].tolist() == [0, 0, 1, 0, 1, 0, 1]


def test_odd_files_among_many_of_one_line(tmp_path: Path) -> None:
    ends = [
        f"{ROW}\n",
        "\n",
        f"{ROW}",
        f"{ROW}\r\n",
        " \n",
        f"{ROW}\n\n{ROW}\n",
        f'"1"{ROW[1:]}\n',
        "",
        "1\n",
        f"{ROW}\n",
    ]
    for number, end in enumerate(ends):
        (tmp_path / f"{number}.csv").write_bytes(f"{HEADER}\n{end}".encode())
    frame = read_openface(tmp_path)
    places = [(source, row) for source, row in zip(frame["source"], frame["row"], strict=True)]
    assert places == [
        (f"{number}.csv", row) for number, row in [(0, 0), (2, 0), (3, 0), (5, 0), (5, 1), (6, 0), (9, 0)]
    ]
    assert values(frame) == [VALUES] * 7
    rejected = [(entry["source"], entry["row"], entry["reason"]) for entry in frame.attrs["rejected"]]
    assert rejected == [
        ("1.csv", None, "no_rows"),
        ("4.csv", None, "no_rows"),
        ("7.csv", None, "no_rows"),
        ("8.csv", 0, "cell_count"),
    ]


def test_noise_is_passed_over_and_links_lead_round_in_no_loop(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("video.csv", "a_aligned", "b_aligned", ".cache"):
        (root / folder).mkdir(parents=True)
    outside = tmp_path / "outside.csv"
    kept = [root / "a.csv", root / "b_aligned" / "b.csv", root / "video.csv" / "v.csv"]
    for file in (
        outside,
        *kept,
        root / "a_aligned" / "n.csv",
        root / ".cache" / "n.csv",
        root / "._a.csv",
        root / "n.txt",
    ):
        file.write_text(f"{HEADER}\n{ROW}\n")
    (root / "loop").symlink_to(root)
    (root / "link.csv").symlink_to(outside)
    os.mkfifo(root / "pipe.csv")
    frame = read_openface(root)
    assert frame["source"].tolist() == ["a.csv", "b_aligned/b.csv", "link.csv", "video.csv/v.csv"]
    rejected = {"source": "pipe.csv", "row": None, "reason": "unreadable", "detail": "Not a regular file."}
    assert frame.attrs["rejected"] == [rejected]


def test_a_name_that_is_not_utf8_can_be_stored(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/M\xfcller.csv")).write_text(f"{HEADER}\n{ROW}\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_openface(tmp_path)["source"].tolist() == ["M\\xfcller.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "closed.csv").touch(mode=0)
    assert reasons(read_openface(tmp_path)) == [(None, "unreadable")] * 2
    (tmp_path / "closed").rmdir()


def test_a_file_or_folder_that_fails_under_way_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{ROW}\n")
    (tmp_path / "folder").mkdir()
    names = ["gone.csv", "folder", "a.csv"]
    table = read_csvs([f"{tmp_path}/{name}" for name in names], names)
    assert [(entry["source"], entry["detail"]) for entry in table.rejected] == [
        ("gone.csv", "No such file or directory."),
        ("folder", "Not a regular file."),
    ]
    assert table.rows["source"].tolist() == ["a.csv"]


def test_what_is_not_there_raises_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt" / "below"):
        with pytest.raises(GatedVAEError, match="There is no OpenFace output") as caught:
            read_openface(path)
        assert "-out_dir" in caught.value.remedy


def test_details_with_fields_missing_and_odd_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a_of_details.txt"
    path.write_bytes(b"Input:C:\\faces\\M\xfcller.jpg\r\nInput full path:a: b.jpg\r\nOutput csv:\r\n\0\r\nno colon")
    details = read_details(str(path))
    assert details.input == "a: b.jpg"
    assert details.csv is None
    with pytest.raises(FileNotFoundError):
        read_details(f"{tmp_path}/missing.txt")


# Damage

PIECES = [
    b"\n",
    b"\r",
    b",",
    b'"',
    b'\n"',
    b'",',
    b", ,",
    b"\0",
    b"\xff",
    b"-nan(ind)",
    b"0x1F",
    b"1e999",
    b";",
    b"\xef\xbb\xbf",
]
cuts = st.integers(0, 500)
mutations = st.lists(st.tuples(cuts, st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=3)), max_size=4)


def good(rows: int) -> bytes:
    lines = [f"{ROW.replace('1', str(number), 1)}, word {number}" for number in range(1, rows + 1)]
    return "\n".join([f"{HEADER}, note", *lines, ""]).encode()


def mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for start, length, piece in changes:
        start %= len(data) + 1
        data = data[:start] + piece + data[start + length :]
    return data


@given(
    rows=st.sampled_from([1, 5]), changes=mutations, columns=st.sampled_from([None, ["AU01_r", "frame"], ["nothing"]])
)
def test_damage_never_raises_and_every_line_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    changes: list[tuple[int, int, bytes]],
    columns: list[str] | None,
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    damaged = mutate(good(rows), changes)
    for name, data in (("a.csv", good(1)), ("b.csv", damaged), ("c.csv", good(3))):
        (root / name).write_bytes(data)
    frame = read_openface(root, columns)
    ours = frame[frame["source"] == "b.csv"]
    others = frame[frame["source"] != "b.csv"]
    assert [*zip(others["source"], others["row"], strict=True)] == [("a.csv", 0), *(("c.csv", row) for row in range(3))]
    rejected = [entry["row"] for entry in frame.attrs["rejected"]]
    if rejected == [None]:
        assert len(ours) == 0
        return
    lines = [line for line in damaged.splitlines() if line.strip()]
    assert sorted(ours["row"].tolist() + rejected) == list(range(len(lines) - 1))
    assert {row for row, line in enumerate(lines[1:]) if line.count(b'"') % 2} <= set(rejected)
    # A quote that is left open costs us a line; pandas takes what follows for the same cell.
    if columns is None and not any(line.count(b'"') % 2 for line in lines):
        assert_rows_as_in_pandas(ours, root / "b.csv")


@given(
    rows=st.sampled_from([1, 5]),
    changes=mutations,
    columns=st.sets(st.sampled_from([*NAMES, "note", "nothing"]), max_size=3).map(sorted),
)
def test_cutting_lines_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: int, changes: list[tuple[int, int, bytes]], columns: list[str]
) -> None:
    root = tmp_path_factory.mktemp("cut")
    for name, data in (("a.csv", good(2)), ("b.csv", mutate(good(rows), changes)), ("c.csv", good(1))):
        (root / name).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        asked: list[object] = []
        real = openface_text.cut_lines
        patch.setattr(openface_text, "cut_lines", lambda *given: (asked.append(given), real(*given))[1])
        cut = read_openface(root, columns)
        patch.setattr(openface_text, "cut_lines", lambda *_: None)
        whole = read_openface(root, columns)
    assert asked or b'"' in (root / "b.csv").read_bytes()  # lines with quotes, and those beside them, are not cut
    assert cut.attrs.pop("rejected") == whole.attrs.pop("rejected")
    pd.testing.assert_frame_equal(cut, whole, check_exact=True)


def assert_rows_as_in_pandas(ours: pd.DataFrame, path: Path) -> None:
    """Numbers that we took are those that pandas finds where it can read the file and sees as many rows."""
    try:
        theirs = plain_pandas(path)
    except (ValueError, pd.errors.ParserError):
        return
    if len(ours) != len(theirs) or len(ours) == 0:
        return
    for name in theirs.columns.intersection(NAMES):
        if pd.api.types.is_numeric_dtype(theirs[name]):
            np.testing.assert_array_equal(ours[name].to_numpy(float), theirs[name].to_numpy(float))


@pytest.mark.parametrize("cut", [7, 24, 28, -1])
def test_a_header_cut_short_spoils_no_other_file(tmp_path: Path, cut: int) -> None:
    """As when OpenFace was killed while it wrote: it is how the next files begin, but not their header."""
    header, line = "face, confidence, pose_Rx, AU01_r\n", "0, 0.98, 0.1, 0.5\n"
    (tmp_path / "a.csv").write_text(header[:cut])
    for name in "bc":
        (tmp_path / f"{name}.csv").write_text(header + line)
    frame = read_openface(tmp_path)
    assert frame["source"].tolist() == ["b.csv", "c.csv"]
    assert frame["pose_Rx"].tolist() == [0.1, 0.1]
    assert [entry["source"] for entry in frame.attrs["rejected"]] == ["a.csv"]
