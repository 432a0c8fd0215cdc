"""Write what Tapeline is made of, as CycloneDX 1.6: `python scripts/make_sbom.py FILE`.

Of Python the packages of `requirements.lock`, each with the SHA-256 of its files; of Java every
jar that is fetched. It is the same, byte for byte, for the same locks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import tapeline
from tapeline.local.jar_checksums import known_checksums

_LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
_PACKAGE: Final = re.compile(r"^([\w.-]+)==([^\s;]+)((?:.*\\\n)*.*)", re.MULTILINE)
_DIGEST: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_JAR: Final = re.compile(r"(org\.bitbucket\.b_c|[^_]+)_(.+?)-(\d+\.\d.*|\d+)\.jar")
"""Ivy's name of a jar: group, artifact and version; one group has the sign that follows groups."""


def python_packages(lock: str) -> Iterator[dict[str, Any]]:
    """Yield each package of a lock file."""
    for name, version, rest in _PACKAGE.findall(lock):
        yield _component(name, version, f"pkg:pypi/{name}@{version}", _DIGEST.findall(rest))


def jars(checksums: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield each jar.

    Raises:
        ValueError: the name of one is of no known form.
    """
    for file, digest in checksums.items():
        found = _JAR.fullmatch(file)
        if found is None:
            message = f"{file} is no jar of the form GROUP_ARTIFACT-VERSION.jar."
            raise ValueError(message)
        group, artifact, version = found.groups()
        purl = f"pkg:maven/{group}/{artifact}@{version}"
        yield {**_component(artifact, version, purl, [digest]), "group": group}


def sbom() -> dict[str, Any]:
    """Return the whole document."""
    version = tapeline.__version__
    packages = python_packages(_LOCK.read_text(encoding="utf-8"))
    ours = _component("tapeline", version, f"pkg:pypi/tapeline@{version}", [])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**ours, "type": "application"}},
        "components": [*packages, *jars(known_checksums())],
    }


def _component(name: str, version: str, purl: str, digests: list[str]) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest} for digest in digests]
    own = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**own, "hashes": hashes} if hashes else own


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(sbom(), indent=1) + "\n", encoding="utf-8")
