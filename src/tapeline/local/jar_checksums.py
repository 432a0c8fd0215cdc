"""The SHA-256 of every jar that is fetched, as `scripts/make_jar_checksums.py` wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tapeline.model.errors import LocalStackError

CHECKSUM_FILE: Final = Path(__file__).with_name("jars.sha256")
"""A line a jar: its name, a blank, the SHA-256 in hexadecimal."""


def known_checksums() -> dict[str, str]:
    """Return the SHA-256 of each jar by its name."""
    lines = CHECKSUM_FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ") for line in lines)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_jars(folder: Path, known: Mapping[str, str]) -> None:
    """Check every jar of a folder.

    Raises:
        LocalStackError: one is not what it was when its version was chosen, or is not known.
    """
    if wrong := next(wrong_jars(folder, known), None):
        message = (
            f"{wrong} It was not kept. Something between here and the repository has changed it: "
            "fetch again from another network, and do not use it."
        )
        raise LocalStackError(message)


def wrong_jars(folder: Path, known: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence on each jar that is not what it was when its version was chosen."""
    for jar in sorted(folder.glob("*.jar")):
        found, expected = sha256_of(jar), known.get(jar.name)
        if found != expected:
            was = f"its SHA-256 has to be {expected}" if expected else "it is not in the list"
            yield (
                f"{jar.name} is not the jar that Tapeline was tested with: {was} and is {found} "
                f"({CHECKSUM_FILE.name})."
            )
