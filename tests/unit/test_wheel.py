"""The wheel and the archive of sources hold all that the tree does."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CACHES = {"__pycache__"}


def build(source: Path, folder: Path, *options: str) -> None:
    """Build as `pip wheel` does, with the build backend of these packages."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *options]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


def files_below(*names: str) -> dict[str, bytes]:
    """Return the content of each file of the tree in these folders, by path."""
    paths = [path for name in names for path in (ROOT / name).rglob("*")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and CACHES.isdisjoint(path.parts)
    }


def files_of(wheel: Path) -> dict[str, bytes]:
    """Return the content of each file of a wheel, without what describes the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }


def only(paths: Iterable[Path]) -> Path:
    (path,) = paths
    return path


def test_the_wheel_has_every_file_of_the_package_and_the_schemas(built):
    expected = {
        name.removeprefix("src/") if name.startswith("src/") else f"tapeline/{name}": content
        for name, content in files_below("src/tapeline", "schemas").items()
    }
    assert files_of(only(built.glob("*.whl"))) == expected
    assert {Path(name).suffix for name in expected} > {".csv", ".sha256", ".html", ".cql", ".avsc"}


def test_the_archive_of_sources_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(only(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    build(only(tmp_path.iterdir()), tmp_path / "dist", "-t", "wheel")
    again = only((tmp_path / "dist").glob("*.whl"))
    assert files_of(again) == files_of(only(built.glob("*.whl")))


def test_the_archive_of_sources_has_every_file_of_tests_and_docs(built):
    with tarfile.open(only(built.glob("*.tar.gz"))) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    assert {*files_below("src", "schemas", "scripts", "deploy", "docs", "tests")} <= names


def test_the_tests_build_with_what_users_build_with():
    requirements = PROJECT["build-system"]["requires"]
    assert {*requirements} <= {*PROJECT["project"]["optional-dependencies"]["test"]}
