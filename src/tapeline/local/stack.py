"""Start, find and stop the local Kafka and Cassandra.

The state file names what runs. A stack is *kept* when `tapeline up` started it; otherwise it
belongs to the command that started it and stops with it. What a killed command leaves behind
is found again by process id and start time, and used.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from tapeline.local import cassandra, kafka
from tapeline.local.home import Home
from tapeline.local.jars import (
    ALL_JARS,
    CASSANDRA_JARS,
    KAFKA_JARS,
    fetch_jars,
    jar_folder,
)
from tapeline.local.java import find_java, java_environment
from tapeline.local.lock import try_lock
from tapeline.local.preflight import check_machine
from tapeline.local.service import RunningService, wait_until_ready

_START_TIMEOUT_S: Final = 120.0
_PROBES: Final[dict[str, Callable[[int], bool]]] = {
    kafka.NAME: kafka.kafka_answers,
    cassandra.NAME: cassandra.cassandra_answers,
}


@dataclass(frozen=True, slots=True)
class StackState:
    """What the state file holds."""

    services: tuple[RunningService, ...]
    kept: bool

    def port_of(self, name: str) -> int | None:
        """Return the port of a service that lives, or None."""
        for service in self.services:
            if service.name == name and service.process() is not None:
                return service.port
        return None


def read_state(home: Home) -> StackState:
    """Return the services in the state file that still live."""
    state = _read_file(home)
    return StackState(tuple(s for s in state.services if s.process() is not None), state.kept)


def _read_file(home: Home) -> StackState:
    try:
        data = json.loads(home.state_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return StackState((), kept=False)
    return StackState(tuple(map(RunningService.from_json, data["services"])), data["kept"])


class LocalStack:
    """The local services below one home."""

    def __init__(self, home: Home, console: Console) -> None:
        self._home = home
        self._console = console

    def up(self, *, keep: bool) -> StackState:
        """Start what does not run yet; return when both answer a real request.

        With `keep` the stack stays after this command. Starting again is harmless.

        Raises:
            PreflightError: memory, disk or Java is missing.
            LocalStackError: a service died or does not answer.
        """
        with self._lock():
            state = read_state(self._home)
            running = {s.name: s for s in state.services}
            if len(running) < len(_PROBES):
                java_home = find_java()
                check_machine(self._home, running=bool(running), console=self._console)
                fetch_jars(self._home.jars, ALL_JARS, java_home, self._console)
                running = self._start_missing(running, java_home, kept=keep or state.kept)
            self._await_ready(running)
            return self._write(running, kept=keep or state.kept)

    def down(self) -> list[str]:
        """Stop both services; return the names of those that ran."""
        with self._lock():
            state = read_state(self._home)
            with ThreadPoolExecutor() as pool:
                list(pool.map(RunningService.stop, state.services))
            self._home.state_file.unlink(missing_ok=True)
            return [s.name for s in state.services]

    @contextmanager
    def running(self) -> Iterator[StackState]:
        """Have the stack for a while; stop it afterwards unless it is kept or others use it."""
        self._home.root.mkdir(parents=True, exist_ok=True)
        with self._home.users_file.open("w") as users:
            # Shared by every command that uses the stack, and let go however the command ends.
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield self.up(keep=False)
            finally:
                if not read_state(self._home).kept and try_lock(users):
                    self.down()

    def log_of(self, name: str) -> Path:
        """Return the log file of a service."""
        return self._home.logs / f"{name}.log"

    def _start_missing(
        self, running: dict[str, RunningService], java_home: Path, *, kept: bool
    ) -> dict[str, RunningService]:
        starters = {
            kafka.NAME: (kafka.start_kafka, KAFKA_JARS, kafka.PREFERRED_PORT),
            cassandra.NAME: (cassandra.start_cassandra, CASSANDRA_JARS, cassandra.PREFERRED_PORT),
        }
        # One that died comes back where its clients look for it.
        before = {s.name: s.port for s in _read_file(self._home).services}
        for name, (start, jar_set, usual_port) in starters.items():
            if name not in running:
                running[name] = start(
                    java_home,
                    jar_folder(self._home.jars, jar_set),
                    self._home.data / name,
                    self.log_of(name),
                    java_environment(java_home),
                    before.get(name, usual_port),
                )
                # Written after each start, so that a killed command leaves nothing unknown.
                self._write(running, kept=kept)
        return running

    def _await_ready(self, running: dict[str, RunningService]) -> None:
        with self._console.status("Waiting for Kafka and Cassandra"):
            for name, is_answering in _PROBES.items():
                service = running[name]
                wait_until_ready(
                    service,
                    lambda probe=is_answering, port=service.port: probe(port),  # type: ignore[misc]
                    timeout_s=_START_TIMEOUT_S,
                    log=self.log_of(name),
                )

    def _write(self, running: dict[str, RunningService], *, kept: bool) -> StackState:
        state = StackState(tuple(running.values()), kept=kept)
        text = json.dumps({"kept": kept, "services": [s.to_json() for s in state.services]})
        partial = self._home.state_file.with_suffix(".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self._home.state_file)
        return state

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self._home.root.mkdir(parents=True, exist_ok=True)
        with self._home.lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
