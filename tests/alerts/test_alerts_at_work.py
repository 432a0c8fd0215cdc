"""The alerts by Prometheus' own tools, and beside real processes that really fail.

promtool shows each alert on series that were made up. A real Prometheus shows each by its fault,
those of the stream in `test_stream_alerts.py`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tests.alert_rules import PROMETHEUS, RULES, RULES_TESTS, alerts, is_of_the_stream, queries
from tests.commands import TIMEOUT_S, UNMEASURED, repeating, start, wait_for
from tests.live_feed import OwnKafka, own_kafka
from tests.page import read_page
from tests.prometheus import (
    RunningPrometheus,
    answers,
    composed_prometheus,
    prometheus,
    promtool,
)
from tests.served import ServedApi, served_api

TOKEN = "canary-91c4aa07"
SYMBOLS = "AAPL,MSFT,BINANCE:BTCUSDT"
TAPE_MS = 1_710_509_400_000
"""A Friday in March 2024, 13:30 UTC."""
BAD_FRAMES = ("--fault", "malformed=0.2")
FIVE_MINUTES_MS = 300_000
LEAST_SPOOL_MB = 64
"""The smallest that a spool may be limited to."""
OF_A_SLOW_MACHINE = {"TapelineTargetDown of producer", "TapelineFeedSilent of producer"}
"""Fire without a fault too where two answers in a row, or the first trade, take a second or two."""
HEAVY_TRADES = 5_000
HEAVY_CONDITIONS = "|".join(["1"] * 4_500)
"""In Avro each takes two bytes, so that 5,000 trades fill two thirds of the spool."""


def test_the_rules_and_the_configuration_are_valid() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_each_alert_fires_at_its_fault_and_none_when_all_is_well() -> None:
    assert promtool("test", "rules", *RULES_TESTS).count("SUCCESS") == len(RULES_TESTS) == 2


@pytest.mark.parametrize("watched", ["app", "simulated"])
def test_prometheus_of_the_compose_file_looks_for_every_part_by_every_rule(
    watched: str, tmp_path: Path
) -> None:
    """Its command, files and health check are those of the compose file, the ports its own."""
    with composed_prometheus(tmp_path / "container", watched) as running:
        targets = running.ask("targets")["activeTargets"]
        rules = running.ask("rules")["groups"]
    before = "" if watched == "app" else "simulated-"
    assert {(t["labels"]["part"], t["scrapeUrl"]) for t in targets} == {
        ("producer", f"http://{before}producer:9108/metrics"),
        ("stream", f"http://{before}stream:9109/metrics"),
        ("api", f"http://{before}api:8700/metrics"),
    }
    assert sum(len(group["rules"]) for group in rules) == len(alerts())


class Watched(NamedTuple):
    """A Prometheus and what it watches."""

    watching: RunningPrometheus
    producer: str
    """Where the producer's metrics are."""
    api: ServedApi


class Simulator:
    """`tapeline simulate` on one port, for as long as it is wanted."""

    def __init__(self) -> None:
        self._port = free_port(0)
        self.url = f"ws://{LOOPBACK}:{self._port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        environment = {"TAPELINE_SIMULATOR_TOKEN": TOKEN, **UNMEASURED}
        arguments = ("simulate", "--port", str(self._port), *options)
        self._process = start(*arguments, environment=environment)
        wait_for(self._listens, while_runs=self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=TIMEOUT_S)
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self._port)) == 0


