"""The commands of the plan, word for word, from the checkout's root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tapeline import read_bars
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tests.commands import TIMEOUT_S, start, wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def running(
    words: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command as it is written, `python` being the tests' own; interrupt it at the end."""
    process = subprocess.Popen(
        [sys.executable if word == "python" else word for word in words.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.usefixtures("stack")
def test_a_key_and_three_commands_bring_bars_into_market_data() -> None:
    port = free_port(0)
    feed = {"FINNHUB_API_KEY": "simulated", "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{port}"}
    init = subprocess.run(
        [sys.executable, "scripts/init_cassandra.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert init.returncode == 0, init.stdout + init.stderr
    simulator = start("simulate", "--port", str(port))
    try:
        with (
            running("python -m src.producer.main --symbols AAPL,MSFT", feed) as producer,
            running("python -m src.consumer.main") as consumer,
        ):
            bars = wait_for(
                lambda: (
                    _symbols_with_bars()
                    or producer.poll() is not None
                    or consumer.poll() is not None
                )
            )
            assert bars == {"AAPL", "MSFT"}
    finally:
        simulator.terminate()
        simulator.communicate()


def _symbols_with_bars() -> set[str]:
    """Return the symbols with a bar of more than one trade, once both have one."""
    now = datetime.now(timezone.utc)
    table = read_bars(["AAPL", "MSFT"], "5m", now - timedelta(minutes=10), now)
    found = {row["symbol"] for row in table.to_pylist() if row["trade_count"] > 1}
    return found if len(found) > 1 else set()
