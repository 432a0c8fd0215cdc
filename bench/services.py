"""Fresh real services and the processes that are measured, in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import platformdirs
import psutil
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

LOOPBACK: Final = "127.0.0.1"
_STOP_S: Final = 90.0
_TIMEOUT_S: Final = 120.0
_LOG_TAIL: Final = 2000
_ATTEMPTS: Final = 4
_LISTEN_S: Final = 60.0


@dataclass(slots=True)
class Process:
    """A measured process with its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    _output: IO[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    def is_running(self) -> bool:
        """Return whether it lives."""
        return self.popen.poll() is None

    def require(self) -> None:
        """Raise when it has failed, with the end of its log."""
        if self.popen.poll() not in {None, 0}:
            raise RuntimeError(self.failure())

    def failure(self) -> str:
        """Say how it ended."""
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        return f"{self.name} ended with code {self.popen.poll()}; its log ends:\n{tail}"

    def stop(self) -> None:
        """Ask it to stop, wait, kill it if need be."""
        if self.is_running():
            self.popen.terminate()
            try:
                self.popen.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self._output.close()


@dataclass(slots=True)
class Services:
    """A local Kafka and Cassandra below one home, and what was started beside them."""

    home: Path
    _processes: list[Process] = field(default_factory=list)
    _state: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a command to this home; everything else is inherited."""
        return {**os.environ, "TAPELINE_HOME": str(self.home)}

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address."""
        return f"{LOOPBACK}:{self._state['kafka']['port']}"

    @property
    def cassandra_port(self) -> int:
        """Cassandra's port on loopback."""
        return int(self._state["cassandra"]["port"])

    def pid_of(self, name: str) -> int:
        """Return the process id of `kafka` or `cassandra`."""
        return int(self._state[name]["pid"])

    def up(self) -> None:
        """Start what does not run; again when another stack took a port at the same moment."""
        for _ in range(_ATTEMPTS):
            self.run("up")
            state = json.loads((self.home / "stack.json").read_text(encoding="utf-8"))
            self._state = {service["name"]: service for service in state["services"]}
            if all(_comes_to_listen(s["pid"], s["port"]) for s in self._state.values()):
                return
        message = "Kafka or Cassandra ends right after its start"
        raise RuntimeError(message)

    def down(self) -> None:
        """Stop both services."""
        self.run("down")

    def renew_cassandra(self) -> None:
        """Give the next contestant a Cassandra without data; Kafka keeps its topics."""
        self.down()
        shutil.rmtree(self.home / "data" / "cassandra", ignore_errors=True)
        shutil.rmtree(self.home / "checkpoints", ignore_errors=True)
        self.up()

    def run(self, *arguments: str) -> str:
        """Run a Tapeline command to its end and return what it printed."""
        done = subprocess.run(
            tapeline(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S * 3,
            check=False,
        )
        if done.returncode:
            message = f"`tapeline {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}"
            raise RuntimeError(message)
        return done.stdout

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a process, its output in a log."""
        log = self.home / "bench-logs" / f"{len(self._processes):03d}-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**self.environment, **(environment or {})},
            start_new_session=True,
        )
        process = Process(name, popen, log, output)
        self._processes.append(process)
        return process

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Have a session with Cassandra for a while."""
        profile = ExecutionProfile(request_timeout=_TIMEOUT_S)
        cluster = Cluster(
            [LOOPBACK],
            port=self.cassandra_port,
            connect_timeout=20,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        )
        try:
            yield cluster.connect()
        finally:
            cluster.shutdown()

    def stop_processes(self) -> None:
        """Stop everything that was started beside the services, the last one first."""
        for process in reversed(self._processes):
            process.stop()


def _comes_to_listen(pid: int, port: int) -> bool:
    """Wait until a process itself listens on a port; another one's answer proves nothing."""
    deadline = time.monotonic() + _LISTEN_S
    while time.monotonic() < deadline:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if any(c.laddr.port == port for c in process.net_connections() if not c.raddr):
                return True
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.1)
    return False


def tapeline(*arguments: str) -> list[str]:
    """Return the command line of a Tapeline command."""
    return [sys.executable, "-m", "tapeline", *arguments]


@contextmanager
def fresh_services(*, start: bool = True) -> Iterator[Services]:
    """Have a new Kafka and Cassandra, and nothing of them afterwards.

    Jars are linked from the user's own Tapeline home, so that none is fetched twice.
    """
    home = Path(tempfile.mkdtemp(prefix="tapeline-bench-"))
    usual = Path(os.environ.get("TAPELINE_HOME") or platformdirs.user_data_dir("tapeline"))
    (usual / "jars").mkdir(parents=True, exist_ok=True)
    (home / "jars").symlink_to(usual / "jars")
    services = Services(home)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if start:
            services.up()
        yield services
    finally:
        services.stop_processes()
        services.down()
        shutil.rmtree(home, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def wait_until(what: str, is_done: Any, timeout_s: float, poll_s: float = 0.1) -> float:
    """Wait for a condition; return how long it took (s).

    Raises:
        TimeoutError: it took longer than it may.
    """
    started = time.monotonic()
    while not is_done():
        if time.monotonic() - started > timeout_s:
            message = f"{what}: not after {timeout_s:.0f} s"
            raise TimeoutError(message)
        time.sleep(poll_s)
    return time.monotonic() - started
