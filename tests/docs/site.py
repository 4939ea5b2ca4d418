"""The built site, read from disk: links that lead nowhere, anchors that are not there, files asked of other places.

`python -m tests.docs.site site` prints what is wrong, a line each; the exit code is 1 where there is any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}  # by opening a page
TOLD = {"canonical", "next", "prev"}  # links that say something and load nothing


class Reader(HTMLParser):
    """Collects a page's anchors, its links, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name, value in given.items():
            if (tag, name) in LOADS and given.get("rel") not in TOLD:
                self.loaded.append(value)
            if name == "href" and tag == "a":
                self.links.append(value)


@cache
def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    return reader


def complaints(site: Path) -> Iterator[str]:
    """What is wrong with the pages of a folder; links within pages are anchors of the same page."""
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # servers alone show it
            continue
        name, found = page.relative_to(site), read(page)
        for address in found.loaded:
            if urlsplit(address).netloc:
                yield f"{name}: loads {address} from elsewhere"
        for address in (*found.links, *found.loaded):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in ("", "#"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                yield f"{name}: {address} is not there"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).anchors:
                yield f"{name}: {address} has no such anchor"


def main() -> int:
    found = sorted(set(complaints(Path(sys.argv[1]).resolve())))
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
