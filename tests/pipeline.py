"""The product's own parts joined for tests, in one process, on real services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import RoundRobinPolicy
from confluent_kafka import Producer
from pydantic import SecretStr
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_place import Place
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.sinks import CassandraSink
from tapeline.consumer.spark_processor import Layer, SparkProcessor, Topic
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.finalizer import Finalizer, RoundResult, StreamKnowledge
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.conditions import SIP
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool import Spool
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import Metrics
from tapeline.program.settings import Settings, load_settings
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tapeline.simulator.tape import Tape
from tapeline.storage.bar_rows import GOLD_TABLES
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import StatesOfWindows

from .commands import wait_for

TOKEN = "test-token"
KEEP_ALIVE_MS = 3_600_000
# However busy the machine is.
_LONG_ROUND_S = 600.0
_SPOOL_BYTES = 256 * 2**20
BOTH = frozenset({Layer.BRONZE, Layer.SILVER})


@dataclass
class Pipeline:
    """One topic and keyspace, and every part that works on them."""

    spark: SparkSession
    endpoints: Endpoints
    settings: Settings
    client: CassandraClient
    session: Session
    topic_id: str
    folder: Path
    checkpoints_below: Place | None = None
    """Where checkpoints lie, if not in the folder."""
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @classmethod
    @contextmanager
    def create(
        cls, spark: SparkSession, endpoints: Endpoints, name: str, folder: Path
    ) -> Iterator[Pipeline]:
        settings = load_settings().with_target(topic=name, keyspace=name)
        stream = settings.stream.model_copy(update={"policy": SIP})
        kafka = settings.kafka.model_copy(
            update={"partitions": 2, "status_topic": f"{name}_fs", "gaps_topic": f"{name}_fg"}
        )
        settings = settings.model_copy(update={"stream": stream, "kafka": kafka})
        admin = topic_admin(endpoints.bootstrap_servers)
        create_topics(admin, settings.kafka)
        with ExitStack() as stack:
            client = CassandraClient(
                settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
            )
            stack.callback(client.close)
            client.create_schema()
            stack.callback(client.drop_schema)
            profile = ExecutionProfile(RoundRobinPolicy())
            cluster = Cluster(
                [endpoints.cassandra_host],
                port=endpoints.cassandra_port,
                protocol_version=5,
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                schema_metadata_enabled=False,
                token_metadata_enabled=False,
            )
            stack.callback(cluster.shutdown)
            for topic in (name, f"{name}_fs", f"{name}_fg"):
                stack.callback(delete_topic, admin, topic)
            spark.conf.set("spark.cassandra.connection.port", str(endpoints.cassandra_port))
            # A session that has outlived its node hears of no new keyspace; other settings make
            # another session.
            life_ms = KEEP_ALIVE_MS + (client.generation() or 0) % KEEP_ALIVE_MS
            spark.conf.set("spark.cassandra.connection.keepAliveMS", str(life_ms))
            # The connector hears of a keyspace up to a second after it was made.
            wait_for(lambda: _is_known(spark, name))
            yield cls(
                spark,
                endpoints,
                settings,
                client,
                cluster.connect(name),
                topic_id_of(admin, name),
                folder,
            )

    @property
    def name(self) -> str:
        return self.settings.cassandra.keyspace

    def send_tape(self, path: Path, producer_id: str = "test") -> None:
        """Serve a tape by the simulator and let the producer bring it to Kafka."""

        async def run() -> None:
            tape = Tape(path, frame_ms=100)
            port = free_port(0)
            server = SimulatedFinnhub(ServerOptions(LOOPBACK, port, TOKEN, speed=None), tape)
            finnhub = self.settings.finnhub.model_copy(update={"url": f"ws://{LOOPBACK}:{port}"})
            client = FinnhubClient(finnhub, SecretStr(TOKEN), tape.symbols)
            async with server.serve():
                await ProducerPipeline(
                    self.settings,
                    Origin("replay", producer_id, self.topic_id),
                    client,
                    KafkaProducer(self.endpoints.bootstrap_servers, self.name),
                    Spools(self.spool(producer_id)),
                ).run()

        # A thread of its own: Playwright's loop may be running in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, run()).result()

    def spool(self, producer_id: str) -> Spool:
        """Open a producer's spool."""
        return Spool(self.folder / "spool" / producer_id, _SPOOL_BYTES)

    def send_messages(
        self, messages: Sequence[tuple[str, bytes | None]], partition: int = 0
    ) -> None:
        """Put raw bytes into the topic."""
        producer = Producer({"bootstrap.servers": self.endpoints.bootstrap_servers})
        for key, value in messages:
            producer.produce(self.settings.kafka.topic, value, key, partition=partition)
        assert producer.flush(120) == 0

    def processor(
        self, checkpoint: str = "checkpoint", metrics: Metrics | None = None
    ) -> SparkProcessor:
        name = self.settings.kafka.topic
        topic = Topic(self.endpoints.bootstrap_servers, name, self.topic_id, "earliest")
        return SparkProcessor(
            self.spark,
            self.settings,
            topic,
            CassandraSink(self.client),
            self.checkpoints(checkpoint),
            "0 seconds",
            metrics,
        )

    def checkpoints(self, name: str = "checkpoint") -> Checkpoints:
        """Return checkpoints of a name."""
        return Checkpoints((self.checkpoints_below or self.folder) / name)

    def ingest(self, layers: frozenset[Layer] = BOTH, checkpoint: str = "checkpoint") -> None:
        """Bring everything in the topic to bronze and silver."""
        processor = self.processor(checkpoint)
        query = processor.start(layers)
        query.processAllAvailable()
        processor.stop()

    def preview(self, checkpoint: str = "checkpoint") -> None:
        """Bring everything in the topic to gold's preview."""
        processor = self.processor(checkpoint)
        query = processor.start(frozenset({Layer.GOLD}))
        query.processAllAvailable()
        processor.stop()

    def finalize(self, max_windows: int = 500) -> RoundResult:
        """Run one round of finalizing at the instant `now`."""
        with self.finalizer(max_windows) as finalizer:
            return finalizer.round()

    @contextmanager
    def finalizer(
        self,
        max_windows: int = 500,
        is_stopping: Callable[[], bool] = lambda: False,
        remembered: Callable[[StatesOfWindows], Mapping[WindowKey, Bar]] = lambda _: {},
    ) -> Iterator[Finalizer]:
        """Finalize at the instant `now`, as often as wanted."""
        rules = replace(
            BarRules.of(self.settings), silver_ttl=timedelta(0), max_windows=max_windows
        )
        feed = FeedView(self.endpoints.bootstrap_servers, self.settings.kafka, self.topic_id)
        try:
            yield Finalizer(
                self.spark,
                self.client,
                feed,
                topic_id=self.topic_id,
                rules=rules,
                stream=StreamKnowledge(remembered),
                is_stopping=is_stopping,
                now=lambda: self.now,
                round_s=_LONG_ROUND_S,
            )
        finally:
            feed.close()

    def bars(self, interval: Interval = Interval.FIVE_MINUTES) -> dict[tuple[str, datetime], Bar]:
        """Return every bar of the keyspace."""
        table = GOLD_TABLES[interval]
        partitions = list(self.session.execute(f"SELECT DISTINCT symbol, period FROM {table}"))
        if not partitions:
            return {}
        first = min(row.period.date() for row in partitions)
        start = datetime.combine(first, time(), timezone.utc)
        end = self.now + timedelta(days=2)
        return {
            (bar.symbol, bar.window_start): bar
            for symbol in {row.symbol for row in partitions}
            for bar in self.client.bars(symbol, interval, start, end)
        }

    def revise_bar(self, symbol: str, start: datetime, **changes: Any) -> None:
        """Give a final bar of five minutes its second revision."""
        key, interval = (symbol, start), Interval.FIVE_MINUTES
        stored = self.client.stored_bars(interval, [key])[key]
        revised = replace(stored.bar, revision=2, reason="late_trade", **changes)
        self.client.write_bars(interval, [(revised, stored.write_time_us + 1)])

    def forget_bar(self, symbol: str, start: datetime) -> None:
        """Take a bar of five minutes out of gold, as its time to live does."""
        self.session.execute(
            "DELETE FROM trades_gold_5m WHERE symbol = %s AND period = %s AND window_start = %s",
            (symbol, Interval.FIVE_MINUTES.period_of(start), start),
        )

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        """Return every row of a table."""
        return [row._asdict() for row in self.session.execute(f"SELECT * FROM {table}")]


def _is_known(spark: SparkSession, keyspace: str) -> bool:
    reader = spark.read.format("org.apache.spark.sql.cassandra")
    try:
        reader.options(keyspace=keyspace, table="ingest_progress").load()
    except AnalysisException:
        return False
    return True
