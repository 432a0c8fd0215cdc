"""The state of the local stack; small listeners stand in for Kafka and Cassandra."""

from __future__ import annotations

import io
import json
import os
import sys

import psutil
import pytest
from rich.console import Console

from tapeline.local import stack as local_stack
from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.service import RunningService, accepts_connections, start_service
from tapeline.local.stack import LocalStack
from tapeline.local.state import StackState, read_state

LISTEN = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    "time.sleep(60)"
)
DEAD = {"name": "cassandra", "pid": os.getpid(), "created": 1.0, "port": 19042}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def myself(name="kafka", port=19092):
    own = psutil.Process()
    return RunningService(name, own.pid, own.create_time(), port)


def write_state(home, *services, kept=False):
    home.root.mkdir(parents=True, exist_ok=True)
    home.state_file.write_text(json.dumps({"kept": kept, "services": list(services)}))


@pytest.fixture
def listeners(home):
    """Two live listeners in the state file, by name."""
    started = []
    for name in ("kafka", "cassandra"):
        port = free_port(0)
        command = [sys.executable, "-c", LISTEN, str(port)]
        log = home.logs / f"{name}.log"
        started.append(start_service(name, command, port=port, log=log, environment=os.environ))
    yield {s.name: s for s in started}
    for service in started:
        service.stop()


@pytest.fixture
def stack(home, monkeypatch):
    probes = dict.fromkeys(("kafka", "cassandra"), accepts_connections)
    monkeypatch.setattr(local_stack, "_PROBES", probes)
    return LocalStack(home, Console(file=io.StringIO()))


def test_without_a_state_file_nothing_runs(home):
    assert read_state(home) == StackState((), kept=False)


def test_only_services_that_live_are_returned(home):
    write_state(home, myself().to_json(), DEAD, kept=True)
    assert read_state(home) == StackState((myself(),), kept=True)


def test_starting_what_runs_uses_it_and_remembers_to_keep_it(home, stack, listeners):
    write_state(home, *(s.to_json() for s in listeners.values()))

    state = stack.up(keep=True)

    assert state == read_state(home) == StackState(tuple(listeners.values()), kept=True)
    assert all(s.process() is not None for s in listeners.values())


def test_a_kept_stack_stays_kept_when_a_command_uses_it(home, stack, listeners):
    write_state(home, *(s.to_json() for s in listeners.values()), kept=True)

    with stack.running() as state:
        assert state.kept

    assert read_state(home) == StackState(tuple(listeners.values()), kept=True)


def test_a_stack_that_a_killed_command_left_behind_is_used_and_then_stopped(home, stack, listeners):
    write_state(home, *(s.to_json() for s in listeners.values()), kept=False)

    with stack.running() as state:
        assert state.services == tuple(listeners.values())

    assert all(s.process() is None for s in listeners.values())
    assert read_state(home) == StackState((), kept=False)


def test_a_failing_command_stops_its_stack_too(home, stack, listeners):
    write_state(home, *(s.to_json() for s in listeners.values()), kept=False)

    def fail():
        with stack.running():
            message = "the command failed"
            raise ValueError(message)

    with pytest.raises(ValueError, match="the command failed"):
        fail()
    assert all(s.process() is None for s in listeners.values())


def test_down_stops_what_runs_and_names_it(home, stack, listeners):
    write_state(home, *(s.to_json() for s in listeners.values()), kept=True)

    assert stack.down() == ["kafka", "cassandra"]

    assert all(s.process() is None for s in listeners.values())
    assert not home.state_file.exists()


def test_down_without_a_stack_is_harmless(stack):
    assert stack.down() == []
    assert stack.down() == []


def test_down_names_only_what_still_ran(home, stack, listeners):
    listeners["cassandra"].stop()
    write_state(home, *(s.to_json() for s in listeners.values()))
    assert stack.down() == ["kafka"]


def test_each_service_has_its_log(home, stack):
    assert stack.log_of("kafka") == home.root / "logs" / "kafka.log"
