"""A Kafka of a test's own, to be stopped or killed, and a feed that does not wait."""

from __future__ import annotations

import contextlib
import csv
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, TopicPartition
from fastavro import schemaless_reader
from fastavro.schema import load_schema
from rich.console import Console

from tapeline.kafka.topics import create_topics, topic_admin
from tapeline.local.home import Home
from tapeline.local.java import find_java
from tapeline.local.kafka import kafka_answers
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK, RunningService
from tapeline.local.stack import LocalStack
from tapeline.local.state import KAFKA, write_state
from tapeline.model.gap import Gap, ends_of
from tapeline.program.profile import Profile
from tapeline.program.service_settings import KafkaSettings
from tests.commands import ROOT, wait_for

TOPIC = "faults"
TOKEN = "canary-5f2d7c61"
_SCHEMA: Any = load_schema(str(ROOT / "schemas" / "avro" / "trade.avsc"))
_HEADER_BYTES = 10
# Above those of local services, below those that the system gives out.
_FIRST_PORT = 20_000
_PORTS = 12_000
SYMBOLS = ("AAPL", "MSFT", "BINANCE:BTCUSDT", "SPY")
PRODUCE = (
    *("produce", "--topic", TOPIC, "--producer-id", "me"),
    *("--symbols", ",".join(SYMBOLS), "--log-level", "DEBUG"),
)


class Seen(NamedTuple):
    """A trade in Kafka; `size` tells it from every other one of the tape."""

    symbol: str
    size: int
    event_time_ms: int
    received_at_us: int
    appended_at_us: int
    """When Kafka wrote it, by the broker's clock."""


