"""A Python client reads a tape's bars and trades, each once, while what it hangs on is killed.

Real trades go through every part at two hundred times their pace. The API is killed three times,
Cassandra and Kafka once each; the client goes on by itself. What it got is compared with the
tape's own trades and windows, the tables and the vendor's bars.
"""

from __future__ import annotations

import csv
import gzip
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Final

import pytest

from tapeline import stream_bars, stream_trades
from tapeline.client.bars import StreamedBar
from tapeline.client.trades import StreamedTrade
from tapeline.kafka.topics import create_topics, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.state import CASSANDRA, KAFKA
from tapeline.local.supervisor import Child, child_process, keep_alive
from tapeline.model.times import to_millis
from tapeline.program.settings import load_settings
from tapeline.simulator.child import simulated_feed
from tapeline.storage.cassandra_client import CassandraClient
from tests.chaos.test_stream_faults import service_killed
from tests.commands import TIMEOUT_S, stored_bars, wait_for
from tests.served import Reader, served_api

from .test_tapes import tape
from .vendor import EPOCH, differences, read_vendor_bars

TAPE: Final = "gold_20131007"
SPEED: Final = "200"
DAY: Final = datetime(2013, 10, 7, tzinfo=timezone.utc)
AWAY_S: Final = 5.0
BETWEEN: Final = 25
"""As many final bars come from one kill to the next, at least."""
VENDOR_BARS: Final = 434
ENVIRONMENT: Final = {
    "TAPELINE_PROFILE": "small",
    "TAPELINE_METRICS__PRODUCER_PORT": "0",
    "TAPELINE_METRICS__STREAM_PORT": "0",
}

Window = tuple[str, datetime]
Content = tuple[str, int, float, float]
"""Symbol, ms, price and size: equal in twins."""


def tape_rows() -> list[dict[str, str]]:
    with gzip.open(tape(TAPE), "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def window_of(row: dict[str, str]) -> Window:
    start_ms = int(row["event_time_ms"]) // 300_000 * 300_000
    return row["symbol"], EPOCH + timedelta(milliseconds=start_ms)


@contextmanager
def playing(
    home: Home, endpoints: Endpoints, name: str, symbols: Sequence[str]
) -> Iterator[list[Child]]:
    """Play the tape into a topic and keyspace of a name; the first child is the stream."""
    settings = load_settings().with_target(topic=name, keyspace=name)
    create_topics(topic_admin(endpoints.bootstrap_servers), settings.kafka)
    with closing(
        CassandraClient(settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    ) as client:
        client.create_schema()
    stream = ["stream", "--topic", name, "--keyspace", name, "--policy", "sip", "--until-final"]
    produce = ["produce", "--source", "replay", "--topic", name, "--speed", SPEED]
    produce += ["--symbols", ",".join(symbols)]
    simulate = ["--tape", str(tape(TAPE)), "--speed", SPEED]
    with (
        child_process(stream, home.root, ENVIRONMENT) as streaming,
        simulated_feed(home.root, simulate) as feed,
        child_process(produce, home.root, {**feed.environment, **ENVIRONMENT}) as producing,
    ):
        yield [streaming, feed.child, producing]


@pytest.mark.long
def test_each_final_bar_and_trade_comes_once_though_api_cassandra_and_kafka_are_killed(
    stack: Endpoints,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tape_rows()
    windows = {window_of(row) for row in rows}
    symbols = sorted({symbol for symbol, _ in windows})
    name = f"t{uuid.uuid4().hex[:12]}"
    with (
        playing(home, stack, name, symbols) as children,
        served_api(name, {"TAPELINE_STREAM__POLICY": "sip"}) as api,
        stream_bars(symbols, since=DAY, url=api.url) as bar_stream,
        stream_trades(symbols, since=DAY, url=api.url) as trade_stream,
    ):
        bars, trades = Reader(iter(bar_stream)), Reader(iter(trade_stream))

        def kill_api() -> None:
            api.kill()
            time.sleep(AWAY_S)
            api.start()

        def kill(service: str) -> None:
            with turn(), service_killed(home, service):
                time.sleep(AWAY_S)

        kills: list[tuple[str, Callable[[], None]]] = [
            ("API", kill_api),
            ("API", kill_api),
            (CASSANDRA, partial(kill, CASSANDRA)),
            (KAFKA, partial(kill, KAFKA)),
            ("API", kill_api),
        ]
        came = []
        for _, strike in kills:
            came.append(wait_for_more(bars, children))
            strike()
            assert keeps_on(children)
        wait_for(lambda: not keeps_on(children), TIMEOUT_S)
        wait_for(lambda: {key_of(bar) for bar in finals_of(bars)} >= windows, TIMEOUT_S)
        with suppress(AssertionError):  # what is missing is told below
            wait_for(lambda: trades.has(len(rows)))
        time.sleep(3)  # what came twice would come now
        stored = stored_bars(set(symbols), "5m", name)
    bars.join()
    trades.join()

    with capsys.disabled():
        told = ", ".join(f"{what} after {n}" for (what, _), n in zip(kills, came, strict=True))
        print(f"\nkilled: {told}")  # noqa: T201 - for the reader
        told = f"{len(finals_of(bars))} final bars of {len(windows)} windows"
        print(f"{told}, {len(trades.items)} trades of {len(rows)}")  # noqa: T201 - the same
    finals = finals_of(bars)
    assert Counter(map(key_of, finals)) == Counter(windows)
    assert {bar.revision for bar in finals} == {1}
    for symbol in symbols:
        starts = [bar.window_start for bar in finals if bar.symbol == symbol]
        assert starts == sorted(starts)
    seen = {key_of(bar): asdict(bar) for bar in finals}
    for window, bar in stored.items():
        assert seen[window] == {"interval": "5m"} | {n: bar[n] for n in seen[window] if n in bar}
    vendor = [bar for bar in read_vendor_bars(tape(TAPE, "bars_5m")) if bar.is_exact]
    assert len(vendor) == VENDOR_BARS
    assert differences(vendor, seen) == []
    assert len({(t.symbol, t.event_time, t.trade_id) for t in trades.items}) == len(trades.items)
    assert Counter(map(content_of, trades.items)) == Counter(map(content_of_row, rows))


def content_of(trade: StreamedTrade) -> Content:
    return trade.symbol, to_millis(trade.event_time), trade.price, trade.volume


def content_of_row(row: dict[str, str]) -> Content:
    return row["symbol"], int(row["event_time_ms"]), float(row["price"]), float(row["volume"])


def wait_for_more(bars: Reader[StreamedBar], children: Sequence[Child]) -> int:
    """Wait for some more final bars; return how many have come by then."""
    more = len(finals_of(bars)) + BETWEEN
    wait_for(lambda: keeps_on(children) and len(finals_of(bars)) >= more)
    return len(finals_of(bars))


def finals_of(bars: Reader[StreamedBar]) -> list[StreamedBar]:
    return [bar for bar in bars.items if bar.is_final]


def key_of(bar: StreamedBar) -> Window:
    return bar.symbol, bar.window_start


def keeps_on(children: Sequence[Child]) -> bool:
    """Look after the children; return whether the stream has not ended yet."""
    keep_alive(children)
    return children[0].exit_code != 0
