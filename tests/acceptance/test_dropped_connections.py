"""Each public feed's connection is down for thirty seconds, by the clock; the market goes on.

Three exchanges give their history afterwards; three more, at the same time, refuse it until it is
asked for by hand.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from itertools import count

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from tapeline.cli.app import app
from tapeline.model.bar import Bar
from tapeline.model.gap import Gap
from tapeline.producer.previous_run import last_reports
from tapeline.read.sources import sources_of
from tests.commands import repeating, wait_for
from tests.exchanges import DIALECTS, Exchange, MadeTrade
from tests.pipeline import Pipeline
from tests.public_producers import Market, produce, wait_until_delivered, wait_until_healed

DOWN_S = 30.0
AROUND_S = 2.0
TRADES_PER_S = 10.0
DAYS = timedelta(days=4)


def trading(markets: Sequence[Market]) -> AbstractContextManager[None]:
    """Have each market make trades all the time."""
    numbers = count(1)

    def trade() -> None:
        number = next(numbers)
        for market in markets:
            size, now_us = f"0.{1 + number % 9}", time.time_ns() // 1000
            market.exchange.make(market.symbol, f"{100 + number % 37}.5", size, now_us)

    return repeating(trade, 1 / TRADES_PER_S)


def tapeline(
    pipeline: Pipeline, markets: Sequence[Market], *arguments: str, of_topic: bool = True
) -> Result:
    """Run a command in this process, on the test's topics and some exchanges."""
    kafka = pipeline.settings.kafka
    variables = {
        "TAPELINE_KAFKA__STATUS_TOPIC": kafka.status_topic,
        "TAPELINE_KAFKA__GAPS_TOPIC": kafka.gaps_topic,
    }
    for market in markets:
        variables |= market.exchange.environment
    where = ["--keyspace", pipeline.name, *(["--topic", pipeline.name] if of_topic else [])]
    return CliRunner().invoke(app, [*arguments, *where], env=variables)


def are_subscribed(markets: Sequence[Market]) -> bool:
    return all(market.exchange.subscribers(market.symbol) == 1 for market in markets)


def drop(markets: Sequence[Market]) -> dict[str, MadeTrade]:
    """Cut every connection for half a minute; return the newest trade before of each symbol."""
    for market in markets:
        market.exchange.refuses_connections = True
        market.exchange.drop()
    newest = {market.name: market.exchange.trades[-1] for market in markets}
    time.sleep(DOWN_S)
    for market in markets:
        market.exchange.refuses_connections = False
    wait_for(lambda: are_subscribed(markets))
    return newest


def trade_through_a_drop(pipeline: Pipeline, markets: Sequence[Market]) -> dict[str, MadeTrade]:
    """Return the newest trade before the drop of each symbol; what is given is fetched by then."""
    wait_for(lambda: are_subscribed(markets))
    with trading(markets):
        time.sleep(AROUND_S)
        newest = drop(markets)
        wait_for(lambda: all(market.exchange.requests for market in markets))
        time.sleep(AROUND_S)
    for market in markets:
        wait_until_delivered(pipeline, market, market.exchange.trades[-1])
        if market.exchange.history_status is None:
            wait_until_healed(pipeline, market)
    return newest


def was_there_before_and_after(pipeline: Pipeline) -> None:
    """Report as producers that for days have missed nothing but what they have reported."""
    settings, servers = pipeline.settings, pipeline.endpoints.bootstrap_servers
    now = datetime.now(timezone.utc)
    producer = Producer({"bootstrap.servers": servers})
    views = last_reports(servers, settings.kafka, pipeline.topic_id).views
    assert len(views) == 2 * len(DIALECTS)
    for view in views.values():
        assert view.status.has_stopped
        first_us, last_us = (round(at.timestamp() * 1e6) for at in (now - DAYS, now + DAYS))
        status = replace(view.status, started_us=first_us, last_message_us=last_us)
        producer.produce(settings.kafka.status_topic, status.to_bytes(), status.key)
    assert producer.flush(30) == 0


def finalize(pipeline: Pipeline) -> None:
    pipeline.ingest()
    pipeline.now = datetime.now(timezone.utc) + timedelta(minutes=30)
    with pipeline.finalizer(1000) as finalizer:
        finalizer.round()
        finalizer.round()


def stored(pipeline: Pipeline, market: Market) -> Counter[int]:
    rows = pipeline.rows("trades_silver")
    return Counter(row["trade_id"] for row in rows if row["symbol"] == market.name)


def bars_of(pipeline: Pipeline, market: Market) -> list[Bar]:
    return [bar for (symbol, _), bar in sorted(pipeline.bars().items()) if symbol == market.name]


def gaps_of(pipeline: Pipeline, market: Market) -> list[Gap]:
    found = pipeline.client.gaps(datetime.now(timezone.utc) - DAYS, pipeline.now)
    return [gap for gap in found if market.name in {*gap.symbols, *gap.healed}]


