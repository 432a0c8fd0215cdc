"""`tapeline produce`: symbols that come and go while it runs, and several sources at once."""

from __future__ import annotations

import json
import re
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import httpx
from confluent_kafka import Consumer, TopicPartition
from fastavro import schemaless_reader
from fastavro.schema import load_schema

from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.coverage import Coverage
from tapeline.program.service_settings import KafkaSettings
from tapeline.status.symbols import SymbolState, symbol_rows
from tests.commands import ROOT, TIMEOUT_S, UNMEASURED, repeating, run, start, wait_for
from tests.exchanges import CoinbaseDialect, Exchange, KrakenDialect
from tests.served import get, served_api

ALL = tuple(f"S{number:03}-USD" for number in range(200))
_SCHEMA: Any = load_schema(str(ROOT / "schemas" / "avro" / "trade.avsc"))
_HEADER_BYTES = 10
_PERIOD_S = 0.1


class ManySymbols(CoinbaseDialect):
    symbols = ALL


def ours(symbols: Sequence[str]) -> list[str]:
    return [f"COINBASE:{symbol}" for symbol in symbols]


@dataclass
class Market:
    """An exchange on which each of some symbols trades ten times a second, and its producer."""

    endpoints: Endpoints
    kafka: KafkaSettings
    exchange: Exchange
    processes: list[Any] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.exchange.environment,
            "TAPELINE_KAFKA__TOPIC": self.kafka.topic,
            "TAPELINE_KAFKA__STATUS_TOPIC": self.kafka.status_topic,
            "TAPELINE_KAFKA__GAPS_TOPIC": self.kafka.gaps_topic,
            "TAPELINE_KAFKA__SYMBOLS_TOPIC": self.kafka.symbols_topic,
            "TAPELINE_METRICS__PRODUCER_PORT": "0",
        }

    def produce(self, symbols: Sequence[str], *more: str, **environment: str) -> None:
        """Start the producer, and return when all that it should have is received."""
        arguments = ("produce", "--source", "coinbase", "--symbols", ",".join(symbols), *more)
        every = {**UNMEASURED, **self.environment, **environment}
        self.processes.append(start(*arguments, environment=every))
        wait_for(lambda: set(self.states().values()) == {SymbolState.RECEIVED})

    def stop(self) -> str:
        """Stop the producer in order; return what it wrote."""
        process = self.processes.pop()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode in {0, 143}, output
        return str(output)

    def symbols_command(self, *arguments: str) -> str:
        return run("symbols", *arguments, environment=self.environment)

    def listed(self) -> dict[str, str]:
        """Return the state of each symbol, as the command says it."""
        output = run(
            *("symbols", "list", "--format", "json"), environment=self.environment, merge=False
        )
        return {row["symbol"]: row["state"] for row in json.loads(output)}

    def states(self) -> dict[str, SymbolState]:
        """Return the same as producers report it."""
        return {row.symbol: row.state for row in symbol_rows(self.snapshot())}

    def snapshot(self) -> FeedSnapshot:
        servers = self.endpoints.bootstrap_servers
        topic_id = topic_id_of(topic_admin(servers), self.kafka.topic)
        with closing(FeedView(servers, self.kafka, topic_id)) as view:
            return view.snapshot(datetime.now(timezone.utc))

    def numbers(self) -> dict[str, list[int]]:
        """Return the exchange's numbers that are in Kafka, by symbol."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.endpoints.bootstrap_servers,
                "group.id": "test",
                "auto.offset.reset": "earliest",
            }
        )
        found: dict[str, list[int]] = defaultdict(list)
        with closing(consumer):
            places = [TopicPartition(self.kafka.topic, p, 0) for p in range(self.kafka.partitions)]
            left = sum(consumer.get_watermark_offsets(place, timeout=60)[1] for place in places)
            consumer.assign(places)
            while left:
                for message in consumer.consume(min(10_000, left), 60):
                    value = message.value() or b""
                    record: Any = schemaless_reader(BytesIO(value[_HEADER_BYTES:]), _SCHEMA, None)
                    found[record["symbol"]].append(record["trade_id"])
                    left -= 1
        return found


def trading(exchange: Exchange) -> AbstractContextManager[None]:
    """Let whatever somebody has subscribed trade ten times a second."""

    def trade() -> None:
        for symbol in exchange.dialect.symbols:
            if exchange.subscribers(symbol):
                exchange.make(symbol, "1.5", "1", time.time_ns() // 1000)

    return repeating(trade, _PERIOD_S)


@contextmanager
def market(endpoints: Endpoints) -> Iterator[Market]:
    """Run an exchange that trades without a pause."""
    name = f"t{uuid.uuid4().hex[:12]}"
    names = {"status_topic": f"{name}_fs", "gaps_topic": f"{name}_fg"}
    kafka = KafkaSettings(topic=name, partitions=2, symbols_topic=f"{name}_sy", **names)
    admin = topic_admin(endpoints.bootstrap_servers)
    create_topics(admin, kafka)
    with Exchange(ManySymbols()).running() as exchange, trading(exchange):
        found = Market(endpoints, kafka, exchange)
        try:
            yield found
        finally:
            for process in found.processes:
                process.kill()
                process.communicate()
    for topic in (kafka.topic, kafka.status_topic, kafka.gaps_topic, kafka.symbols_topic):
        delete_topic(admin, topic)


def assert_whole(found: Market, stayed: Sequence[str]) -> None:
    """Require that no gap was reported, and of symbols that stayed each number came once."""
    assert [gap for gap in found.snapshot().gaps if gap.kind.marks_bars] == []
    numbers = found.numbers()
    for symbol in ours(stayed):
        first = numbers[symbol][0]
        assert numbers[symbol] == list(range(first, first + len(numbers[symbol])))
        assert len(numbers[symbol]) > 10


def test_symbols_come_and_go_and_the_others_miss_nothing(stack: Endpoints) -> None:
    with market(stack) as found:
        found.produce(ALL[:10])
        began = datetime.now(timezone.utc)

        added = found.symbols_command("add", ",".join(ours(ALL[10:13])))
        assert added.count("is received from coinbase.") == 3
        removed = found.symbols_command("remove", ",".join(ours(ALL[:2])))
        assert removed.count("is no longer received from coinbase.") == 2
        wait_for(lambda: not any(found.exchange.subscribers(s) for s in ALL[:2]))
        gone = datetime.now(timezone.utc)
        unknown = found.symbols_command("add", "--source", "coinbase", "FOO-USD")
        assert "COINBASE:FOO-USD is not received yet" in unknown
        back = found.symbols_command("add", f"COINBASE:{ALL[0]}")
        assert "is received from coinbase." in back
        ended = datetime.now(timezone.utc)

        states = found.listed()
        assert {s for s, state in states.items() if state == "waiting"} == {"COINBASE:FOO-USD"}
        assert set(states) == {*ours([ALL[0], *ALL[2:13]]), "COINBASE:FOO-USD"}
        assert_whole(found, ALL[2:10])
        feed = found.snapshot()
        coverage = Coverage(feed.producers, feed.gaps)

        def covered(symbol: str, first: datetime, last: datetime) -> bool:
            return coverage.is_complete(f"COINBASE:{symbol}", first, last)

        assert covered(ALL[5], began, ended)
        assert not covered(ALL[10], began, ended)
        assert not covered(ALL[0], began, ended)
        assert not covered(ALL[1], gone, ended)
        now = datetime.now(timezone.utc)
        for symbol in (ALL[0], ALL[10]):
            assert covered(symbol, ended, now)


def test_the_api_changes_symbols_as_the_command_does(stack: Endpoints) -> None:
    with market(stack) as found:
        found.produce(ALL[:2])
        environment = {**found.environment, "TAPELINE_API__SYMBOL_CHANGES": "local"}
        with served_api("market_data", environment, found.kafka.topic) as api:
            added = httpx.put(f"{api.url}/v1/symbols/COINBASE:{ALL[2]}", timeout=120)
            removed = httpx.delete(f"{api.url}/v1/symbols/COINBASE:{ALL[0]}", timeout=120)
            wrong = httpx.put(f"{api.url}/v1/symbols/KRAKEN:A?source=coinbase", timeout=120)
            received = dict.fromkeys(ours(ALL[1:3]), SymbolState.RECEIVED)
            wait_for(lambda: found.states() == received)
            for symbol in received:
                assert httpx.delete(f"{api.url}/v1/symbols/{symbol}", timeout=120).is_success
        assert (added.status_code, removed.status_code) == (202, 202)
        assert added.json() == {
            "symbol": f"COINBASE:{ALL[2]}",
            "source": "coinbase",
            "is_wanted": True,
            "producers": 1,
        }
        assert wrong.status_code == 422
        assert wrong.json()["detail"].startswith("symbol: KRAKEN:A is not a symbol of COINBASE")
        time.sleep(4)
        last = found.states()  # a producer without symbols could tell no gap
        assert last
        assert last.items() <= received.items()


def test_what_was_changed_counts_after_a_restart_too(stack: Endpoints) -> None:
    with market(stack) as found:
        nobody = found.symbols_command("add", f"COINBASE:{ALL[4]}")
        assert "No producer of coinbase runs on topic" in nobody
        assert "the next one there asks for" in nobody
        found.produce(ALL[:4])
        assert set(found.states()) == set(ours(ALL[:5]))
        found.symbols_command("remove", ",".join(ours(ALL[1:3])))
        found.stop()
        assert "No producer of a live feed runs" in found.symbols_command("list")
        away = found.symbols_command("remove", "--source", "coinbase", ALL[3])
        assert "the next one there leaves out" in away
        stopped = datetime.now(timezone.utc)

        found.produce(ALL[:4])
        assert set(found.states()) == set(ours([ALL[0], ALL[4]]))
        status = found.snapshot().producers[0].status
        assert set(status.removed) == set(ours(ALL[1:4]))
        feed, minute = found.snapshot(), timedelta(minutes=1)
        coverage = Coverage(feed.producers, feed.gaps)
        assert not any(coverage.is_complete(s, stopped, stopped + minute) for s in ours(ALL[1:4]))


def test_one_producer_reads_several_sources_and_what_one_misses_is_a_gap_of_that_one(
    stack: Endpoints,
) -> None:
    port = free_port(0)
    with (
        market(stack) as found,
        Exchange(KrakenDialect()).running() as kraken,
        trading(kraken),
    ):
        several = ("--source", "kraken", "--symbols", "BTC/USD")
        environment = {**kraken.environment, "TAPELINE_METRICS__PRODUCER_PORT": str(port)}
        found.produce(ALL[:2], *several, **environment)
        wait_for(lambda: len(found.states()) == 3)
        found.symbols_command("add", "KRAKEN:ETH/USD")
        wait_for(lambda: kraken.subscribers("ETH/USD") == 1)

        found.exchange.drop()
        wait_for(lambda: found.exchange.connections == 2 and found.exchange.subscribers(ALL[0]))

        def metrics() -> str:
            return str(get(f"http://{LOOPBACK}:{port}/metrics").text)

        def trades_of(source: str) -> float:
            series = rf'^tapeline_producer_trades_total{{.*accepted.*source="{source}".*}} (.+)$'
            (counted,) = re.findall(series, metrics(), re.MULTILINE)
            return float(counted)

        def marking() -> set[str]:
            gaps = found.snapshot().gaps
            return {gap.producer_id for gap in gaps if gap.kind.marks_bars}

        for source in ("coinbase", "kraken"):
            wait_for(lambda of=source: trades_of(of) > 10)
        wait_for(marking)
        page = metrics()
        assert page.count("# TYPE tapeline_producer_frames_total counter") == 1
        assert len(re.findall(r"^tapeline_process_memory_bytes(?:{.*})? ", page, re.MULTILINE)) == 1
        producers = {p.status.source: p.status for p in found.snapshot().producers}
        assert marking() == {producers["coinbase"].producer_id}
        assert producers["kraken"].subscribed == ("KRAKEN:BTC/USD", "KRAKEN:ETH/USD")

        output = found.stop()
        assert {line for line in ("source=coinbase", "source=kraken") if line in output} == {
            "source=coinbase",
            "source=kraken",
        }
        statuses = [view.status for view in found.snapshot().producers]
        assert [(s.has_stopped, s.pending) for s in statuses] == [(True, 0)] * 2
        found.produce(ALL[:2], *several, **environment)
        wait_for(lambda: len(found.states()) == 4)
        assert "spool_taken_over" not in found.stop()
        assert len(found.snapshot().producers) == 2
        numbers = found.numbers()
        for symbol in ("KRAKEN:BTC/USD", *ours(ALL[:2])):
            first = numbers[symbol][0]
            # What came while the producer was away was fetched, so that none is missing.
            assert set(numbers[symbol]) == set(range(first, max(numbers[symbol]) + 1))
