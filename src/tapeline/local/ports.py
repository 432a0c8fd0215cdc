"""Loopback ports: which are free, and how a service keeps one from other stacks."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final, Self

from tapeline.local.lock import try_lock
from tapeline.local.service import LOOPBACK
from tapeline.model.errors import LocalStackError

_POLL_S: Final = 0.2
_PORTS_TRIED: Final = 10
_PORT_STEP: Final = 10
"""More than a service has ports of its own."""
_MOST_PORTS: Final = 65536
_CHOICES_OF_SYSTEM: Final = 20


class PortClaims:
    """Ports that no other stack of this user takes, from the choice until the service has ended.

    Two stacks that start at once would both find the same port free. So each port has a lock file,
    of which the service inherits the lock: it is let go when the service has ended, and here too.
    """

    def __init__(self) -> None:
        self._files: list[IO[str]] = []

    def __enter__(self) -> Self:
        """Begin without a claim."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Let go here what no service has inherited."""
        for file in self._files:
            file.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files that the service is to inherit."""
        return tuple(file.fileno() for file in self._files)

    def take(self, preferred: int) -> int:
        """Claim a free port, as `free_port` chooses it."""
        for port in _candidates(preferred):
            if self._claim(port):
                return port
        message = "There is no free port."
        raise LocalStackError(message)

    def _claim(self, port: int) -> bool:
        with ExitStack() as stack:
            file = stack.enter_context(_lock_file(port))
            if not try_lock(file) or why_taken(LOOPBACK, port):
                return False
            stack.pop_all()
        self._files.append(file)
        return True


def free_port(preferred: int) -> int:
    """Return the preferred loopback port (0 for any), or one some steps above it when it is taken.

    One that the system chooses is the last resort: while its service is down, it may become the
    near end of somebody's connection, and the service could not have it again.
    """
    return next(port for port in _candidates(preferred) if why_taken(LOOPBACK, port) is None)


def wait_for_port(port: int, timeout_s: float) -> None:
    """Wait for a while until a loopback port is free: one that was killed keeps it for a moment."""
    deadline = time.monotonic() + timeout_s
    while why_taken(LOOPBACK, port) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def why_taken(host: str, port: int) -> OSError | UnicodeError | None:
    """Return why a port cannot be listened on, None if it can; it is let go at once."""
    try:
        _bind(host, port)
    except (OSError, UnicodeError) as error:
        return error
    return None


def _candidates(preferred: int) -> Iterator[int]:
    end = min(preferred + _PORTS_TRIED * _PORT_STEP, _MOST_PORTS)
    yield from range(preferred, end, _PORT_STEP) if preferred else ()
    for _ in range(_CHOICES_OF_SYSTEM):
        yield _bind(LOOPBACK, 0)


def _bind(host: str, port: int) -> int:
    """Return which port can be listened on: the same one, or one of the system's choice for 0."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        found: int = probe.getsockname()[1]
        return found


def _lock_file(port: int) -> IO[str]:
    # Stacks of different homes share it, so it is in none of them.
    folder = Path(tempfile.gettempdir()) / f"tapeline-ports-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return (folder / str(port)).open("w")
    except OSError as error:
        message = f"{folder} cannot be written ({error.strerror}): set TMPDIR to a folder of yours."
        raise LocalStackError(message) from error
