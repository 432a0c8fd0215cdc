"""Tapeline's own commands as child processes."""

from __future__ import annotations

import gc
import os
import time
import warnings
from functools import partial

import psutil
import pytest

import tapeline
from tapeline.local import supervisor
from tapeline.local.ports import free_port
from tapeline.local.service import accepts_connections
from tapeline.local.supervisor import (
    MAX_RESTARTS,
    MAX_RESTARTS_AWAY,
    child_process,
    keep_alive,
    pause_s,
)
from tapeline.model.errors import TapelineError
from tests.commands import wait_for

wait_until = partial(wait_for, timeout_s=30)


def test_a_child_writes_its_log_and_says_how_it_ended(tmp_path):
    with child_process(["version"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        assert child.exit_code == 0
        assert child.name == "version"
        assert child.log_file == tmp_path / "logs" / "version.log"
        assert child.log_file.read_text().split() == [tapeline.__version__]


def test_a_child_can_be_started_again_and_its_log_goes_on(tmp_path):
    with child_process(["version"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        child.restart()
        wait_until(lambda: child.exit_code is not None)
        assert child.exit_code == 0
        assert child.log_file.read_text().split() == [tapeline.__version__] * 2


def test_starting_again_leaves_no_file_open(tmp_path):
    gc.collect()
    open_before = psutil.Process().num_fds()
    with child_process(["version"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            child.restart()
            gc.collect()
    assert [str(w.message) for w in caught] == []
    # Threads that other tests left may close some of theirs meanwhile.
    assert psutil.Process().num_fds() <= open_before


def test_a_child_that_ended_by_itself_is_told_with_code_and_log(tmp_path):
    with child_process(["simulate", "--speed", "never"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        failure = child.failure()
    assert type(failure) is TapelineError
    assert "`tapeline simulate` has ended with code 2" in str(failure)
    assert str(child.log_file) in str(failure)
    assert "--speed is 'max' or a number from" in str(failure)


@pytest.fixture
def port():
    return free_port(0)


def process_of(port):
    """The simulator's process, known by its port among all children of this one.

    A process that has just begun shows no command for a moment.
    """
    (process,) = wait_until(
        lambda: [
            p
            for p in psutil.Process().children()
            if p.status() != psutil.STATUS_ZOMBIE and str(port) in p.cmdline()
        ]
    )
    return process


def test_a_child_that_was_killed_is_started_again(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        wait_until(lambda: accepts_connections(port))
        keep_alive([child])
        assert child.restarts == 0
        process_of(port).kill()
        wait_until(lambda: child.exit_code is not None)

        keep_alive([child])

        assert child.restarts == 1
        wait_until(lambda: accepts_connections(port))
        assert child.exit_code is None


def test_a_child_that_keeps_failing_is_told_in_the_end(tmp_path, port, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 1)
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        for _ in range(2):
            process_of(port).kill()
            wait_until(lambda: child.exit_code is not None)
            if not child.restarts:
                keep_alive([child])
        with pytest.raises(TapelineError, match="`tapeline simulate` has ended with code -9"):
            keep_alive([child])


def test_a_child_that_fails_again_soon_is_started_again_after_a_pause(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        for _ in range(2):
            process_of(port).kill()
            wait_until(lambda: child.exit_code is not None)
            began_s = time.monotonic()
            while child.restarts < 2 and child.exit_code is not None:
                keep_alive([child])
        # The first start again came at once, the second a second after it.
        assert child.restarts == 2
        assert time.monotonic() - began_s < 1.5
        assert child.exit_code is None


def test_pauses_grow_and_a_service_may_be_away_for_a_quarter_of_an_hour():
    pauses = [pause_s(restarts) for restarts in range(MAX_RESTARTS)]
    assert pauses[:8] == [0, 1, 2, 4, 8, 16, 20, 20]
    assert 180 < sum(pauses) < 300
    assert 900 < sum(pause_s(restarts) for restarts in range(MAX_RESTARTS_AWAY)) < 1200


def test_a_child_whose_service_is_away_is_started_again_for_longer(tmp_path, port, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 0)
    away = {"TAPELINE_CASSANDRA__HOST": "127.0.0.1", "TAPELINE_CASSANDRA__PORT": str(port)}
    with child_process(["gaps"], tmp_path, away) as child:
        wait_until(lambda: child.exit_code == 3)
        keep_alive([child])
        assert child.restarts == 1
        wait_until(lambda: child.exit_code == 3)
        monkeypatch.setattr(supervisor, "MAX_RESTARTS_AWAY", 1)
        with pytest.raises(TapelineError, match="`tapeline gaps` has ended with code 3"):
            keep_alive([child])


def test_waiting_for_a_service_leaves_a_child_its_restarts_for_other_failures(
    tmp_path, port, monkeypatch
):
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 1)
    monkeypatch.setattr(supervisor, "_IN_VAIN", frozenset())
    away = {"TAPELINE_CASSANDRA__HOST": "127.0.0.1", "TAPELINE_CASSANDRA__PORT": str(port)}
    with child_process(["gaps"], tmp_path, away) as child:
        for restarts in (1, 2):
            wait_until(lambda: child.exit_code == 3)
            while child.restarts < restarts:
                keep_alive([child])
        # From now on it fails for another reason.
        child._environment["TAPELINE_CASSANDRA__PORT"] = "none"  # noqa: SLF001 - the same command
        wait_until(lambda: child.exit_code == 3)
        while child.restarts < 3:
            keep_alive([child])
        wait_until(lambda: child.exit_code == 2)
        while child.restarts < 4:
            keep_alive([child])
        wait_until(lambda: child.exit_code == 2)
        with pytest.raises(TapelineError, match="`tapeline gaps` has ended with code 2"):
            keep_alive([child])


def test_a_child_that_went_well_for_long_has_its_restarts_again(tmp_path, port, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 1)
    monkeypatch.setattr(supervisor, "_STABLE_S", 0.0)
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        for _ in range(3):
            process_of(port).kill()
            wait_until(lambda: child.exit_code is not None)
            while child.exit_code is not None:
                keep_alive([child])
        assert child.restarts == 1


def test_a_child_that_would_fail_again_in_the_same_way_is_told_at_once(tmp_path):
    with child_process(["simulate", "--speed", "never"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        with pytest.raises(TapelineError, match="has ended with code 2"):
            keep_alive([child])
        assert child.restarts == 0


def test_a_child_that_ended_well_is_left_alone(tmp_path):
    with child_process(["version"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        keep_alive([child])
        assert (child.restarts, child.exit_code) == (0, 0)


def test_a_child_is_stopped_at_the_end_and_ends_in_order(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        wait_until(lambda: accepts_connections(port))
        assert child.exit_code is None
        process = process_of(port)
        assert os.getsid(process.pid) == process.pid
    assert child.exit_code == 143  # stopped, and not at the end of its work
    assert not accepts_connections(port)
    assert "simulator_listening" in child.log_file.read_text()


def test_the_environment_is_added_to_ours(tmp_path):
    with child_process(["simulate"], tmp_path, {"TAPELINE_KAFKA__PARTITIONS": "none"}) as child:
        wait_until(lambda: child.exit_code is not None)
        assert child.exit_code == 2
        assert "TAPELINE_KAFKA__PARTITIONS" in child.log_file.read_text()


def is_listening(port):
    return lambda: accepts_connections(port)


def test_a_child_that_is_held_goes_on_when_it_is_released(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path, is_held=True) as child:
        process_of(port)
        time.sleep(2)
        assert not accepts_connections(port)
        child.release()
        wait_until(is_listening(port))
        assert child.exit_code is None


def test_a_child_that_was_killed_while_it_was_held_is_not_held_again_after_its_release(
    tmp_path, port
):
    with child_process(["simulate", "--port", str(port)], tmp_path, is_held=True) as child:
        process_of(port).kill()
        wait_until(lambda: child.exit_code is not None)
        child.release()
        keep_alive([child])
        wait_until(is_listening(port))


def test_a_child_that_is_held_ends_when_it_is_stopped(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path, is_held=True) as child:
        process_of(port)
    assert child.exit_code is not None
