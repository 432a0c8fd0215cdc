"""One service of a cluster as one process, to be killed and started again where it was."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapeline.local.ports import free_port
from tests.commands import wait_for

START_S = 300.0
# Above those of local services, below those that the system gives out: nobody else takes one
# while its service is dead.
_FIRST_PORT = 20_000
_PORTS = 12_000


def own_ports(count: int) -> list[int]:
    """Return free ports that nobody else looks for."""
    found: list[int] = []
    while len(found) < count:
        port = free_port(_FIRST_PORT + secrets.randbelow(_PORTS))
        if port not in found:
            found.append(port)
    return found


@dataclass
class Member:
    """A service, its command and how to ask whether it works."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path
    answers: Callable[[], Any]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / "out.log"

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it may not answer yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                cwd=self.folder,
                start_new_session=True,
            )

    def await_answer(self) -> None:
        wait_for(self._answers_or_is_dead, timeout_s=START_S)
        assert self.is_alive, self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def kill(self) -> None:
        """End this one process as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let it stand still for a while: it keeps its connections and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it and whatever it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers_or_is_dead(self) -> bool:
        return not self.is_alive or bool(self.answers())
