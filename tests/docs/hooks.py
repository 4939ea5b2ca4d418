"""What mkdocs takes from beside docs/: README is the home page, and some files of the root are pages.

Links that lead to them on a forge lead to their pages here; links to code become its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
CODE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)*(?:benchmarks|examples|models|pairing|pipelines|preprocessing|tests)/[^)]*\)"
)
ROOT_PAGE = re.compile(rf"\]\((\.\./)?((?:\.\./)*)({'|'.join(map(re.escape, PAGES))})")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    root = Path(config.docs_dir).parent
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(root / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links to where things lie in the site."""
    if page.file.src_uri in PAGES.values():
        markdown = markdown.replace("](docs/", "](").replace('src="docs/', 'src="')
    return ROOT_PAGE.sub(lambda link: f"]({link[2]}{PAGES[link[3]]}", CODE.sub(r"\1", markdown))
