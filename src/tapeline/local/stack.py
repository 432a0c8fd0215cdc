"""Start, find and stop the local Kafka and Cassandra.

The state file names what runs. A stack is *kept* when `tapeline up` started it; otherwise it
belongs to the command that started it and stops with it. What a killed command leaves behind
is found again by process id and start time, and used.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from tapeline.local import cassandra, kafka
from tapeline.local.class_archive import make_archives_later
from tapeline.local.home import Home
from tapeline.local.jars import (
    ALL_JARS,
    CASSANDRA_JARS,
    KAFKA_JARS,
    fetch_jars,
    jar_folder,
    missing_jars,
)
from tapeline.local.java import find_java, java_environment
from tapeline.local.lock import try_lock
from tapeline.local.ports import wait_for_port
from tapeline.local.preflight import check_machine, require_disk
from tapeline.local.service import RunningService, ServicePlace, wait_until_ready
from tapeline.local.state import StackState, all_noted, read_state, write_state
from tapeline.model.errors import LocalStackError
from tapeline.program.profile import Profile, Sizes

_START_TIMEOUT_S: Final = 120.0
_PORT_WAIT_S: Final = 5.0
_NAMES: Final = (kafka.NAME, cassandra.NAME)
_STARTERS: Final[dict[str, Callable[[ServicePlace, Sizes, int], RunningService]]] = {
    kafka.NAME: kafka.start_kafka,
    cassandra.NAME: cassandra.start_cassandra,
}
_JARS: Final = {kafka.NAME: KAFKA_JARS, cassandra.NAME: CASSANDRA_JARS}
_USUAL_PORTS: Final = {
    kafka.NAME: kafka.PREFERRED_PORT,
    cassandra.NAME: cassandra.PREFERRED_PORT,
}
_PROBES: Final[dict[str, Callable[[int], bool]]] = {
    kafka.NAME: kafka.kafka_answers,
    cassandra.NAME: cassandra.cassandra_answers,
}


@dataclass(frozen=True, slots=True)
class StartHooks:
    """What to do while the services start.

    `all_started` when every process runs and has its port, `kafka_answers` as soon as Kafka does;
    the latter from another thread, and perhaps first. `given_up` after a failure, before the
    services are stopped.
    """

    all_started: Callable[[], None] = lambda: None
    kafka_answers: Callable[[], None] = lambda: None
    given_up: Callable[[], None] = lambda: None


class LocalStack:
    """The local services below one home; the profile is for those that it starts."""

    def __init__(self, home: Home, console: Console, profile: Profile = Profile.STANDARD) -> None:
        self.home = home
        """Where it keeps its things."""
        self._console = console
        self._sizes = profile.sizes

    def up(self, *, keep: bool, hooks: StartHooks | None = None) -> StackState:
        """Start what does not run yet; return when both answer a real request.

        Each service is started as soon as its jars are there. With `keep` the stack stays after
        this command. Starting again is harmless.

        Raises:
            PreflightError: memory, disk or Java is missing.
            LocalStackError: a service died or does not answer.
        """
        with self._lock():
            state = read_state(self.home)
            running = {s.name: s for s in state.services}
            hooks = hooks or StartHooks()
            start = _Start(self, running, kept=keep or state.kept, hooks=hooks)
            with start.abandoned_on_error():
                if len(running) < len(_NAMES):
                    java_home = find_java()
                    check_machine(
                        self.home,
                        self._sizes.needed_memory_mb,
                        running=bool(running),
                        console=self._console,
                    )
                    start.begin_those_with_jars(java_home)
                    fetch_jars(
                        self.home.jars,
                        ALL_JARS,
                        java_home,
                        self._console,
                        lambda _set: start.begin_those_with_jars(java_home),
                    )
                    start.begin_those_with_jars(java_home)
                hooks.all_started()
                with self._console.status("Waiting for Kafka and Cassandra"):
                    start.wait()
            return write_state(self.home, running.values(), kept=keep or state.kept)

    def down(self) -> list[str]:
        """Stop both services; return the names of those that ran."""
        with self._lock():
            state = read_state(self.home)
            with ThreadPoolExecutor() as pool:
                list(pool.map(RunningService.stop, state.services))
            self.home.state_file.unlink(missing_ok=True)
            make_archives_later(self.home.class_archives)
            return [s.name for s in state.services]

    @contextmanager
    def running(self, hooks: StartHooks | None = None) -> Iterator[StackState]:
        """Have the stack for a while; stop it afterwards unless it is kept or others use it."""
        self.home.make_private()
        with self.home.users_file.open("w") as users:
            # Shared by every command that uses the stack, and let go however the command ends.
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield self.up(keep=False, hooks=hooks)
            finally:
                if not read_state(self.home).kept and try_lock(users):
                    self.down()

    def log_of(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.home.logs / f"{name}.log"

    def start_one(self, name: str, java_home: Path) -> RunningService:
        """Start a service whose jars are there."""
        place = ServicePlace(
            java_home=java_home,
            jars=jar_folder(self.home.jars, _JARS[name]),
            class_archives=self.home.class_archives,
            data=self.home.data / name,
            log=self.log_of(name),
            environment=java_environment(java_home),
        )
        # One that died comes back where its clients look for it.
        before = {s.name: s.port for s in all_noted(self.home)}
        if name in before:
            wait_for_port(before[name], _PORT_WAIT_S)
        return _STARTERS[name](place, self._sizes, before.get(name, _USUAL_PORTS[name]))

    def has_jars(self, name: str) -> bool:
        """Return whether a service can be started."""
        return not missing_jars(self.home.jars, [_JARS[name]])

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.home.make_private()
        with self.home.lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Start:
    """Brings up the services of a stack at once, each in a thread of its own."""

    def __init__(
        self,
        stack: LocalStack,
        running: dict[str, RunningService],
        *,
        kept: bool,
        hooks: StartHooks,
    ) -> None:
        self._stack = stack
        self._running = running
        self._kept = kept
        self._hooks = hooks
        self._pool = ThreadPoolExecutor(len(_NAMES), "stack")
        self._ready: dict[str, Future[None]] = {}
        self._is_abandoned = threading.Event()
        for name in running:
            self._begin(name)

    def begin_those_with_jars(self, java_home: Path) -> None:
        """Start each service that is not begun and whose jars are there.

        The state file is written after each start, so that a killed command leaves nothing
        unknown.
        """
        for name in _NAMES:
            if name not in self._ready and self._stack.has_jars(name):
                self._running[name] = self._stack.start_one(name, java_home)
                write_state(self._stack.home, self._running.values(), kept=self._kept)
                self._begin(name)

    def wait(self) -> None:
        """Return when all that was begun answers."""
        for future in self._ready.values():
            future.result()

    @contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """Let no thread wait on after an error."""
        try:
            yield
        except BaseException:
            self._is_abandoned.set()
            self._pool.shutdown()
            self._hooks.given_up()
            raise
        self._pool.shutdown()

    def _begin(self, name: str) -> None:
        self._ready[name] = self._pool.submit(self._await, self._running[name])

    def _await(self, service: RunningService) -> None:
        def answers() -> bool:
            if self._is_abandoned.is_set():
                message = f"{service.name} is waited for no longer."
                raise LocalStackError(message)
            return service.listens() and _PROBES[service.name](service.port)

        log = self._stack.log_of(service.name)
        try:
            wait_until_ready(service, answers, timeout_s=_START_TIMEOUT_S, log=log)
        except LocalStackError as error:
            require_disk(self._stack.home.data / service.name, error)
            raise
        if service.name == kafka.NAME:
            self._hooks.kafka_answers()
