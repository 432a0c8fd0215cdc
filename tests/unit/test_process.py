"""Ending with the parent and on signals, in real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from tapeline.program.process import HELD, STOPPED_EXIT_CODE, SUPERVISED, run_until_signalled

WAIT_S = 60

WATCHED = """
import time
from tapeline.program.process import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""

HANGING = """
import subprocess, sys, threading
from tapeline.program.process import end_with_child

child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
end_with_child(child, grace_s=0.2)

def hang():
    threading.Event().wait()

print("ready", flush=True)
sys.stdin.readline()
child.kill()
hang()
"""

WORKING = """
import asyncio
from tapeline.program.process import run_until_signalled

async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        print("cleaned up", flush=True)

run_until_signalled(work())
print("went on", flush=True)
"""


HANGING_STOP = """
import asyncio, time
from tapeline.program.process import run_until_signalled

async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(1.2)
        {hangs}

run_until_signalled(work(), limit_s={limit})
"""

HANGING_END = """
import asyncio, time
from tapeline.program.process import run_until_signalled

async def work():
    print("ready", flush=True)

def hang():
    time.sleep(60)

run_until_signalled(work(), limit_s=1.0)
hang()
"""


def start(code: str, stderr: int | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start Python code and wait until it says that it is ready."""
    process = begin(code, stderr, **environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def held() -> subprocess.Popen[str]:
    """Start a process that its parent holds."""
    return begin(WATCHED, None, **{SUPERVISED: "1", HELD: "1"})


def begin(code: str, stderr: int | None, **environment: str) -> subprocess.Popen[str]:
    """Start Python code."""
    inherited = {k: v for k, v in os.environ.items() if k not in {SUPERVISED, HELD}}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**inherited, **environment},
    )


def test_a_supervised_process_ends_when_its_standard_input_closes():
    with start(WATCHED, **{SUPERVISED: "1"}) as process:
        assert process.stdin is not None
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_what_is_written_to_standard_input_ends_nothing():
    with start(WATCHED, **{SUPERVISED: "1"}) as process:
        assert process.stdin is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.stdin.close()
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_a_process_that_is_held_goes_on_when_its_parent_says_so():
    with held() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        process.stdin.close()
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_a_process_that_is_held_ends_when_its_parent_has_gone():
    with held() as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == STOPPED_EXIT_CODE


@pytest.mark.parametrize("environment", [{}, {SUPERVISED: "0"}])
def test_a_process_of_its_own_outlives_its_standard_input(environment):
    with start(WATCHED, **environment) as process:
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


def test_a_process_that_hangs_after_its_childs_end_says_where_and_ends():
    with start(HANGING, stderr=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)  # while the child lives, nothing ends
        _, error = process.communicate("kill\n", timeout=WAIT_S)
    assert process.returncode == 1
    assert "in hang\n" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hangs", ["await asyncio.sleep(60)", "time.sleep(60)"])
def test_a_second_signal_ends_a_clean_up_that_hangs(number, hangs):
    with start(HANGING_STOP.format(hangs=hangs, limit="None")) as process:
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)  # the same stop, as from a parent and from its closed pipe
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(number)
        assert process.wait(WAIT_S) == -number


def test_a_clean_up_that_hangs_ends_by_itself_and_says_where():
    code = HANGING_STOP.format(hangs="time.sleep(60)", limit="4.0")
    with start(code, stderr=subprocess.PIPE) as process:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "in work\n" in error


def test_a_process_that_hangs_when_its_work_is_done_ends_and_says_where():
    with start(HANGING_END, stderr=subprocess.PIPE) as process:
        _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "in hang\n" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_work_and_waits_for_its_clean_up(number):
    with start(WORKING) as process:
        assert process.stdout is not None
        process.send_signal(number)
        assert process.stdout.read() == "cleaned up\nwent on\n"
        assert process.wait(WAIT_S) == 0


def test_work_that_ends_by_itself_ends_the_run():
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(True)

    run_until_signalled(work())

    assert done == [True]


def test_an_error_of_the_work_comes_through():
    async def work() -> None:
        message = "broken"
        raise ValueError(message)

    with pytest.raises(ValueError, match="broken"):
        run_until_signalled(work())
