"""How benchmarks are recorded and told; nothing is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import record
from benchmarks.report import END, cost, insert, latest, markdown
from benchmarks.timing import figure, ratio
from gated_vae.models.figures.sheet import DPI, render

START = "<!-- table: written by python -m benchmarks.record -->"
MADE = {"processor": "P (AVX2, 2 cores)", "date": "2026-01-02", "commit": "abc", "load": 0.5}


def row(stage: str = "step", peer: str = "products", value: float = 1.0, **other: Any) -> dict[str, Any]:
    return figure(stage, peer, [value], "x the time", 1.4) | MADE | other


def test_ratios_of_times_and_of_speeds() -> None:
    ours, theirs = np.array([1.0, 2.0, 3.0]), np.array([2.0, 8.0, 3.0])
    slower = ratio("s", "p", ours, theirs, 0.4)
    assert (slower["ratio"], slower["low"], slower["high"], slower["bar"], slower["met"]) == (
        0.5,
        0.25,
        1,
        "<= 0.4",
        False,
    )
    faster = ratio("s", "p", ours, theirs, 2, at_most=False)
    assert (faster["ratio"], faster["low"], faster["high"], faster["bar"], faster["met"]) == (2, 1, 4, ">= 2", True)
    assert ratio("s", "p", ours, theirs)["met"] is None


def test_other_lines_of_a_script_are_left_out() -> None:
    lines = ["Warning: {", "[1]", '{"seconds": 3}', '{"stage": "s", "peer": "", "ratio": 2}']
    assert list(record.records(lines)) == [{"stage": "s", "peer": "", "ratio": 2}]


def test_a_row_replaces_the_one_of_the_same_stage_peer_processor_and_commit() -> None:
    old = [row(value=1), row(peer="pythae"), row(processor="Q"), row(commit="before")]
    new = row(value=3)
    assert record.merge(old, [new, row(stage="loader")]) == [new, *old[1:], row(stage="loader")]


def test_processors_are_told_apart_by_their_vectors() -> None:
    cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 {}\n"
    assert record.processor(cpuinfo.format(""), 2) == "AMD EPYC (AVX2, 2 cores)"
    assert record.processor(cpuinfo.format("avx512f avx512_bf16"), 4) == "AMD EPYC (AVX-512 bf16, 4 cores)"
    assert record.processor("", 1) == "unknown (1 cores)"


def test_cost_is_one_at_the_bar_and_more_where_it_is_missed() -> None:
    assert cost(2.8, "<= 1.4") == pytest.approx(2)
    assert cost(4, ">= 8") == pytest.approx(2)
    assert cost(16, ">= 8") == pytest.approx(0.5)
    assert (cost(0, "<= 0"), cost(2, "<= 0"), cost(0, ">= 8")) == (1, math.inf, math.inf)


CSVS = "OpenFace CSVs, one an image"


def test_prose_around_the_table_stays() -> None:
    text = f"# Title\n\n{START}\n\nold\n\n{END}\n\nProse.\n"
    found = insert(text, markdown([row(CSVS, "open, read, close"), row()]))
    assert found.startswith("# Title\n")
    assert found.endswith("\n\nProse.\n")
    assert "old" not in found
    assert "| OpenFace CSVs, one an image | 1 x the time of open, read, close, bar <= 1.4 | - | met |" in found
    assert insert(found, "new").count("new") == 1
    with pytest.raises(ValueError, match="needs the lines"):
        insert("Prose.", "table")


def test_the_table_tells_the_newest_figures_of_the_processor_measured_last() -> None:
    old = row(CSVS, "open, read, close", value=3)
    new = row(CSVS, "open, read, close", value=1, date="2026-01-03", commit="def")
    other = row(CSVS, "open, read, close", value=9, processor="Q")
    peer = row(CSVS, "pandas, per file", value=2)
    assert latest([other, old, new, peer]) == {(CSVS, "open, read, close"): new, (CSVS, "pandas, per file"): peer}
    (line,) = markdown([other, new, peer]).splitlines()[2:]
    assert line.endswith(
        "| 1 x the time of open, read, close, bar <= 1.4 | 2 x the time of pandas, per file, bar <= 1.4 | **missed** |"
    )


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "benchmarks.md").write_text(f"{START}\n{END}\n")
    rows = [
        row(CSVS, "open, read, close"),
        row(peer="", load=None, low=None, high=None),
        row(stage="none", bar="", met=None),
    ]
    record.write(rows, tmp_path)
    path = tmp_path / "results" / "benchmarks.parquet"
    assert record.read(path) == [{name: one[name] for name in record.SCHEMA.names} for one in rows]
    assert pq.read_schema(path).field("met").type == "bool"
    assert (tmp_path / "figures" / "benchmarks.png").read_bytes() == render(record.draw(rows), "png", dpi=DPI)
