"""The steps of one large batch in a warm JVM: a table in which a regression shows its place."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bench.check import check_layers
from bench.into_kafka import Loaded, fill
from bench.load import SeededLoad
from bench.services import Services, fresh_services

TOPIC: Final = "bench_steps"
KEYSPACE: Final = "bench_steps"
_LONGEST_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class StepsOptions:
    """What to run; every run but the last warms the JVM up."""

    trades: int = 1_000_000
    symbols: int = 50
    runs: int = 3


def run_steps(options: StepsOptions) -> Iterator[dict[str, Any]]:
    """Yield what each step cost in each run.

    Raises:
        WrongOutputError: what the steps wrote is wrong.
    """
    with fresh_services() as services:
        services.run("init", "--topic", TOPIC, "--keyspace", KEYSPACE)
        load = SeededLoad(options.trades, options.symbols)
        loaded = fill(services.bootstrap_servers, TOPIC, load, ends=False)
        for line in _job(services, loaded, options):
            result = json.loads(line)
            _check_bars(result, loaded)
            print(_line(result))
            yield result
        with services.session() as session:
            check_layers(session, KEYSPACE, loaded.truth, loaded.offsets, loaded.topic_id)


def _job(services: Services, loaded: Loaded, options: StepsOptions) -> Iterator[str]:
    """Run the steps in a process of their own; yield a line of JSON a step."""
    command = [
        *(sys.executable, "-m", "bench.spark_steps"),
        *("--topic", TOPIC, "--topic-id", loaded.topic_id, "--keyspace", KEYSPACE),
        *("--cassandra-pid", str(services.pid_of("cassandra"))),
        *("--messages", str(loaded.truth.messages), "--runs", str(options.runs)),
    ]
    process = services.start("steps", command)
    deadline = time.monotonic() + _LONGEST_S
    told = 0
    while True:
        is_over = not process.is_running()
        text = process.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.split("\n")[:-1] if line.startswith('{"step"')]
        yield from lines[told:]
        told = len(lines)
        if is_over:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(process.failure())
        time.sleep(0.2)
    process.require()


def _check_bars(result: dict[str, Any], loaded: Loaded) -> None:
    wanted = {"trades": loaded.truth.trades, "messages": loaded.truth.messages}
    counted = result["counted"]
    if counted is not None and counted not in wanted.values():
        text = f"step {result['step']} counts {counted:,} trades of {wanted}"
        raise ValueError(text)


def _line(result: dict[str, Any]) -> str:
    if result["missing"]:
        return f"  run {result['run']} {result['step']:34} not in this version"
    return (
        f"  run {result['run']} {result['step']:34} {result['seconds']:6.1f} s; CPU-s a million: "
        f"Spark {result['spark_cpu_s_per_million']:6.1f}, "
        f"Cassandra {result['cassandra_cpu_s_per_million']:6.1f}"
    )
