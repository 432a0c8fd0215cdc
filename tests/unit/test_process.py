"""Ending with the parent and on signals, in real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tapeline.process import SUPERVISED, run_until_signalled

WAIT_S = 15

WATCHED = """
import time
from tapeline.process import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""

WORKING = """
import asyncio
from tapeline.process import run_until_signalled

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


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python code and wait until it says that it is ready."""
    inherited = {k: v for k, v in os.environ.items() if k != SUPERVISED}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**inherited, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


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


@pytest.mark.parametrize("environment", [{}, {SUPERVISED: "0"}])
def test_a_process_of_its_own_outlives_its_standard_input(environment):
    with start(WATCHED, **environment) as process:
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


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
