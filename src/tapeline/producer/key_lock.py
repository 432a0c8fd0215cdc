"""One key, one connection: a second producer with the same key would drop both."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from tapeline.local.home import Home
from tapeline.local.lock import held, is_held

_SALT_FILE: Final = "feed.salt"
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 12
_OWNER_ONLY: Final = 0o600
_COST: Final = 2**14
"""Of scrypt: some 50 ms a try, for whoever would guess the key."""


@contextmanager
def one_connection(home: Path, url: str, token: SecretStr) -> Iterator[None]:
    """Hold the right to connect with a key for a while, below one home.

    The lock's name is made from the key by scrypt with a secret salt, so that it tells nothing.

    Raises:
        UsageError: another producer holds it.
    """
    locks = Home(home).locks
    locks.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(locks, url, token, _salt(locks / _SALT_FILE))
    message = (
        "Another producer is connected with this key, and the feed drops both when a second one "
        "comes: stop that one first, or use another key."
    )
    with held(lock, message):
        yield


def is_connected(home: Path, url: str, token: SecretStr) -> bool:
    """Return whether a producer below one home holds the right to connect with a key.

    Raises:
        OSError: the locks may not be read.
    """
    locks = Home(home).locks
    try:
        salt = (locks / _SALT_FILE).read_bytes()
    except FileNotFoundError:
        return False  # made by the first producer
    return is_held(_lock_of(locks, url, token, salt))


def _lock_of(locks: Path, url: str, token: SecretStr, salt: bytes) -> Path:
    text = f"{url}|{token.get_secret_value()}".encode()
    digest = hashlib.scrypt(text, salt=salt, n=_COST, r=8, p=1, dklen=_DIGEST_BYTES)
    return locks / f"feed-{digest.hex()}"


def _salt(path: Path) -> bytes:
    """Return the home's salt, which is made by whoever comes first."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, _OWNER_ONLY)
        with os.fdopen(file, "wb") as writer:
            writer.write(secrets.token_bytes(_SALT_BYTES))
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_bytes()
