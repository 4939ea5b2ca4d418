"""Lines cut by counting bits, against lines split by Python; what is read of them, against what is read of whole lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated_vae.preprocessing.openface.cut import cut_lines

cells = st.text(st.sampled_from('0.-x \t"é,'), max_size=90) | st.sampled_from(["", "0.25", "1" * 130])


@st.composite
def lines_and_kept(draw: st.DrawFn) -> tuple[list[list[str]], list[int]]:
    width = draw(st.integers(1, 12))
    lines = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=9))
    return lines, sorted({*draw(st.sets(st.integers(0, width - 1))), width - 1})


def joined(lines: list[list[str]]) -> bytes:
    return "".join(";".join(line) + "\n" for line in lines).encode()


@given(lines_and_kept())
def test_cut_lines_hold_the_cells_that_splitting_gives(made: tuple[list[list[str]], list[int]]) -> None:
    lines, kept = made
    cut = cut_lines(joined(lines), len(lines), ";", len(lines[0]), kept)
    assert cut == joined([[line[place] for place in kept] for line in lines])


@pytest.mark.parametrize("ragged", [["a;b", "c;d;e", "f;g;h;i"], ["a;b;c", "d;e", "f;g;h"], ["a;b;c;d", "e;f;g;h"]])
def test_lines_of_other_lengths_are_not_cut(ragged: list[str]) -> None:
    text = "".join(f"{line}\n" for line in ragged).encode()
    assert cut_lines(text, len(ragged), ";", 3, [0, 2]) is None


def test_lines_longer_than_a_step_are_cut() -> None:
    lines = [["1" * 300_000, "b", "c" * 299_999], ["", "e", "f" * 500_000]]
    assert cut_lines(joined(lines), 2, ";", 3, [1, 2]) == joined([line[1:] for line in lines])
