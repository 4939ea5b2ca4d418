"""Whether the documentation's sources keep to the house's rules: `python -m tests.docs.check`, a step of `make check`.

Prints what is wrong, a line each, and exits with 1 where there is any. What is generated (docs/results/appendix) is held to sizes
alone; that pages quote what the results' files hold is `benchmarks.pages`' to tell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.pages import texts

ROOT = Path(__file__).parents[2]
LINE, README_LINES, ROWS, RESULT_ROWS = 120, 120, 20, 12
FILE_BYTES, BENCHMARK_BYTES, PIXELS = 300_000, 200_000, 4000
IGNORED = {"CHANGELOG.md"}  # a list of its own form
SENTENCE = re.compile(r"[^\W\d_]{2,}[)*`\"']*[.!?][)*\"']*\s+[A-Z`*\"(\[]")
CODE, LINK = re.compile(r"`[^`]*`"), re.compile(r"\]\([^)]*\)|https?://\S+")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)#]+)\)|<img [^>]*src=\"([^\"]+)\"")
CELL = re.compile(r"(?<!\\)\|")


class Line(NamedTuple):
    """A line of a page: its number, its text, and what it belongs to."""

    number: int
    text: str
    kind: str  # prose, table, code


def lines(text: str) -> Iterator[Line]:
    """The lines of a page."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.lstrip().startswith("```")
        kind = "code" if fenced or fence else "table" if line.lstrip().startswith("|") else "prose"
        fenced ^= fence
        yield Line(number, line, kind)


def pages(root: Path) -> Iterator[Path]:
    """Every page, of the root and of docs."""
    yield from (path for path in sorted(root.glob("*.md")) if path.name not in IGNORED)
    yield from sorted((root / "docs").rglob("*.md"))


def prose(page: list[Line]) -> Iterator[str]:
    """Lines that are too long, and those that hold more than one sentence."""
    for number, text, kind in page:
        if kind == "table":
            continue
        bare = LINK.sub("", text)
        if len(bare) > LINE:
            yield f"{number}: {len(bare)} characters, {LINE} at most"
        if kind == "prose" and SENTENCE.search(CODE.sub("code", LINK.sub("]", text))):
            yield f"{number}: more than one sentence on a line"


def tables(page: list[Line], *, most: int, single: bool) -> Iterator[str]:
    """Rows with other numbers of cells than their header, tables with too many rows, a second table where one is allowed."""
    headers: list[Line] = []
    for before, line in zip([Line(0, "", "prose"), *page], page, strict=False):
        if line.kind != "table":
            continue
        if before.kind != "table":
            headers.append(line)
        elif (cells := len(CELL.findall(line.text))) != (wanted := len(CELL.findall(headers[-1].text))):
            yield f"{line.number}: {cells - 1} cells below a header of {wanted - 1}"
        if line.number - headers[-1].number == most + 2:
            yield f"{line.number}: a table of more than {most} rows"
    if single and len(headers) > 1:
        yield f"{headers[1].number}: a second table"


def pixels(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


def pictures(path: Path, page: list[Line]) -> Iterator[str]:
    """Pictures that are not there, or have too many pixels."""
    for number, text, kind in page:
        for found in PICTURE.findall(text) if kind == "prose" else ():
            target = path.parent / "".join(found)
            if not target.is_file():
                yield f"{number}: {target.name} is not there"
            elif target.suffix == ".png" and max(size := pixels(target)) > PIXELS:
                yield f"{number}: {target.name} has {size[0]} x {size[1]} pixels, {PIXELS} a side at most"


def files(root: Path) -> Iterator[str]:
    """Files of docs that are too large, and pictures that no page shows."""
    shown = {"".join(found).rpartition("/")[2] for path in pages(root) for found in PICTURE.findall(path.read_text())}
    for path in sorted((root / "docs").rglob("*")):
        most = BENCHMARK_BYTES if path.name == "benchmarks.png" else FILE_BYTES
        if path.is_file() and (size := path.stat().st_size) > most:
            yield f"{path.relative_to(root)}: {size:,} bytes, {most:,} at most"
        if path.parent.name == "figures" and path.name not in shown:
            yield f"{path.relative_to(root)}: no page shows it"


def complaints(root: Path) -> Iterator[str]:
    """All that is wrong with the sources below a root."""
    for path in pages(root):
        name, page = path.relative_to(root), [*lines(path.read_text())]
        of_results = name.parts[:-1] == ("docs", "results") and name.name != "index.md"
        found = [*pictures(path, page)]
        if "appendix" in name.parts:
            found += tables(page, most=len(page), single=False)
        else:
            found += prose(page)
            most = RESULT_ROWS if of_results else ROWS if name.parts[0] == "docs" else len(page)
            found += tables(page, most=most, single=of_results)
        yield from (f"{name}:{complaint}" for complaint in found)
    if (count := len((root / "README.md").read_text().splitlines())) >= README_LINES:
        yield f"README.md: {count} lines, fewer than {README_LINES} are wanted"
    yield from files(root)


def main() -> int:
    found = [*complaints(ROOT)]
    found += [
        f"{path.relative_to(ROOT)}: not what its file of results holds; run `python -m benchmarks.pages`"
        for path, text in texts()
        if path.read_text() != text
    ]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
