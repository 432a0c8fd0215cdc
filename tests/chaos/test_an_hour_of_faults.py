"""A live feed for an hour with a fault each minute: what is missing is in a gap, and nothing grows.

Real processes of a home of their own, looked after as `tapeline demo` looks after its own. Every
trade of the tape has a size of its own, so what is lost is known by name. `CHAOS_MINUTES` says how
long it takes, an hour if not set, and `CHAOS_SEED` which seed chooses the faults, the first if not
set.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Final

import psutil
import pytest
from cassandra.cluster import NoHostAvailable
from rich.console import Console

from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack
from tapeline.local.state import CASSANDRA, KAFKA
from tapeline.local.supervisor import Child, child_process, keep_alive
from tapeline.program.profile import Profile
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tests.chaos.test_producer_faults import assert_covered
from tests.chaos.test_stream_faults import service_of
from tests.commands import run, spark_drivers, wait_for
from tests.live_feed import PRODUCE, TOPIC, LiveFeed, OwnKafka, Seen, live_feed, size_of_spool

MINUTES: Final = int(os.environ.get("CHAOS_MINUTES", "60"))
SEED: Final = int(os.environ.get("CHAOS_SEED", "1"))
RATE: Final = 500
WINDOW_MS: Final = 300_000
BETWEEN_S: Final = 60.0
"""From one fault to the next; none lasts longer than a third of it."""
END_S: Final = 300.0
SAMPLE_S: Final = 5.0
FLAT: Final = 1.25
"""How much more the last quarter of the time may take of anything than the second one."""
SLACK_S: Final = 5.0
"""How much longer than what it lacks a gap may be, beside what the feed is late."""
MOST_FILES: Final = 450
"""Four for each of the hundred batches that Spark keeps, and a few."""


@dataclass
class Running:
    """The processes of one feed, and what is done to them."""

    home: Home
    turn: Callable[[], AbstractContextManager[None]]
    producer: Child
    stream: Child

    def look_after(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            keep_alive([self.producer, self.stream])
            time.sleep(0.2)

    def kill_spark(self) -> None:
        for driver in spark_drivers(self.pid_of("stream")):
            driver.kill()

    def kill_stream(self) -> None:
        os.kill(self.pid_of("stream"), signal.SIGKILL)

    def stop_stream(self) -> None:
        again(self.stream)

    def kill_producer(self) -> None:
        os.kill(self.pid_of("produce"), signal.SIGKILL)

    def stop_producer(self) -> None:
        again(self.producer)

    def halt_producer(self) -> None:
        self.halt(self.pid_of("produce"), 5)

    def halt_kafka(self) -> None:
        self.halt(service_of(self.home, KAFKA).pid, 15)

    def halt_cassandra(self) -> None:
        self.halt(service_of(self.home, CASSANDRA).pid, 15)

    def kill_kafka(self) -> None:
        self.kill(KAFKA)

    def kill_cassandra(self) -> None:
        self.kill(CASSANDRA)

    def halt(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.look_after(seconds)
        os.kill(pid, signal.SIGCONT)

    def kill(self, name: str) -> None:
        with self.turn():
            os.kill(service_of(self.home, name).pid, signal.SIGKILL)
            self.look_after(10)
            LocalStack(self.home, Console(quiet=True), Profile.SMALL).up(keep=True)

    def pid_of(self, command: str) -> int:
        """Return a command's process; it may be about to be started again."""
        return int(wait_for(lambda: our_child(command), 60))


def our_child(command: str) -> int | None:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.cmdline()[1:4] == ["-m", "tapeline", command]:
                return child.pid
    return None


def again(child: Child) -> None:
    """Ask a child to stop and start it again; one that has hardly begun dies of it."""
    child.stop()
    assert child.exit_code in {0, 128 + signal.SIGTERM, -signal.SIGTERM}, child.failure()
    child.restart()


FAULTS: Final = tuple(
    name for name in vars(Running) if name.split("_")[0] in {"kill", "stop", "halt"} and "_" in name
)


