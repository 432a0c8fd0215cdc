"""Check a built site: no link leads nowhere, and no page asks anything of elsewhere.

python scripts/check_site.py FOLDER
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ASKS_NOTHING = {"a"}
"""Elements whose address is asked for only when a reader follows it."""


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to: the element and the address."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            elif name in {"href", "src", "data"} and value:
                self.addresses.append((tag, value))


def faults_of(folder: Path) -> list[str]:
    """Return a sentence a fault, by page."""
    pages = {
        path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    if not pages:
        return [f"{folder} has no page."]
    return [
        f"{path.relative_to(folder)}: {fault}"
        for path, page in pages.items()
        for tag, address in page.addresses
        if (fault := _fault(pages, folder, path, tag, address))
    ]


def _fault(
    pages: dict[Path, _Page], folder: Path, path: Path, tag: str, address: str
) -> str | None:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        is_asked = parts.scheme != "data" and tag not in _ASKS_NOTHING
        return f"<{tag}> asks {address}, which is not of this site." if is_asked else None
    named = unquote(parts.path)
    if path == folder / "404.html":  # it is shown at any address, and so begins at the root
        named = named.removeprefix("/")
    target = (path.parent / named).resolve() if named else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(folder) or not target.is_file():
        return f"{address} leads nowhere."
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"{address} names no place of that page."
    return None


if __name__ == "__main__":
    faults = faults_of(Path(sys.argv[1]).resolve())
    print(*faults, sep="\n", end="\n" if faults else "")
    sys.exit(bool(faults))
