"""The version stands in `pyproject.toml`; all else has it from there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tapeline

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]


def test_the_package_has_the_version_of_the_project():
    assert tapeline.__version__ == VERSION


@pytest.mark.parametrize("word", ["version", "--version"])
def test_the_command_prints_it(word):
    command = [sys.executable, "-m", "tapeline", word]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == (f"{VERSION}\n", "")


def test_the_changelog_begins_with_it():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(
        r"^## (\S+)(?: \((?:unreleased|\d{4}-\d\d-\d\d)\))?$", changelog, re.MULTILINE
    )
    assert headings[0] == VERSION


def test_no_other_file_of_the_package_names_it():
    files = sorted((ROOT / "src").rglob("*.py"))
    assert files
    assert [f.name for f in files if f'"{VERSION}"' in f.read_text(encoding="utf-8")] == []


def test_the_pythons_that_are_supported_are_named_where_people_look():
    oldest, *_, newest = supported = [
        text.rpartition(" ")[2]
        for text in PROJECT["project"]["classifiers"]
        if text.startswith("Programming Language :: Python :: 3.")
    ]
    after = f"3.{int(newest.removeprefix('3.')) + 1}"
    assert PROJECT["project"]["requires-python"] == f">={oldest},<{after}"
    sentence = f"Python {', '.join(supported[:-1])} or {newest}"
    for name, text in (
        ("README.md", sentence),
        ("Makefile", sentence),
        ("CONTRIBUTING.md", f"--python-version {oldest} "),
    ):
        assert text in (ROOT / name).read_text(encoding="utf-8"), name
