"""Let only one command at a time work on a target."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tapeline.local.home import Home
from tapeline.model.errors import UsageError

_POLL_S: Final = 0.2


@contextmanager
def only_one(home: Home, target: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the target for a while; it is let go however this process ends.

    Args:
        home: where the lock file is.
        target: a keyspace or a checkpoint's name.
        wait_s: how long another may take to let go.

    Raises:
        UsageError: another command holds it.
    """
    message = f"Another command is working on {target}: stop it first, or wait."
    with held(home.locks / target, message, wait_s):
        yield


@contextmanager
def held(path: Path, message: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file for a while; it is let go however this process ends.

    Args:
        path: of the file, which is made.
        message: what is said when another process holds it.
        wait_s: how long that one may take to let go.

    Raises:
        UsageError: another process holds it, or it cannot be made.
    """
    deadline = time.monotonic() + wait_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("w")
    except OSError as error:
        message = f"{path.parent} cannot be written ({error.strerror}): choose another folder."
        raise UsageError(message) from error
    with opened as file:
        while not try_lock(file):
            if time.monotonic() >= deadline:
                raise UsageError(message)
            time.sleep(_POLL_S)
        yield


def try_lock(file: IO[str]) -> bool:
    """Take a file for ourselves alone, without waiting; return whether nobody else holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Return whether a process holds a lock file; makes none, and holds it for no longer than that.

    Shared, so that two who ask at once do not see each other.

    Raises:
        OSError: the file may not be read.
    """
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
