"""Run `tapeline` as a user does: in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil

from tapeline.read.bars import read_bars

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 1_800
"""For a machine that is three times as slow as ours, with two more stacks of tests on it."""
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
"""For a process that gets a signal: one amid the bookkeeping of coverage can stop it for ever."""
LAUNCHER = "org.apache.spark.launcher.Main"
DRIVER = "org.apache.spark.deploy.SparkSubmit"


def start(
    *arguments: str, environment: Mapping[str, str] | None = None, merge: bool = True
) -> subprocess.Popen[str]:
    """Start a command; its output is a pipe, with its errors unless told otherwise."""
    return subprocess.Popen(
        [sys.executable, "-m", "tapeline", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )


def start_in_background(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command that gives way to us, so that a signal comes amid its work, however fast."""
    process = start(*arguments, environment={**UNMEASURED, **(environment or {})})
    psutil.Process(process.pid).nice(19)  # of its first thread, which the others inherit
    return process


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a command and return its output; it must succeed."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    return output


def run(*arguments: str, environment: Mapping[str, str] | None = None, merge: bool = True) -> str:
    """Run a command to its successful end and return its output."""
    return finish(start(*arguments, environment=environment, merge=merge))


def fail(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command that must fail; return its exit code and output, without a traceback."""
    process = start(*arguments, environment=environment)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode != 0, output
    assert "Traceback" not in output
    return process.returncode, output


def is_healthy(*arguments: str, environment: Mapping[str, str] | None = None) -> bool:
    """Ask `scripts/health.py` as a container's health check does."""
    process = subprocess.run(
        [sys.executable, ROOT / "scripts" / "health.py", *arguments],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    return process.returncode == 0


def rows_of_layers(output: str) -> dict[str, int]:
    """Read the table that ends a replay."""
    return {
        name.strip(): int(count.replace(",", ""))
        for name, count in re.findall(r"│ ([\w ,]+?)\s+│\s+([\d,]+) │", output)
    }


def stored_bars(
    symbols: set[str], interval: str, keyspace: str
) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Return every bar of some symbols by symbol and start."""
    start_of_all = datetime(2013, 1, 1, tzinfo=timezone.utc)
    end_of_all = datetime.now(timezone.utc)
    table = read_bars(sorted(symbols), interval, start_of_all, end_of_all, keyspace=keyspace)
    return {(row["symbol"], row["window_start"]): row for row in table.to_pylist()}


def commands_below(parent: int) -> dict[psutil.Process, list[str]]:
    """Return the living processes below one, with the command line of each."""
    found = {}
    for child in psutil.Process(parent).children(recursive=True):
        # One that has just ended is no living process.
        with contextlib.suppress(psutil.NoSuchProcess):
            found[child] = child.cmdline()
    return found


def spark_drivers(parent: int) -> list[psutil.Process]:
    """Return the Java processes of Spark below a process, not the launcher that starts them."""
    return [
        child
        for child, command in commands_below(parent).items()
        if DRIVER in command and LAUNCHER not in command and command[0].endswith("java")
    ]


@contextlib.contextmanager
def repeating(act: Callable[[], object], every_s: float = 0.1) -> Iterator[None]:
    """Do something again and again meanwhile, in a thread."""
    ends = threading.Event()

    def repeat() -> None:
        while not ends.wait(every_s):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def wait_for(
    condition: Callable[[], Any],
    timeout_s: float = 300.0,
    while_runs: subprocess.Popen[str] | None = None,
) -> Any:
    """Wait until a condition returns something true, and return it; a process may not end."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if while_runs is not None:
            assert while_runs.poll() is None, finish(while_runs)
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return value
