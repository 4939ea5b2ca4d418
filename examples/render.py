"""pip install '.[dev]'; python examples/render.py [NAME ...] (`make tutorials`)

Executes the tutorials beside it, cell by cell, and writes each as a page with what it prints and draws to docs/tutorials/.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
from matplotlib.figure import Figure
from PIL import Image, ImageChops

EXAMPLES = Path(__file__).resolve().parent
PAGES = EXAMPLES.parent / "docs" / "tutorials"
LARGEST, WIDEST = 95_000, 1000  # bytes and pixels of a picture
ENDING = """---

This page is `examples/{name}.py`, executed by `make tutorials`.
To have it as a notebook: `pip install jupytext`, then `jupytext --to ipynb examples/{name}.py`.
"""


def tutorials() -> list[Path]:
    """The scripts that are tutorials: those with cells."""
    return sorted(path for path in EXAMPLES.glob("*.py") if "\n# %%" in path.read_text())


def render(script: Path, pages: Path, *, small: bool = False) -> Path:
    """Execute a tutorial in the current folder and write its page; the cell with sizes says those of a small one."""
    figures, names, title, parts = pages / "figures", {"__name__": "__main__"}, "", []
    figures.mkdir(parents=True, exist_ok=True)
    for cell in jupytext.read(script, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            title = [title, *re.findall("^#+ (.*)", cell.source, re.MULTILINE)][-1]
            continue
        text, value = execute(cell.source, names)
        if small:
            names |= cell.metadata.get("small", {})
        parts.append(f"```python\n{cell.source}\n```")
        if not isinstance(value, Image.Image | None):
            text += repr(value)
        if text.strip():
            parts.append(f"```text\n{text.rstrip()}\n```")
        if isinstance(value, Image.Image):
            picture = figures / f"{script.stem}-{sum('![' in part for part in parts) + 1}.png"
            write_picture(value, picture)
            parts.append(f"![{title}](figures/{picture.name})")
    page = pages / f"{script.stem}.md"
    page.write_text("\n\n".join([*parts, ENDING.format(name=script.stem)]))
    return page


def execute(source: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of the expression that it ends with; a figure becomes a picture."""
    body, value, printed = ast.parse(source).body, None, io.StringIO()
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if last:
            value = eval(compile(last, "cell", "eval"), names)
    if isinstance(value, Figure):
        drawn = io.BytesIO()
        value.savefig(drawn, dpi=160)
        value = Image.open(drawn)
    return printed.getvalue(), value


def write_picture(image: Image.Image, path: Path) -> None:
    """As a PNG of all greys or 256 colours, as wide as `LARGEST` leaves room for."""
    image = image.convert("RGB")
    grey = ImageChops.difference(image, image.convert("L").convert("RGB")).getbbox() is None
    for width in range(min(image.width, WIDEST), 200, -50):
        smaller = image.resize((width, round(image.height * width / image.width)), Image.Resampling.BOX)
        # Of the few colours that it keeps, 16 would be greys.
        kept = smaller.convert("L") if grey else smaller.quantize(256, Image.Quantize.FASTOCTREE)
        kept.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            return


def main() -> None:
    """Render those that are named, or all."""
    chosen = [path for path in tutorials() if path.stem in sys.argv[1:] or len(sys.argv) == 1]
    os.environ["COLUMNS"] = "100"  # of what `pipe` prints
    for path in chosen:
        with TemporaryDirectory() as folder, contextlib.chdir(folder):
            print(render(path, PAGES), flush=True)


if __name__ == "__main__":
    main()
