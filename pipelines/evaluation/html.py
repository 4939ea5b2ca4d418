"""One HTML file that needs nothing else: styles inside, pictures as data URIs, no script."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gated_vae.pipelines.evaluation.scores import Table

# The policy lets a browser load nothing but what is in the file itself.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light }
body { margin: 2.5rem auto; max-width: 68rem; padding: 0 1.5rem; background: white; color: #222;
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #e3e3e3 }
p { max-width: 46rem; margin: .5rem 0; color: #555 }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #555; padding-bottom: .3rem; white-space: nowrap }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
td { overflow-wrap: anywhere }
table.facts td { text-align: left }
table.facts th { text-align: left; font-weight: 600; vertical-align: top; white-space: nowrap }
.wide { overflow-x: auto }
figure { margin: .8rem 0 }
img { max-width: 100%; height: auto; border: 1px solid #eee }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")

_SHADE = "0, 114, 178"  # blue, as the first partition's in the pictures


def page(title: str, sections: Sequence[str]) -> bytes:
    """Put sections of HTML into a page."""
    return _PAGE.substitute(title=escape(title), body="\n".join(sections)).encode()


def section(title: str, *parts: str) -> str:
    """A heading and what is under it."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def note(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def facts(rows: Mapping[str, object]) -> str:
    """A list of names and values."""
    lines = [f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items()]
    return f'<table class="facts">{"".join(lines)}</table>'


def table(told: Table) -> str:
    """A table of figures, each shaded by its value between 0 and 1."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *told.columns))
    lines = [
        f"<tr><td>{escape(row)}</td>{''.join(_cell(column.get(row)) for column in told.columns.values())}</tr>"
        for row in told.rows
    ]
    title = f"<caption>{escape(told.title)}</caption>"
    return f'<div class="wide"><table>{title}<tr>{head}</tr>{"".join(lines)}</table></div>'


def picture(png: bytes, description: str) -> str:
    """A PNG inside the page."""
    data = b64encode(png).decode()
    return f'<figure><img alt="{escape(description)}" src="data:image/png;base64,{data}"></figure>'


def _cell(value: float | None) -> str:
    if value is None:
        return "<td></td>"
    shade = 0.45 * min(max(value, 0.0), 1.0)
    return f'<td style="background: rgba({_SHADE}, {shade:.2f})">{value:.2f}</td>'.replace("-0.00", "0.00")
