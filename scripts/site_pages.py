"""What MkDocs does not know of the docs: a hook that mkdocs.yml names.

Some pages lie beside docs/, where forges look for them; here they become pages of the site. A link
to a file that is no page becomes its text. In code in a table, forges want a backslash before a
stroke, which Python's Markdown would show.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
BESIDE: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files beside docs/, and the pages that they become."""
_LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_ROW: Final = re.compile(r"^\|.*$", re.MULTILINE)
_CODE: Final = re.compile(r"`[^`]+`")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions, and last what no list of mkdocs.yml names."""
    nav = config.nav or []
    named = str(nav)
    decisions = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("adr/0*.md"))
    pages = [*sorted(path.name for path in DOCS.glob("*.md")), *BESIDE.values()]
    more = [page for page in pages if f"'{page}'" not in named]
    config.nav = [*nav, {"Decisions": ["adr/README.md", *decisions]}, {"More": more}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from beside docs/."""
    for name, page in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=adapted(text, ROOT / name, page)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the pages of docs/."""
    del config, files
    source = page.file.src_uri
    return markdown if source in BESIDE.values() else adapted(markdown, DOCS / source, source)


def adapted(text: str, source: Path, page: str) -> str:
    """Return the text of a file as its page needs it."""

    def row(match: re.Match[str]) -> str:
        return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), match[0])

    return _ROW.sub(row, relinked(text, source, page))


def relinked(text: str, source: Path, page: str) -> str:
    """Return the text of a file with its links as they are from its page.

    A link to a file that is not there stays as it is, so that MkDocs complains.
    """

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        file = (source.parent / path).resolve()
        if not file.exists():
            return match[0]
        name = BESIDE.get(file.relative_to(ROOT).as_posix())
        if name is None and not file.is_relative_to(DOCS):
            return words
        there = DOCS / name if name else file / "README.md" if file.is_dir() else file
        near = Path(os.path.relpath(there, (DOCS / page).parent)).as_posix()
        return f"[{words}]({near}{hash_sign}{anchor})"

    return _LINK.sub(link, text)
