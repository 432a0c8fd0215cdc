"""One local service: a child process with a log, found again by id after its parent is gone."""

from __future__ import annotations

import atexit
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tapeline.model.errors import LocalStackError

LOOPBACK: Final = "127.0.0.1"
_POLL_S: Final = 0.2
_LOG_TAIL_LINES: Final = 20
_STOP_TIMEOUT_S: Final = 30.0
_SAME_START_S: Final = 2.0

_started: list[subprocess.Popen[bytes]] = []
"""Our own children, kept so that ending them also reaps them."""
atexit.register(lambda: [process.poll() for process in _started])


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """Where one service has its Java, jars, class archives, data and log, and what it inherits."""

    java_home: Path
    jars: Path
    class_archives: Path
    data: Path
    log: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunningService:
    """A started service. `created` (s since the epoch) tells its process id from a reused one."""

    name: str
    pid: int
    created: float
    port: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunningService:
        """Read back what `to_json` wrote."""
        return cls(data["name"], data["pid"], data["created"], data["port"])

    def to_json(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)

    def process(self) -> psutil.Process | None:
        """Return the live process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            started_s = process.create_time()
            # A clock that is set moves what the system says of earlier starts.
            is_same = abs(started_s - self.created) < _SAME_START_S
            if not is_same or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    def listens(self) -> bool:
        """Return whether this process has its port, and not another program."""
        process = self.process()
        try:
            return process is not None and any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == self.port
                for c in process.net_connections("tcp")
            )
        except psutil.AccessDenied:  # not every system tells; then its answer must do
            return True

    def stop(self) -> None:
        """Ask the process to end, wait, and kill it if it does not."""
        process = self.process()
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)


def start_service(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    inherits: Collection[int] = (),
) -> RunningService:
    """Start a service in a session of its own, so that Ctrl-C reaches only its parent.

    Args:
        name: of the service.
        command: to run.
        port: on which it will answer.
        log: file of its output.
        environment: all of it.
        folder: in which it runs; that of this process by default.
        inherits: descriptors of open files that it keeps open, such as claims to ports.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            pass_fds=tuple(inherits),
        )
    _started.append(process)
    return RunningService(name, process.pid, psutil.Process(process.pid).create_time(), port)


def wait_until_ready(
    service: RunningService, is_ready: Callable[[], bool], *, timeout_s: float, log: Path
) -> None:
    """Wait until a real request succeeds.

    Raises:
        LocalStackError: the process has died or does not answer in time; the message ends
            with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if service.process() is None:
            raise LocalStackError(_failure(service.name, "has died while starting", log))
        if time.monotonic() > deadline:
            raise LocalStackError(
                _failure(service.name, f"did not answer within {timeout_s:.0f} s", log)
            )
        time.sleep(_POLL_S)


def accepts_connections(port: int) -> bool:
    """Return whether something listens on a loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False


def log_tail(log: Path) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _failure(name: str, what: str, log: Path) -> str:
    return f"{name} {what}. Its log is {log}; it ends with:\n{log_tail(log)}"
