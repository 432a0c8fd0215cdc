"""The keys that the API asks for: read from a file, known by their hashes, shown nowhere."""

from __future__ import annotations

import hmac
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog

from tapeline.model.errors import UsageError

log = structlog.get_logger()

VARIABLE: Final = "TAPELINE_API__KEYS_FILE"
SESSION_S: Final = 7 * 86_400
"""How long a browser that has given a key is let in."""
_SHORTEST: Final = 22
"""As many characters as 128 random bits take in base64."""
_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What RFC 6750 lets stand after `Bearer`."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_MAKE: Final = "`openssl rand -hex 24` makes one"
_LOOK_AGAIN_S: Final = 1.0
_SESSION: Final = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


class Keys:
    """The keys of a file, which is read again when it has changed.

    One that can no longer be used leaves the keys as they were, and the log says so.

    Args:
        file: one key a line, or `name:key`; what follows a # is a comment.
        clock: seconds that never go back.

    Raises:
        UsageError: the file cannot be used.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._seen = _look(file)
        self._names = _read(file)
        self._looked_s = clock()

    def name_of(self, key: str) -> str | None:
        """Return the name of a key that was given; None where it is none of ours.

        Every key is compared, in the same time whatever they hold.
        """
        given = _hash(key)
        return self._find(lambda digest: hmac.compare_digest(digest, given))

    def open_session(self, key: str, now_s: float) -> str | None:
        """Return what a browser may show instead of a key for a while; None for a wrong key.

        It holds neither the key nor its hash, and ends with the key.

        Args:
            key: as it was given.
            now_s: seconds since the epoch.
        """
        if self.name_of(key) is None:
            return None
        end = str(int(now_s) + SESSION_S)
        return f"{end}.{_sign(_hash(key), end)}"

    def name_of_session(self, session: str, now_s: float) -> str | None:
        """Return the name of the key with which a session was opened; None where it is over."""
        found = _SESSION.fullmatch(session)
        if found is None or int(found[1]) <= now_s:
            return None
        end, given = found.groups()
        return self._find(lambda digest: hmac.compare_digest(_sign(digest, end), given))

    def _find(self, is_it: Callable[[bytes], bool]) -> str | None:
        self._follow()
        name = None
        for digest, known in self._names.items():
            name = known if is_it(digest) else name
        return name

    def _follow(self) -> None:
        """Read the file again if it has changed; it is looked at once a second at most."""
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        seen = _look(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._names = _read(self._file)
        except UsageError as error:
            log.error("api_keys_unchanged", reason=str(error))  # noqa: TRY400 - a sentence says it all
        else:
            log.info("api_keys_read", keys=len(self._names))


def _look(file: Path) -> tuple[int, ...] | None:
    try:
        state = file.expanduser().stat()
    except (OSError, RuntimeError):
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _read(file: Path) -> Mapping[bytes, str]:
    """Return the name of each key by the key's hash; no error shows anything of a key.

    Nor does one show the file's name: the key itself may stand in its place by mistake.
    """
    lines = _lines(file)
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, is_named, key = text.rpartition(":")
        if reason := _fault(name if is_named else None, key):
            message = f"Line {number} of the file that {VARIABLE} names: {reason}."
            raise UsageError(message)
        digest = _hash(key)
        if digest in names:
            message = f"Line {number} of the file that {VARIABLE} names: an earlier line has it."
            raise UsageError(message)
        names[digest] = name or f"line {number}"
    if not names:
        message = f"The file that {VARIABLE} names holds no key: write one a line; {_MAKE}."
        raise UsageError(message)
    return names


def _lines(file: Path) -> list[str]:
    reason = ""
    try:
        with file.expanduser().open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                reason = "it is no regular file"
            elif mode & stat.S_IRWXO:
                message = f"Everyone may use the file that {VARIABLE} names: `chmod 600` it."
                raise UsageError(message)
            else:
                return opened.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        reason = "it is not in UTF-8"
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "there is no such user"
    message = f"{VARIABLE} names no file of keys ({reason}): give one with a key a line; {_MAKE}."
    raise UsageError(message)


def _fault(name: str | None, key: str) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        return "a name, up to the colon, has 1 to 32 letters, digits and . _ - only"
    if not _KEY.fullmatch(key):
        return f"a key has letters, digits and . _ ~ + / - only, and = at its end; {_MAKE}"
    if len(key) < _SHORTEST:
        return f"a key has {_SHORTEST} characters at least; {_MAKE}"
    return None


def _hash(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _sign(digest: bytes, end: str) -> str:
    return hmac.digest(digest, b"tapeline session " + end.encode(), "sha256").hex()
