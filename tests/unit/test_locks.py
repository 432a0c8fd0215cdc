"""The lock files agree with each other, so that one may be installed over the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def pinned(lock: Path) -> dict[str, set[str]]:
    """Return the versions of each package, with the machines that they are for."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^\\\n]+)", lock.read_text("utf-8"), re.MULTILINE
    ):
        versions.setdefault(name, set()).add(version.partition(";")[0].strip())
    return versions


def test_there_is_a_lock_for_each_purpose():
    names = [lock.stem.removeprefix("requirements").removeprefix("-") for lock in LOCKS]
    assert names == ["bench", "dev", "docs", ""]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_package_has_one_version_in_all_of_them(lock: Path) -> None:
    own = pinned(lock)
    assert own
    for other in LOCKS:
        theirs = pinned(other)
        assert {n: (own[n], theirs[n]) for n in own.keys() & theirs if own[n] != theirs[n]} == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_has_its_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [p for p in packages if "--hash=sha256:" not in p] == []
    assert "://" not in text