@pytest.fixture
def kafka(
    home: Home, turn: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> Iterator[OwnKafka]:
    with own_kafka(tmp_path, home.jars, turn) as own:
        yield own


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.stop()


@contextmanager
def producing(environment: dict[str, str]) -> Iterator[str]:
    """Run `tapeline produce` on a simulator for a while; yields the address of its metrics."""
    port = free_port(0)
    producer = start(
        *("produce", "--source", "simulator", "--symbols", SYMBOLS),
        environment={**environment, "TAPELINE_METRICS__PRODUCER_PORT": str(port), **UNMEASURED},
    )
    try:
        yield f"http://{LOOPBACK}:{port}/metrics"
    finally:
        producer.terminate()
        producer.communicate(timeout=TIMEOUT_S)


def write_tape(path: Path, first_ms: int, count: int, each_ms: int, conditions: str) -> Path:
    """Write a tape of AAPL in Parquet; at its end is one more trade, an hour later.

    The end of a tape would be the producer's too.

    Args:
        path: the file.
        first_ms: event time of its first trade, ms since the epoch.
        count: how many trades it has, beside that last one.
        each_ms: from one of them to the next.
        conditions: of each, as a tape has them.
    """
    times = [first_ms + number * each_ms for number in range(count)]
    rows = len(times) + 1
    columns = {
        "event_time_ms": [*times, times[-1] + 3_600_000],
        "symbol": ["AAPL"] * rows,
        "price": [10.0] * rows,
        "volume": [float(number + 1) for number in range(rows)],
        "conditions": [conditions] * rows,
    }
    parquet.write_table(pa.table(columns), path)
    return path


@contextmanager
def stream_of(api: ServedApi) -> Iterator[None]:
    """Listen to the API meanwhile."""
    asked = {"symbols": "BINANCE:BTCUSDT"}
    with httpx.stream("GET", f"{api.url}/v1/stream", params=asked, timeout=60) as answer:
        assert answer.status_code == 200
        thread = threading.Thread(target=partial(_read_all, answer), daemon=True)
        thread.start()
        yield


def _read_all(answer: httpx.Response) -> None:
    with suppress(httpx.HTTPError, httpx.StreamError):
        for _ in answer.iter_raw():
            pass


def has_trades(producer: str) -> bool:
    """Return whether a producer answers, is in no gap and has had trades."""
    try:
        page = read_page(producer)
    except OSError:
        return False
    return (
        page["tapeline_producer_gap_open"] == 0
        and page['tapeline_producer_trades_total{outcome="accepted"}'] > 0
    )


def surroundings(kafka: OwnKafka, simulator: Simulator) -> dict[str, str]:
    """Return the environment of a producer and an API, without a Cassandra."""
    return {
        "TAPELINE_HOME": str(kafka.home.root),
        "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": kafka.servers,
        "TAPELINE_CASSANDRA__HOST": LOOPBACK,
        "TAPELINE_CASSANDRA__PORT": str(free_port(0)),
        "TAPELINE_FINNHUB__URL": simulator.url,
        "FINNHUB_API_KEY": TOKEN,
        **UNMEASURED,
    }


@contextmanager
def watched(kafka: OwnKafka, simulator: Simulator, folder: Path) -> Iterator[Watched]:
    """Run a producer, an API and a Prometheus that watches them, once there are trades."""
    environment = surroundings(kafka, simulator)
    with producing(environment) as producer, served_api("demo", environment) as api:
        wait_for(lambda: has_trades(producer))
        targets = {"producer": producer, "api": f"{api.url}/metrics"}
        with prometheus(folder / "prometheus", targets) as watching:
            watching.wait_until_all_are_up(2)
            yield Watched(watching, producer, api)


def test_alerts_fire_while_their_fault_lasts(
    kafka: OwnKafka, simulator: Simulator, tmp_path: Path
) -> None:
    """No Cassandra runs: reads of the API fail, and its metrics are served all the same."""
    simulator.start("--symbol-cap", "2")
    with watched(kafka, simulator, tmp_path) as (watching, producer, api):
        time.sleep(3)  # longer than any `for` of these
        for query in queries():
            if not is_of_the_stream(query):
                wait_for(partial(answers, watching, query))
        watching.wait_until_fires("TapelineSymbolsWithoutSlot of producer")
        with repeating(partial(httpx.get, f"{api.url}/v1/symbols", timeout=60)):
            watching.wait_until_fires("TapelineReadsFailing of api")
        watching.wait_until_over("TapelineReadsFailing of api")

        api.kill()
        simulator.stop()
        watching.wait_until_fires("TapelineTargetDown of api")
        watching.wait_until_fires("TapelineFeedDisconnected of producer")
        simulator.start(*BAD_FRAMES)
        api.start()
        watching.wait_until_over("TapelineTargetDown of api")
        watching.wait_until_over("TapelineFeedDisconnected of producer")
        watching.wait_until_over("TapelineSymbolsWithoutSlot of producer")
        watching.wait_until_fires("TapelineDeadLetters of producer")
        simulator.stop()
        simulator.start()

        wait_for(lambda: has_trades(producer))
        kafka.signal(signal.SIGSTOP)
        watching.wait_until_fires("TapelineTradesPending of producer")
        kafka.signal(signal.SIGCONT)
        watching.wait_until_over("TapelineTradesPending of producer")
        with stream_of(api):
            wait_for(lambda: read_page(f"{api.url}/metrics")["tapeline_api_live_up"] == 1)
            kafka.kill()
            watching.wait_until_fires("TapelineLiveViewAway of api")
            kafka.start()
            watching.wait_until_over("TapelineLiveViewAway of api")
        watching.wait_until_over("TapelineTradesPending of producer")

        watching.wait_until_over("TapelineDeadLetters of producer")
        # For a while after the stream its bars are looked for, and there is still no Cassandra.
        wait_for(lambda: watching.firing() <= {"TapelineReadsFailing of api"})
        fired, page = watching.ever_fired(), read_page(producer)

    assert fired - OF_A_SLOW_MACHINE == {
        "TapelineTargetDown of api",
        "TapelineFeedDisconnected of producer",
        "TapelineDeadLetters of producer",
        "TapelineTradesPending of producer",
        "TapelineSymbolsWithoutSlot of producer",
        "TapelineReadsFailing of api",
        "TapelineLiveViewAway of api",
    }
    assert page['tapeline_producer_gaps_total{kind="disconnected"}'] == 2
    assert page['tapeline_producer_gaps_total{kind="dropped"}'] >= 1
    assert page["tapeline_producer_gap_open"] == 0


def test_a_silent_feed_a_condition_without_a_rule_and_a_wrong_clock_fire(
    kafka: OwnKafka, simulator: Simulator, tmp_path: Path
) -> None:
    """The host's clock is five minutes ahead as far as a feed shows whose trades are that old."""
    unknown = write_tape(tmp_path / "unknown.parquet", TAPE_MS, 1, 100, "999")
    simulator.start()
    with watched(kafka, simulator, tmp_path) as (watching, producer, _):
        simulator.stop()
        simulator.start("--fault", "silence=1s:10m")
        watching.wait_until_fires("TapelineFeedSilent of producer")
        simulator.stop()
        simulator.start("--tape", str(unknown))
        watching.wait_until_fires("TapelineUnknownConditions of producer")
        assert "TapelineClockWrong of producer" not in watching.ever_fired()
        simulator.stop()
        begin_ms = time.time_ns() // 1_000_000 - FIVE_MINUTES_MS
        behind = write_tape(tmp_path / "behind.parquet", begin_ms, 600, 100, "1")
        simulator.start("--tape", str(behind))
        watching.wait_until_fires("TapelineClockWrong of producer")
        simulator.stop()
        simulator.start()
        watching.wait_until_over("TapelineClockWrong of producer")
        watching.wait_until_over("TapelineFeedSilent of producer")
        page = read_page(producer)

    assert page["tapeline_producer_unknown_conditions_total"] == 1


def test_a_spool_fires_that_is_half_full_and_one_that_is_damaged(
    kafka: OwnKafka, simulator: Simulator, tmp_path: Path
) -> None:
    """Kafka stands still while trades come that are heavier than those of a real feed."""
    simulator.start()
    environment = {
        **surroundings(kafka, simulator),
        "TAPELINE_SPOOL__MAX_MB": str(LEAST_SPOOL_MB),
    }
    with (
        producing(environment) as producer,
        prometheus(tmp_path / "half full", {"producer": producer}) as watching,
    ):
        watching.wait_until_all_are_up(1)
        wait_for(lambda: has_trades(producer))
        assert "TapelineSpoolHalfFull of producer" not in watching.ever_fired()
        kafka.signal(signal.SIGSTOP)
        simulator.stop()
        now_ms = time.time_ns() // 1_000_000
        heavy = write_tape(tmp_path / "heavy.parquet", now_ms, HEAVY_TRADES, 1, HEAVY_CONDITIONS)
        simulator.start("--tape", str(heavy))
        watching.wait_until_fires("TapelineSpoolHalfFull of producer")
    simulator.stop()
    # Of the first one Kafka has a part.
    damaged = sorted((kafka.home.root / "spool").rglob("*.spool"))[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    kafka.signal(signal.SIGCONT)

    with (
        producing(environment) as producer,
        prometheus(tmp_path / "damaged", {"producer": producer}) as watching,
    ):
        watching.wait_until_all_are_up(1)
        watching.wait_until_fires("TapelineSpoolDamaged of producer")
        watching.wait_until_over("TapelineSpoolHalfFull of producer")
        assert read_page(producer)["tapeline_producer_spool_holes_total"] == 1
