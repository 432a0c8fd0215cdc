"""Ports of this machine, and what answers on them."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from typing import Final

from bench.services import LOOPBACK

_TIMEOUT_S: Final = 2.0


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def is_answering(url: str) -> bool:
    """Return whether a page is there."""
    try:
        with urllib.request.urlopen(f"{url}/", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's OK
    except (OSError, urllib.error.URLError):
        return False