def told_sources(pipeline: Pipeline, market: Market) -> Counter[str]:
    """Return where the trades of all bars of a symbol came from, as its bars say."""
    day = f"{datetime.now(timezone.utc) - DAYS:%Y-%m-%d}"
    bars = ("bars", market.name, "--sources", "--from", day, "--format", "json")
    told = tapeline(pipeline, [], *bars, of_topic=False)
    found: Counter[str] = Counter()
    for bar in json.loads(told.stdout):
        counts = [part.rsplit("=", 1) for part in bar["sources"].split()]
        assert sum(int(count) for _, count in counts) == bar["trade_count"]
        found.update({source: int(count) for source, count in counts})
    return found


def sources_end_with_silver(pipeline: Pipeline, market: Market) -> None:
    """Check that a bar tells no sources from when its first trade has left silver."""
    bar = bars_of(pipeline, market)[0]
    assert bar.first_received_at is not None
    expires = bar.first_received_at + pipeline.client.lifetimes()["trades_silver"]
    assert sources_of(pipeline.client, bar, expires - timedelta(seconds=1))
    assert sources_of(pipeline.client, bar, expires) is None


def has_everything(pipeline: Pipeline, market: Market) -> list[Bar]:
    """Check that each trade of an exchange is in silver once and in bars; return these.

    What the exchange made in the drop was fetched.
    """
    trades = market.exchange.trades
    assert stored(pipeline, market) == Counter(trade.trade_id for trade in trades)
    bars = bars_of(pipeline, market)
    assert sum(bar.trade_count for bar in bars) == len(trades)
    volume = sum(float(trade.size) for trade in trades)
    assert float(sum(bar.volume for bar in bars)) == pytest.approx(volume)
    assert all(bar.is_final and bar.is_complete for bar in bars)
    assert all(gap.symbols == () for gap in gaps_of(pipeline, market))
    sources, source = told_sources(pipeline, market), market.exchange.dialect.name
    assert sources.keys() == {source, f"{source}:backfill"}
    assert DOWN_S * TRADES_PER_S * 0.8 < sources[f"{source}:backfill"] < len(trades)
    return bars


def lacks_the_drop(pipeline: Pipeline, market: Market, newest: MadeTrade) -> list[Bar]:
    """Check that silver lacks the drop and bars say so; return those that do."""
    lost = {t.trade_id for t in market.exchange.trades} - stored(pipeline, market).keys()
    assert min(lost) == newest.trade_id + 1
    assert len(lost) > DOWN_S * TRADES_PER_S * 0.8
    gaps = gaps_of(pipeline, market)
    assert {gap.kind.value for gap in gaps} >= {"disconnected", "skipped"}
    assert all(market.name in gap.symbols for gap in gaps)
    bars = bars_of(pipeline, market)
    assert all(bar.is_final for bar in bars)
    found = [bar for bar in bars if not bar.is_complete]
    assert found
    return found


@pytest.mark.long
def test_a_drop_of_thirty_seconds_is_healed_by_itself_or_by_hand_or_stays_a_gap(
    pipeline: Pipeline, monkeypatch
) -> None:
    monkeypatch.setattr("tests.exchanges._PAGE", 1000)  # as the exchanges have it
    began = datetime.now(timezone.utc) - timedelta(minutes=1)
    heal = ("heal", "--from", began.strftime("%Y-%m-%dT%H:%M:%S"))
    newest: dict[str, MadeTrade] = {}
    with ExitStack() as stack:
        giving, refusing = (
            [
                Market(
                    stack.enter_context(Exchange(dialect, history_status=status).running()),
                    dialect.symbols[place],
                    f"{dialect.name}-{place}",
                )
                for dialect in DIALECTS
            ]
            for place, status in enumerate((None, HTTPStatus.FORBIDDEN))
        )
        markets = [*giving, *refusing]
        produce(pipeline, lambda: newest.update(trade_through_a_drop(pipeline, markets)), *markets)
        was_there_before_and_after(pipeline)
        finalize(pipeline)
        for market in giving:
            has_everything(pipeline, market)
        sources_end_with_silver(pipeline, giving[0])
        incomplete = {m.name: lacks_the_drop(pipeline, m, newest[m.name]) for m in refusing}
        assert tapeline(pipeline, [], "audit").exit_code == 0

        told = tapeline(pipeline, refusing, *heal)
        assert told.exit_code == 1
        assert told.stdout.count(": HTTP 403") == len(refusing)
        assert "healed" not in told.stdout

        for market in refusing:
            market.exchange.history_status = None
        assert tapeline(pipeline, refusing, *heal).exit_code == 0
    finalize(pipeline)
    for market in refusing:
        bars = {bar.window_start: bar for bar in has_everything(pipeline, market)}
        for before in incomplete[market.name]:
            after = bars[before.window_start]
            assert (after.reason, after.revision > before.revision) == ("feed_gap", True)
    assert tapeline(pipeline, [], "audit").exit_code == 0
