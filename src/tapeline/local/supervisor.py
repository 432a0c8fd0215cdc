"""Tapeline's own commands as child processes of `demo` and `replay`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from tapeline.local.home import Home
from tapeline.local.service import log_tail
from tapeline.model.errors import (
    FeedError,
    LocalStackError,
    PoisonError,
    ServiceUnavailableError,
    TapelineError,
    UsageError,
)
from tapeline.program.process import HELD, SUPERVISED

log = structlog.get_logger()

MAX_RESTARTS: Final = 15
"""How often a child that fails soon is started again before its parent gives up: for three and a
half minutes at least."""

MAX_RESTARTS_AWAY: Final = 60
"""The same of a child that finds Kafka or Cassandra away: for eighteen minutes at least."""

_STABLE_S: Final = 120.0
"""What went well for so long has earned all its restarts again."""

_LONGEST_PAUSE_S: Final = 20.0

_IN_VAIN: Final = frozenset(
    error.exit_code for error in (UsageError, LocalStackError, FeedError, PoisonError)
)
"""Exit codes after which the same command would fail in the same way."""

_STOP_TIMEOUT_S: Final = 60.0


class Child:
    """One `tapeline COMMAND …` in a session of its own, its output in a log.

    It sees our end of its standard input close when we are gone, however we went, and stops. One
    that is held loads its program and then waits for `release`, until what it needs is there.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log_file: Path,
        environment: Mapping[str, str],
        *,
        is_held: bool = False,
    ) -> None:
        self.name = arguments[0]
        self.log_file = log_file
        self._command = [sys.executable, "-m", "tapeline", *arguments]
        held = {HELD: "1" if is_held else "0"}
        self._environment = {**os.environ, **environment, SUPERVISED: "1", **held}
        self._is_held = is_held
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.unlink(missing_ok=True)
        self._in_vain = {True: 0, False: 0}
        """Restarts since it last went well: whether it found a service away, and how many."""
        self._process = self._start()

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs; negative when a signal ended it."""
        return self._process.poll()

    @property
    def restarts(self) -> int:
        """How often it has been started again without going well for long."""
        return sum(self._in_vain.values())

    @property
    def is_due(self) -> bool:
        """Whether it may be started again: at once after the first end, later ever more slowly."""
        return time.monotonic() - self._started_s >= pause_s(self.restarts)

    @property
    def has_failed_often(self) -> bool:
        """Whether it was started again in vain as often as it may be."""
        most = MAX_RESTARTS_AWAY if self._found_nobody else MAX_RESTARTS
        return self._in_vain[self._found_nobody] >= most and not self._was_stable

    def restart(self) -> None:
        """Start it again after it has ended."""
        if self._was_stable:
            self._in_vain = {True: 0, False: 0}
        self._in_vain[self._found_nobody] += 1
        self._close_stdin()
        self._process = self._start()

    def release(self) -> None:
        """Let one that is held go on, now and whenever it is started again."""
        self._environment[HELD] = "0"
        if self._is_held and self._process.stdin is not None:
            # One that has ended is started again by `keep_alive`.
            with suppress(BrokenPipeError):
                self._process.stdin.write(b"\n")
                self._process.stdin.flush()

    def failure(self) -> TapelineError:
        """Return what to raise when it ended by itself though it should not have."""
        message = (
            f"`tapeline {self.name}` has ended with code {self.exit_code}. "
            f"Its log is {self.log_file}; it ends with:\n{log_tail(self.log_file)}"
        )
        return TapelineError(message)

    def stop(self) -> None:
        """Ask it to stop, wait, and kill it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close_stdin()

    @property
    def _found_nobody(self) -> bool:
        """Whether it ended since Kafka or Cassandra was away."""
        return self.exit_code == ServiceUnavailableError.exit_code

    @property
    def _was_stable(self) -> bool:
        return time.monotonic() - self._started_s >= _STABLE_S

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            # What could not be written to one that has ended is of no use.
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_s = time.monotonic()
        with self.log_file.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )


def pause_s(restarts: int) -> float:
    """Return the seconds between the last start of a child and its next one.

    Args:
        restarts: how often it has been started again.
    """
    return min(2.0 ** (restarts - 1), _LONGEST_PAUSE_S) if restarts else 0.0


def keep_alive(children: Sequence[Child]) -> None:
    """Start those children again that have failed and whose pause is over; never waits.

    Every step goes on where it was, so a restart loses nothing.

    Raises:
        TapelineError: a child keeps failing, or would fail again in the same way.
    """
    for child in children:
        code = child.exit_code
        if code is None or code == 0:
            continue
        if code in _IN_VAIN or child.has_failed_often:
            raise child.failure()
        if not child.is_due:
            continue
        log.warning("child_restarted", command=child.name, exit_code=code)
        child.restart()


@contextmanager
def child_process(
    arguments: Sequence[str],
    home: Path,
    environment: Mapping[str, str] | None = None,
    *,
    is_held: bool = False,
) -> Iterator[Child]:
    """Run a command beside us for a while, its output in the home's logs."""
    log_file = Home(home).logs / f"{arguments[0]}.log"
    child = Child(arguments, log_file, environment or {}, is_held=is_held)
    try:
        yield child
    finally:
        child.stop()
