"""A local service: started, found again, waited for and stopped, with small real processes."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import replace

import psutil
import pytest

from tapeline.local import service as local_service
from tapeline.local.ports import free_port
from tapeline.local.service import (
    RunningService,
    accepts_connections,
    log_tail,
    start_service,
    wait_until_ready,
)
from tapeline.model.errors import LocalStackError

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(60)"
)
LISTEN = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    "time.sleep(60)"
)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "service.log"


@pytest.fixture
def start(log):
    """Start services of Python code, and see to it that none outlives the test."""
    started = []

    def start(code, *arguments, port=0, environment=None):
        service = start_service(
            "tester",
            [sys.executable, "-c", code, *arguments],
            port=port,
            log=log,
            environment=dict(os.environ) if environment is None else environment,
        )
        started.append(service)
        return service

    yield start
    for service in started:
        if (process := service.process()) is not None:
            process.kill()
            process.wait()


def wait_for_text(log, text):
    deadline = time.monotonic() + 10
    while text not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_started_service_lives_until_it_is_stopped(start):
    service = start(SLEEP, port=1234)

    process = service.process()
    assert process is not None
    assert process.pid == service.pid != os.getpid()
    assert (service.name, service.port) == ("tester", 1234)
    service.stop()
    assert service.process() is None
    assert not psutil.pid_exists(service.pid)


def test_both_outputs_go_to_the_log_which_starts_afresh(start, log):
    start("print('first')").stop()
    service = start("import sys, time; print('out', flush=True); sys.exit('err')")
    wait_for_text(log, "err")
    service.stop()
    assert log.read_text().split() == ["out", "err"]


def test_it_gets_the_environment_given_and_no_other(start, log, monkeypatch):
    monkeypatch.setenv("FINNHUB_API_KEY", "c9secret")
    start("import os; print(sorted(os.environ)); print('end')", environment={"ONLY": "1"})
    wait_for_text(log, "end")
    assert "'ONLY'" in log.read_text()
    assert "FINNHUB_API_KEY" not in log.read_text()


def test_it_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(start):
    service = start(SLEEP)
    assert os.getsid(service.pid) == service.pid != os.getsid(0)


def test_starting_leaves_no_warning_behind(start):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start(SLEEP)
        gc.collect()
    assert [str(w.message) for w in caught] == []


def test_a_service_that_ends_by_itself_is_no_longer_there(start):
    service = start("")
    deadline = time.monotonic() + 10
    while service.process() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    service.stop()


def test_a_process_id_that_was_given_to_another_process_is_not_ours(start):
    service = start(SLEEP)
    older = replace(service, created=service.created - 3600)

    assert older.process() is None
    older.stop()

    assert service.process() is not None


def test_an_id_that_no_process_has_is_no_process():
    pids = set(psutil.pids())
    unused = next(pid for pid in range(4_000_000, 1, -1) if pid not in pids)
    assert RunningService("tester", unused, 0.0, 1).process() is None


def test_a_service_that_ignores_the_request_is_killed(start, log, monkeypatch):
    monkeypatch.setattr(local_service, "_STOP_TIMEOUT_S", 0.2)
    service = start(STUBBORN)
    wait_for_text(log, "ready")
    service.stop()
    assert service.process() is None


def test_it_is_found_again_from_its_json(start):
    service = start(SLEEP, port=9)

    again = RunningService.from_json(json.loads(json.dumps(service.to_json())))

    assert again == service
    assert again.process() is not None


def test_waiting_ends_when_a_request_succeeds(start, log):
    port = free_port(0)
    service = start(LISTEN, str(port), port=port)
    wait_until_ready(service, lambda: accepts_connections(port), timeout_s=10, log=log)
    assert accepts_connections(port)


def test_a_port_that_another_process_has_is_not_the_services(start):
    port = free_port(0)
    first = start(LISTEN, str(port), port=port)
    while not accepts_connections(port):
        time.sleep(0.05)
    second = start(SLEEP, port=port)

    assert first.listens()
    assert not second.listens()
    first.stop()
    assert not first.listens()


def test_a_service_that_dies_while_starting_is_told_with_the_end_of_its_log(start, log):
    lines = "".join(f"line {i}\\n" for i in range(30))
    service = start(f"import sys; sys.exit('{lines}No room on disk')")

    with pytest.raises(LocalStackError) as caught:
        wait_until_ready(service, lambda: False, timeout_s=10, log=log)

    message = str(caught.value)
    assert message.startswith("tester has died while starting.")
    assert str(log) in message
    assert message.endswith("line 28\nline 29\nNo room on disk")
    assert "line 5\n" not in message


def test_a_service_that_does_not_answer_in_time_is_told_with_the_end_of_its_log(start, log):
    service = start(f"print('still loading', flush=True); {SLEEP}")
    wait_for_text(log, "still loading")

    with pytest.raises(LocalStackError) as caught:
        wait_until_ready(service, lambda: False, timeout_s=0.1, log=log)

    assert "did not answer within" in str(caught.value)
    assert str(caught.value).endswith("still loading")


def test_only_a_port_with_a_listener_accepts_connections():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert accepts_connections(port)
    assert not accepts_connections(port)


def test_the_tail_of_a_log_is_its_last_20_lines(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % i for i in range(100)) + b"caf\xe9\n")
    expected = [*(f"line {i}" for i in range(81, 100)), "caf\N{REPLACEMENT CHARACTER}"]
    assert log_tail(log).splitlines() == expected


def test_a_log_that_is_not_there_has_no_tail(tmp_path):
    assert log_tail(tmp_path / "log") == ""


def test_a_service_ends_on_sigterm(start):
    service = start(SLEEP)
    process = service.process()
    assert process is not None
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