class Samples(threading.Thread):
    """What the processes take, every few seconds, and how far silver is behind the feed."""

    def __init__(self, running: Running, client: CassandraClient, topic_id: str) -> None:
        super().__init__(daemon=True)
        self.running = running
        self.client = client
        self.topic_id = topic_id
        self.seen: defaultdict[str, list[float]] = defaultdict(list)
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(SAMPLE_S):
            with suppress(psutil.Error, NoHostAvailable, ValueError, OSError):
                self.look()

    def look(self) -> None:
        of = self.running
        trees = {"stream": our_child("stream"), "producer": our_child("produce")}
        trees |= {name: service_of(of.home, name).pid for name in (KAFKA, CASSANDRA)}
        for name, pid in trees.items():
            if pid is not None and time.time() - psutil.Process(pid).create_time() > BETWEEN_S / 2:
                self.seen[f"{name}, MB"].append(memory_mb(pid))
        files = [f for f in (of.home.root / "checkpoints").rglob("*") if f.is_file()]
        self.seen["checkpoint, files"].append(len(files))
        self.seen["spool, MB"].append(size_of_spool(of.home) / 1e6)
        newest = [p.newest_event_time for p in self.client.progress(self.topic_id).values()]
        known = [at for at in newest if at is not None]
        self.seen["silver behind, s"].append(
            (datetime.now(timezone.utc) - max(known)).total_seconds()
        )

    def quarters(self) -> dict[str, tuple[float, float]]:
        """Return the median of the second and of the last quarter of each."""
        found = {}
        for name, values in self.seen.items():
            quarter = max(1, len(values) // 4)
            found[name] = (
                statistics.median(values[quarter : 2 * quarter] or values),
                statistics.median(values[-quarter:]),
            )
        return found


def memory_mb(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 1e6


@pytest.mark.long
def test_an_hour_of_faults_loses_nothing_that_is_not_in_a_gap_and_nothing_grows(
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = Home(tmp_path / "home")
    own.root.mkdir()
    (own.root / "jars").symlink_to(home.jars)
    monkeypatch.setenv("TAPELINE_HOME", str(own.root))
    faults = random.Random(SEED)  # noqa: S311 - a choice, not a secret
    done: list[str] = []
    with ExitStack() as stack:
        kafka = stack.enter_context(own_services(own, turn))
        feed = stack.enter_context(live_feed(kafka, tmp_path, RATE, MINUTES * BETWEEN_S))
        settings = load_settings().with_target(topic=TOPIC, keyspace=TOPIC)
        endpoints = find_endpoints(settings)
        client = stack.enter_context(
            closing(
                CassandraClient(
                    settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
                )
            )
        )
        client.create_schema()
        running = stack.enter_context(started(own, turn, feed))
        topic_id = topic_id_of(topic_admin(kafka.servers), TOPIC)
        samples = Samples(running, client, topic_id)
        wait_for(lambda: at_work(running, client, topic_id), END_S)
        samples.start()
        began_s = time.monotonic()
        for minute in range(1, MINUTES):
            running.look_after(began_s + minute * BETWEEN_S - time.monotonic())
            done.append(faults.choice(FAULTS))
            getattr(running, done[-1])()
        running.look_after(began_s + MINUTES * BETWEEN_S - time.monotonic())
        samples.is_over.set()
        wait_for(lambda: ended(running), END_S)
        caught_up_s = time.monotonic() - began_s - MINUTES * BETWEEN_S
        kafka.service = service_of(own, KAFKA)
        trades = kafka.trades()
        gaps = kafka.gaps()
        quarters = samples.quarters()
        with capsys.disabled():
            told = f"{len(done)} faults: {', '.join(done)}; {feed.count} trades, {len(gaps)} gaps"
            print(f"\n{told}, all final {caught_up_s:.0f} s after the end")  # noqa: T201 - for the reader
            for name, (second, last) in quarters.items():
                print(f"{name}: {second:.1f}, {last:.1f}")  # noqa: T201 - the same

        missing = assert_covered(feed.count, trades, gaps, RATE)
        lengths = [(end - start) / 1e6 for start, end in gaps if end is not None]
        with capsys.disabled():
            longest = max(lengths, default=0)
            told = f"each in a gap; all {sum(lengths):.1f} s, the longest {longest:.1f} s"
            print(f"{missing} trades missing, {told}")  # noqa: T201 - the same
        assert len(lengths) == len(gaps)
        late_s = statistics.median(t.received_at_us / 1e6 - t.event_time_ms / 1e3 for t in trades)
        assert sum(lengths) <= missing / RATE + (late_s + SLACK_S) * len(gaps)
        assert_tables(client, feed, trades)
        assert_complete(client, trades, gaps)
        run("audit", "--keyspace", TOPIC, "--topic", TOPIC)
        _, files = quarters.pop("checkpoint, files")
        assert files < MOST_FILES
        for name, (second, last) in quarters.items():
            assert last <= max(FLAT * second, second + 2), (name, second, last)


@contextmanager
def own_services(
    home: Home, turn: Callable[[], AbstractContextManager[None]]
) -> Iterator[OwnKafka]:
    services = LocalStack(home, Console(quiet=True), Profile.SMALL)
    try:
        with turn():
            services.up(keep=True)
        yield OwnKafka(home, turn, service_of(home, KAFKA))
    finally:
        services.down()


@contextmanager
def started(
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    feed: LiveFeed,
) -> Iterator[Running]:
    stream = ["stream", "--topic", TOPIC, "--keyspace", TOPIC, "--until-final"]
    environment = {"TAPELINE_PROFILE": "small", "TAPELINE_METRICS__STREAM_PORT": "0"}
    with (
        child_process(PRODUCE, home.root, feed.environment) as producer,
        child_process(stream, home.root, environment) as streaming,
    ):
        yield Running(home, turn, producer, streaming)


def at_work(running: Running, client: CassandraClient, topic_id: str) -> bool:
    keep_alive([running.producer, running.stream])
    return bool(client.progress(topic_id))


def ended(running: Running) -> bool:
    """Look after both; return whether they have ended well."""
    keep_alive([running.producer, running.stream])
    return running.producer.exit_code == 0 and running.stream.exit_code == 0


def assert_tables(client: CassandraClient, feed: LiveFeed, trades: list[Seen]) -> None:
    """Silver has what Kafka has, once; every bar is final, and none that lacks a trade complete."""
    reached = {(t.symbol, t.size, t.event_time_ms) for t in trades}
    rows = client.session.execute(f"SELECT symbol, volume, event_time FROM {TOPIC}.trades_silver")
    found = [(r.symbol, round(r.volume), ms_of(r.event_time)) for r in rows]
    assert len(found) == len(reached)
    assert set(found) == reached

    sizes: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for symbol, size, at_ms in reached:
        sizes[symbol, at_ms // WINDOW_MS * WINDOW_MS].append(size)
    lost = feed.all - {(symbol, size) for symbol, size, _ in reached}
    by_size = {size: at_ms for _, size, at_ms in reached}
    first = min(by_size)
    holes = {
        (symbol, (by_size[first] + (size - first) * 1000 // RATE) // WINDOW_MS * WINDOW_MS)
        for symbol, size in lost
    }
    rows = client.session.execute(
        "SELECT symbol, window_start, volume, trade_count, is_final, is_complete "
        f"FROM {TOPIC}.trades_gold_5m"
    )
    bars = {(r.symbol, ms_of(r.window_start)): r for r in rows}
    assert bars.keys() == sizes.keys()
    for window, bar in bars.items():
        assert bar.trade_count == len(sizes[window]), window
        assert Decimal(bar.volume) == sum(sizes[window]), window
        assert bar.is_final, window
        assert not (bar.is_complete and window in holes), window


def assert_complete(
    client: CassandraClient, trades: list[Seen], gaps: list[tuple[int, int | None]]
) -> None:
    """Every bar between the feed's ends is complete, but for those that a gap touches."""
    first_ms = min(t.received_at_us for t in trades) // 1000
    last_ms = max(t.event_time_ms for t in trades)
    rows = client.session.execute(
        f"SELECT symbol, window_start, is_complete FROM {TOPIC}.trades_gold_5m"
    )
    whole = 0
    for row in rows:
        start_ms = ms_of(row.window_start)
        end_ms = start_ms + WINDOW_MS
        is_affected = any(
            start <= end_ms * 1000 and (end is None or start_ms * 1000 <= end)
            for start, end in gaps
        )
        if first_ms <= start_ms and end_ms <= last_ms and not is_affected:
            assert row.is_complete, (row.symbol, row.window_start)
            whole += 1
    assert whole or MINUTES < 60


def ms_of(at: datetime) -> int:
    return round(at.replace(tzinfo=timezone.utc).timestamp() * 1000)
