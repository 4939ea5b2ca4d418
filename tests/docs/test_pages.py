"""What README and the pages of results quote is what the files of results hold, worked out here once more."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from benchmarks import pages

RESULTS = pages.ROOT / "docs" / "results"


def test_the_figures_of_readme_come_from_the_results() -> None:
    faces = pd.read_parquet(RESULTS / "faces.parquet").query(
        "data == 'celeba' and people == 'unseen' and regressor == 'ridge' and codes == 'sample'"
        " and augment == 'mirror,shift,light'"
    )
    r2 = faces.groupby(["method", "factor", "partition"])["r2"].mean()
    table1 = pd.read_parquet(RESULTS / "table1.parquet").query(
        "regressor == 'random_forest' and model == 'beta' and method == 'composed_apart' and steps == 288000"
    )
    speed = pd.read_parquet(RESULTS / "benchmarks.parquet").query(
        "stage == 'OpenFace CSVs, one an image' and peer == 'pandas, per file' and commit == 'e2b47fd'"
    )
    wanted = [
        [r2["partners", "pose_Ry", name] for name in ("pose", "expression")] + [r2["ungated", "pose_Ry", "full"]],
        [r2["partners", "AU12_r", name] for name in ("expression", "pose")] + [r2["ungated", "AU12_r", "full"]],
        [table1["disentanglement"].mean(), 0.631],
        [table1["uninformativeness"].mean(), 0.258],
        [speed["ratio"].item()],
    ]
    rows = re.findall(r"^\| .* \| (.*) \| (.*) \| \[", (pages.ROOT / "README.md").read_text(), re.MULTILINE)
    found = [[float(number) for number in re.findall(r"\d+\.?\d*", " ".join(row))] for row in rows]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=0.005 if theirs[0] < 1 else 0.5)


def test_pages_are_what_their_files_of_results_hold_and_prose_is_left_alone() -> None:
    for path, text in pages.texts():
        assert path.read_text() == text, f"run `python -m benchmarks.pages` for {path}"


def test_a_line_a_row_and_a_mark_a_series() -> None:
    figure = pages.dots([pages.Panel("R2", ["a", "b"], {"own": [[0.1, 0.3], [0.5]], "other": [[0.0], [1.0]]})])
    (axes,) = figure.axes
    marks = {line.get_label(): line.get_xdata() for line in axes.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(marks["own"], [0.2, 0.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
