"""Read a page of metrics as Prometheus does: over HTTP."""

from __future__ import annotations

import re
from urllib.request import urlopen


def read_page(url: str) -> dict[str, float]:
    """Return each series, as it is written, with its value."""
    with urlopen(url, timeout=60) as response:  # noqa: S310 - an address of our own
        text = response.read().decode()
    return dict(_series(line) for line in text.splitlines() if not line.startswith("#"))


def types_on(page: str) -> dict[str, str]:
    """Return the kind of each metric that a page declares."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def _series(line: str) -> tuple[str, float]:
    name, value = line.rsplit(" ", 1)
    return name, float(value)