@dataclass
class OwnKafka:
    """A broker in a home of its own, started when it is its `turn` to choose ports."""

    home: Home
    turn: Callable[[], AbstractContextManager[None]]
    service: RunningService | None = None
    _stack: LocalStack = field(init=False)

    def __post_init__(self) -> None:
        self._stack = LocalStack(self.home, Console(quiet=True), Profile.SMALL)

    @property
    def servers(self) -> str:
        assert self.service is not None
        return f"{LOOPBACK}:{self.service.port}"

    def start(self) -> None:
        """Start it, again on the port that it had."""
        with self.turn():  # its ports are taken only once it answers
            self.service = self._stack.start_one(KAFKA, find_java())
            write_state(self.home, [self.service], kept=True)
            wait_for(lambda: kafka_answers(self._port))

    def signal(self, number: signal.Signals) -> None:
        assert self.service is not None
        os.kill(self.service.pid, number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        assert self.service is not None
        wait_for(lambda: self.service is not None and self.service.process() is None)

    def end(self) -> None:
        if self.service is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.service.stop()

    @property
    def _port(self) -> int:
        assert self.service is not None
        return self.service.port

    def messages(self, topic: str) -> list[Any]:
        """Return everything that a topic holds now, each partition in its order."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "test",
                "auto.offset.reset": "earliest",
            }
        )
        found: list[Any] = []
        try:
            metadata = consumer.list_topics(topic, timeout=60)
            places = [TopicPartition(topic, p, 0) for p in metadata.topics[topic].partitions]
            left = sum(_end_of(consumer, place) for place in places)
            consumer.assign(places)
            while len(found) < left:
                some = consumer.consume(min(10_000, left - len(found)), 60)
                assert some, f"{len(found)} of {left} messages came"
                assert all(m.error() is None for m in some)
                found += some
        finally:
            consumer.close()
        return found

    def trades(self) -> list[Seen]:
        """Return the trades in Kafka, those of a symbol in their order."""
        seen = []
        for message in self.messages(TOPIC):
            record: Any = schemaless_reader(BytesIO(message.value()[_HEADER_BYTES:]), _SCHEMA, None)
            kind, appended_at_ms = message.timestamp()
            assert kind == TIMESTAMP_LOG_APPEND_TIME
            seen.append(
                Seen(
                    record["symbol"],
                    round(record["volume"]),
                    round(record["event_time"].timestamp() * 1000),
                    round(record["received_at"].timestamp() * 1_000_000),
                    appended_at_ms * 1000,
                )
            )
        return seen

    def gaps(self) -> list[tuple[int, int | None]]:
        """Return the recorded gaps that mark bars, as readers take them: start and end in µs."""
        newest = {m.key(): Gap.from_bytes(m.value()) for m in self.messages("feed_gaps")}
        marking = [gap for gap in newest.values() if gap.kind.marks_bars]
        return sorted((gap.started_us, end) for gap, end in ends_of(marking))


@dataclass
class LiveFeed:
    """A tape of the present, played by the simulator, which waits for nobody."""

    kafka: OwnKafka
    folder: Path
    rate: int
    seconds: float
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _logs: dict[int, Path] = field(default_factory=dict)
    _port: int = 0

    def start(self) -> None:
        """Write the tape and serve it; it begins with the first listener."""
        create_topics(topic_admin(self.kafka.servers), KafkaSettings(topic=TOPIC))
        tape = self.folder / "tape.csv"
        start_ms = int(time.time() * 1000) + 1000
        with tape.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("event_time_ms", "symbol", "price", "volume", "conditions"))
            for number in range(self.count):
                at_ms = start_ms + number * 1000 // self.rate
                price = 10 + number * 7 % 1000 / 1000
                writer.writerow((at_ms, SYMBOLS[number % 4], price, number + 1, "1"))
        self._port = free_port(_FIRST_PORT + secrets.randbelow(_PORTS))
        arguments = ["simulate", "--tape", str(tape), "--frame-ms", "20", "--send-limit", "65536"]
        simulator = self._start([*arguments, "--port", str(self._port)], "simulate.log")
        wait_for(lambda: "simulator_listening" in self.log_of(simulator))

    @property
    def count(self) -> int:
        return round(self.rate * self.seconds)

    @property
    def all(self) -> set[tuple[str, int]]:
        """Every trade of the tape."""
        return {(SYMBOLS[number % 4], number + 1) for number in range(self.count)}

    @property
    def environment(self) -> dict[str, str]:
        """What a producer of this feed is told by variables."""
        return {
            "TAPELINE_HOME": str(self.kafka.home.root),
            "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.servers,
            "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{self._port}",
            "TAPELINE_SIMULATOR_TOKEN": TOKEN,
            "FINNHUB_API_KEY": TOKEN,
            "TAPELINE_METRICS__PRODUCER_PORT": "0",
        }

    def produce(
        self, before: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a producer of a live feed."""
        number = len(self._processes)
        return self._start(PRODUCE, f"produce-{number}.log", before, **environment)

    def log_of(self, process: subprocess.Popen[str]) -> str:
        return self._logs[process.pid].read_text(encoding="utf-8")

    def logs(self) -> str:
        return "".join(p.read_text(encoding="utf-8") for p in self.folder.glob("*.log"))

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _start(
        self,
        arguments: Sequence[str],
        log: str,
        before: Callable[[], None] | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        path = self.folder / log
        with path.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tapeline", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=before,  # noqa: PLW1509 - no other thread of ours runs
                env={**os.environ, **self.environment, **environment},
            )
        self._processes.append(process)
        self._logs[process.pid] = path
        return process


@contextlib.contextmanager
def own_kafka(
    folder: Path, jars: Path, turn: Callable[[], AbstractContextManager[None]]
) -> Iterator[OwnKafka]:
    """Run a Kafka for a while in a folder.

    Its port is one that nobody else looks for, or the Kafka of another test would take it while
    this one is dead, and get its messages.
    """
    root = folder / "home"
    root.mkdir()
    (root / "jars").symlink_to(jars)
    home = Home(root)
    port = free_port(_FIRST_PORT + secrets.randbelow(_PORTS))
    write_state(home, [RunningService(KAFKA, 0, 0.0, port)], kept=True)
    kafka = OwnKafka(home, turn)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.end()


@contextlib.contextmanager
def live_feed(kafka: OwnKafka, folder: Path, rate: int, seconds: float) -> Iterator[LiveFeed]:
    """Serve a feed for a while."""
    feed = LiveFeed(kafka, folder, rate, seconds)
    feed.start()
    try:
        yield feed
    finally:
        feed.end()
    assert_token_nowhere(folder)


def assert_token_nowhere(folder: Path) -> None:
    """Require that the feed's token stands in no file of a folder, and in no name of one."""
    for path in folder.rglob("*"):
        assert TOKEN not in path.name
        if path.is_file():
            with path.open("rb") as file:
                before = b""
                while part := file.read(1 << 24):
                    assert TOKEN.encode() not in before + part, path
                    before = part[-len(TOKEN) :]


def size_of_spool(home: Home) -> int:
    """Return how many bytes all spools take."""
    return sum(path.stat().st_size for path in home.spool.rglob("*.spool"))


def _end_of(consumer: Consumer, place: TopicPartition) -> int:
    """Return a partition's next offset, also of a Kafka that has just come back."""
    deadline_s = time.monotonic() + 300
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=60)[1])
        except KafkaException:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.5)
