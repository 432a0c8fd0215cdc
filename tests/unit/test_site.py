"""The check of the built docs: what leads nowhere, and what is asked of elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "scripts/check_site.py"


def check(folder: Path, body: str) -> tuple[int, list[str]]:
    """Return the exit code, and what is said of a site of two pages and a picture."""
    (folder / "guide").mkdir()
    (folder / "index.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    (folder / "guide" / "a b.html").write_text('<h1 id="top">A</h1>', encoding="utf-8")
    (folder / "picture.png").write_bytes(b"")
    command = [sys.executable, str(CHECK), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()


@pytest.mark.parametrize(
    "body",
    [
        '<a href="guide/a%20b.html#top">x</a><img src="picture.png">',
        '<p id="here"></p><a href="#here">x</a><a href=".">x</a>',
        '<a href="https://example.org/">followed only by who wants to</a>',
        '<img src="data:image/png;base64,AAAA">',
    ],
)
def test_a_site_whose_links_all_lead_somewhere_is_right(tmp_path, body):
    assert check(tmp_path, body) == (0, [])


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="none.html">x</a>', "none.html leads nowhere."),
        ('<a href="../outside.html">x</a>', "../outside.html leads nowhere."),
        ('<a href="/absolute.html">x</a>', "/absolute.html leads nowhere."),
        ('<img src="none.png">', "none.png leads nowhere."),
        ('<a href="guide/a b.html#no">x</a>', "guide/a b.html#no names no place of that page."),
        ('<a href="#no">x</a>', "#no names no place of that page."),
        (
            '<script src="https://example.org/x.js"></script>',
            "<script> asks https://example.org/x.js, which is not of this site.",
        ),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "<link> asks //example.org/x.css, which is not of this site.",
        ),
    ],
)
def test_what_leads_nowhere_or_asks_elsewhere_is_named_with_its_page(tmp_path, body, fault):
    assert check(tmp_path, body) == (1, [f"index.html: {fault}"])


def test_a_folder_without_pages_is_no_site(tmp_path):
    command = [sys.executable, str(CHECK), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, f"{tmp_path} has no page.\n")
