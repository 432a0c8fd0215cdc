"""Tapeline's own commands as child processes of `demo` and `replay`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from tapeline.errors import (
    FeedError,
    LocalStackError,
    PoisonError,
    TapelineError,
    UsageError,
)
from tapeline.local.home import Home
from tapeline.local.service import log_tail
from tapeline.process import HELD, SUPERVISED

log = structlog.get_logger()

MAX_RESTARTS: Final = 10
"""How often a child that fails is started again before its parent gives up."""

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
        self.restarts = 0
        self._process = self._start()

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def restart(self) -> None:
        """Start it again after it has ended."""
        self.restarts += 1
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

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            # What could not be written to one that has ended is of no use.
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )


def keep_alive(children: Sequence[Child]) -> None:
    """Start those children again that have failed.

    Every step goes on where it was, so a restart loses nothing.

    Raises:
        TapelineError: a child keeps failing, or would fail again in the same way.
    """
    for child in children:
        code = child.exit_code
        if code is None or code == 0:
            continue
        if code in _IN_VAIN or child.restarts >= MAX_RESTARTS:
            raise child.failure()
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
