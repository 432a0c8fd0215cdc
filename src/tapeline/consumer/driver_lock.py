"""One driver at a time on a checkpoint that several hosts reach.

A lock of an operating system ends with its process, and does not leave its host. Here a folder
holds a file for each driver that there was, numbered upward. Who makes the next number, which the
file system lets one alone do, has the checkpoint, and writes into that file every few seconds.
Another may make the next number once the newest was let go, or has not changed for `stale_s` while
it was watched: no two clocks are compared. Who finds a higher number than its own has lost the
checkpoint, and stops.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from typing import Final

import orjson
import structlog

from tapeline.consumer.checkpoint_place import Place, numbers_in
from tapeline.model.errors import StreamError, TapelineError, UsageError

log = structlog.get_logger()

BEAT_S: Final = 5.0
STALE_S: Final = 30.0
_LOOK_S: Final = 1.0


class DriverLock:
    """The lock of one query's checkpoint.

    Args:
        folder: of its files, in a file system that all hosts reach.
        beat_s: seconds between two signs of life.
        stale_s: seconds without one after which a driver counts as dead.
    """

    def __init__(self, folder: Place, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> None:
        self._folder = folder
        self._beat_s = beat_s
        self._stale_s = stale_s
        self._owner = uuid.uuid4().hex
        self._number = 0
        self._beats = 0
        self._is_lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="checkpoint-lock", daemon=True)

    def take(self, message: str, wait_s: float) -> None:
        """Have the checkpoint from now on.

        Args:
            message: what is said when another has it.
            wait_s: how long one that is alive may take to let go.

        Raises:
            UsageError: another driver has it and is alive.
        """
        began_s = since_s = time.monotonic()
        seen = self._newest()
        is_alive = is_told = False
        while not self._take_over(*seen, unchanged_s=time.monotonic() - since_s):
            if not is_told:
                log.info("checkpoint_waited_for", driver=_whereabouts(seen[1]))
                is_told = True
            time.sleep(min(_LOOK_S, self._beat_s))
            found, now_s = self._newest(), time.monotonic()
            if found != seen:
                is_alive = seen[0] == found[0] and not _is_free(found[1])
                seen, since_s = found, now_s
            if is_alive and now_s - began_s >= wait_s:
                message = f"{message} It runs on {_whereabouts(seen[1])}."
                raise UsageError(message)
        self._thread.start()

    def require(self) -> None:
        """Check that no other driver has taken the checkpoint.

        Raises:
            StreamError: one has.
        """
        if self._is_lost:
            message = (
                f"Another driver has taken over the checkpoint, as {self._folder} says: this one "
                f"had given no sign of life for {self._stale_s:.0f} s. Nothing is lost; leave one "
                "of the two running."
            )
            raise StreamError(message)

    def release(self) -> None:
        """Let another driver have the checkpoint at once; without it, that takes `stale_s`."""
        self.be_still()
        try:
            if self._is_ours():
                self._write(is_free=True)
        except (OSError, TapelineError) as error:
            log.warning("checkpoint_not_released", error=str(error))

    def be_still(self) -> None:
        """Give no further sign of life."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _take_over(self, number: int, content: bytes, *, unchanged_s: float) -> bool:
        """Take the checkpoint if its newest driver has let go or is dead."""
        if number and not _is_free(content) and unchanged_s < self._stale_s:
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            (self._folder / str(number + 1)).touch(exist_ok=False)
        except FileExistsError:
            return False
        self._number = number + 1
        self._write(is_free=False)
        for older in numbers_in(self._folder):
            if older < self._number:
                (self._folder / str(older)).unlink(missing_ok=True)
        return True

    def _keep(self) -> None:
        while not self._ended.wait(self._beat_s) and not self._is_lost:
            try:
                if self._is_ours():
                    self._write(is_free=False)
                else:
                    self._is_lost = True
            except (OSError, TapelineError) as error:
                # Where nobody can look, nobody can take it over; it is tried again.
                log.warning("checkpoint_lock_not_renewed", error=str(error))

    def _is_ours(self) -> bool:
        number, content = self._newest()
        return number == self._number and _said_in(content).get("owner") == self._owner

    def _newest(self) -> tuple[int, bytes]:
        """Return the number and the content of the newest driver; 0 when there was none."""
        number = max(numbers_in(self._folder), default=0)
        try:
            return number, (self._folder / str(number)).read_bytes() if number else b""
        except FileNotFoundError:
            return number, b""

    def _write(self, *, is_free: bool) -> None:
        self._beats += 1
        said = {
            "owner": self._owner,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "beat": self._beats,
            "is_free": is_free,
        }
        (self._folder / str(self._number)).write_bytes(orjson.dumps(said))


def _is_free(content: bytes) -> bool:
    return _said_in(content).get("is_free") is True


def _whereabouts(content: bytes) -> str:
    said = _said_in(content)
    return f"{said.get('host', 'a host that is not known')}, process {said.get('process', '?')}"


def _said_in(content: bytes) -> dict[str, object]:
    """Return what a driver has said of itself; nothing while it is written."""
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
