"""Tapeline's own commands as child processes."""

from __future__ import annotations

import gc
import os
import time
import warnings

import psutil
import pytest

import tapeline
from tapeline.errors import TapelineError
from tapeline.local.service import accepts_connections, free_port
from tapeline.supervisor import child_process

WAIT_S = 30


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    open_before = psutil.Process().num_fds()
    with child_process(["version"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            child.restart()
            gc.collect()
    assert [str(w.message) for w in caught] == []
    assert psutil.Process().num_fds() == open_before


def test_a_child_that_ended_by_itself_is_told_with_code_and_log(tmp_path):
    with child_process(["simulate", "--speed", "never"], tmp_path) as child:
        wait_until(lambda: child.exit_code is not None)
        failure = child.failure()
    assert type(failure) is TapelineError
    assert "`tapeline simulate` has ended with code 2" in str(failure)
    assert str(child.log_file) in str(failure)
    assert "--speed is 'max' or a number above 0" in str(failure)


@pytest.fixture
def port():
    return free_port(0)


def test_a_child_is_stopped_at_the_end_and_ends_in_order(tmp_path, port):
    with child_process(["simulate", "--port", str(port)], tmp_path) as child:
        wait_until(lambda: accepts_connections(port))
        assert child.exit_code is None
        (process,) = psutil.Process().children()
        assert os.getsid(process.pid) == process.pid
    assert child.exit_code == 0
    assert not accepts_connections(port)
    assert "simulator_listening" in child.log_file.read_text()


def test_the_environment_is_added_to_ours(tmp_path):
    with child_process(["simulate"], tmp_path, {"TAPELINE_KAFKA__PARTITIONS": "none"}) as child:
        wait_until(lambda: child.exit_code is not None)
        assert child.exit_code == 2
        assert "kafka.partitions" in child.log_file.read_text()
