"""Tables that users bring, against what pandas reads, and in the spellings that people have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.labels import table
from gated_vae.preprocessing.labels.table import read_table
from tests.robustness.fuzz import EXACT

NAMES = [f"{number:03d}" for number in range(50)]
FRAME = pd.DataFrame(
    {
        "file_name": [f"a/{name}, ö.jpg" for name in NAMES],
        "id": NAMES,
        "count": np.arange(50),
        "angle": np.linspace(-1, 1, 50),
        "age": [None if number % 7 == 0 else number / 2 for number in range(50)],
        "smiles": [number % 3 == 0 for number in range(50)],
        "said": [None if number % 5 == 0 else 'he said "1,5"\nand left' for number in range(50)],
    }
)


def write(path: Path, frame: pd.DataFrame = FRAME) -> Path:
    writers = {
        ".csv": lambda: frame.to_csv(path),  # with pandas' index, which has no name
        ".tsv": lambda: frame.to_csv(path, sep="\t", index=False, decimal=",", encoding="utf-8-sig"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True, double_precision=15),
        ".parquet": lambda: frame.to_parquet(path),
    }
    writers[path.suffix]()
    return path


def text(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_forms_give_the_same_table(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_ROWS", 7)
    labels = read_table(write(tmp_path / f"table{ending}"))
    pd.testing.assert_frame_equal(labels.table.to_pandas(), FRAME)
    assert labels.notes == {}


def test_excel_in_europe(tmp_path: Path) -> None:
    content = '\ufeffsep=;\r\nname;x;y;"z;z"\r\n"a;b";1,5;1;-2e3\r\nc;-0,25;2;+7\r\n'
    found = read_table(text(tmp_path, content)).table
    assert found.to_pydict() == {"name": ["a;b", "c"], "x": [1.5, -0.25], "y": [1, 2], "z;z": [-2000.0, 7.0]}


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ("1 2 3", [1, 2, 3]),
        ("1 2.5 NA", [1, 2.5, None]),
        ("1 n/a -nan(ind)", [1, None, None]),
        ("007 8 9", ["007", "8", "9"]),
        ("0 0.5 00", ["0", "0.5", "00"]),
        ("0x1F 2 3", ["0x1F", "2", "3"]),
        ("12345678901234567890 2 3", ["12345678901234567890", "2", "3"]),
        ("True false TRUE", [True, False, True]),
        ("NA NaN null", ["NA", "NaN", "null"]),
        ("a NA b", ["a", "NA", "b"]),
        ("1e3 inf -4", [1000.0, float("inf"), -4.0]),
    ],
)
def test_a_column_is_what_all_of_it_is(tmp_path: Path, values: str, kept: list[object]) -> None:
    found = read_table(text(tmp_path, "x\n" + values.replace(" ", "\n") + "\n"))
    assert found.table["x"].to_pylist() == kept
    assert found.notes == {}


def test_numbers_that_are_text_are_told(tmp_path: Path) -> None:
    found = read_table(text(tmp_path, "name,age\na,1\nb,2.5\nc,unknown\nd,4\n"))
    assert found.table["age"].to_pylist() == ["1", "2.5", "unknown", "4"]
    assert found.notes == {"age": "text, not numbers: row 2 has 'unknown'"}


def test_what_is_nested_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [{"file_name": "a", "boxes": [1], "n": True}, {"file_name": "b", "n": "x"}]
    lines = read_table(text(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl"))
    assert lines.table.to_pydict() == {"file_name": ["a", "b"], "n": ["true", "x"]}
    pq.write_table(pa.table({"file_name": ["a"], "image": [b"1"], "boxes": [[1]]}), tmp_path / "t.parquet")
    parquet = read_table(tmp_path / "t.parquet")
    assert parquet.table.column_names == ["file_name"]
    assert [*lines.notes, *parquet.notes] == ["boxes", "image", "boxes"]


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("a,b\n1,2\n1\n", "t.csv", r"Line 3 of .*t\.csv .*It has 1 cells, not 2"),
        (b"a,b\n1,2\nM\xfcller,3\n", "t.csv", r"Line 3 of .*UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv", "UTF-16"),
        ("a,a\n1,2\n", "t.csv", "two columns a"),
        ("", "t.csv", "no names of columns"),
        ("a,b\n", "t.csv", "no row"),
        ('{"a": 1}\n{"a": \n', "t.jsonl", r"Line 2 of .*t\.jsonl"),
        ("[1]\n", "t.jsonl", "Line 1 of .* no object"),
        ("[" * 10**5, "t.jsonl", "Line 1 of"),
        ("PAR1", "t.parquet", "cannot be read"),
        ("a", "t.xlsx", r"\.csv, \.tsv, \.jsonl, \.parquet"),
        (",".join(f"c{number}" for number in range(10**6)) + "\n", "t.csv", "1,000,000 columns, more than 10,000"),
        (json.dumps(dict.fromkeys(map(str, range(10**5)))), "t.jsonl", "100,000 columns"),
        ('a,b\n1,"2\n3,4\n', "t.csv", "a quote that is not closed"),
        ('a,b\n1,"2\n3,4\n5,"6\n7,8\n', "t.csv", "Line 4 of .*a quote that is not closed"),
        ('a,b\n1,"2\n' + "x" * 2**25, "t.csv", "quote that is not closed"),
    ],
)
def test_bad_tables_are_refused_in_words(tmp_path: Path, content: str | bytes, name: str, told: str) -> None:
    with pytest.raises(GatedVAEError, match=f"(?s){told}") as caught:
        read_table(text(tmp_path, content, name))
    assert caught.value.remedy


def test_too_large_ones_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(GatedVAEError, match="too large"):
        read_table(tmp_path / "t.csv")
    monkeypatch.setattr(table, "MOST_CELLS", 99)
    with pytest.raises(GatedVAEError, match="50 rows of 7 columns"):
        read_table(write(tmp_path / "t.parquet"))
    assert read_table(tmp_path / "t.parquet", {"id"}.__contains__).table.to_pydict() == {"id": NAMES}


def test_random_numbers_as_pandas_reads_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((500, 20)) * 10.0 ** np.arange(-10, 10)
    frame = pd.DataFrame(values, columns=[f"c{number}" for number in range(20)])
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    read = read_table(path).table.to_pandas()
    pd.testing.assert_frame_equal(read, pd.read_csv(path, **EXACT), check_exact=True)


def test_commas_that_are_no_decimal_mark_and_words_among_numbers_of_json_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('file,price\na,"1,000"\nb,"2,000"\n')
    (tmp_path / "a.jsonl").write_text(
        '{"file": "a", "price": 1}\n{"file": "b", "price": 2}\n{"file": "c", "price": "x"}\n'
    )
    assert read_table(tmp_path / "a.csv").notes == {"price": "text, not numbers: row 0 has '1,000'"}
    assert read_table(tmp_path / "a.jsonl").notes == {"price": "text, not numbers: row 2 has 'x'"}
