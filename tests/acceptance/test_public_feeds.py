"""A real tape through each exchange's protocol: each number once, and the vendor's own bars."""

from __future__ import annotations

import csv
import gzip
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path

import pytest

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import PUBLIC
from tapeline.model.gap import GapKind
from tests.acceptance.vendor import VendorBar, differences, read_vendor_bars
from tests.commands import wait_for
from tests.exchanges import DIALECTS, Exchange, MadeTrade
from tests.pipeline import Pipeline
from tests.public_producers import Market, produce, wait_until_delivered, wait_until_healed
from tests.statuses import send_status

NAME = "kraken_xbtusdt_20251110"
TRADES, BARS = 1000, 80
WINDOW = timedelta(minutes=5)
MISSED = slice(500, 520)
"""Trades that are made while the connection is gone."""


def path_of(kind: str) -> Path:
    return Path(os.environ["TAPELINE_TAPES"]) / f"{NAME}.{kind}.csv.gz"


def two_days_ago(symbol: str) -> tuple[list[MadeTrade], timedelta]:
    """Return the tape by a symbol's name, and by what it is moved; of the week, gaps mark bars."""
    with gzip.open(path_of("trades"), "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    last = datetime.fromtimestamp(int(rows[-1]["event_time_ms"]) / 1000, timezone.utc)
    moved = (datetime.now(timezone.utc) - timedelta(days=2) - last) // WINDOW * WINDOW
    moved_us = moved // timedelta(microseconds=1)
    trades = [
        MadeTrade(
            int(row["trade_id"]),
            symbol,
            row["price"],
            row["volume"],
            int(row["event_time_ms"]) * 1000 + moved_us,
        )
        for row in rows
    ]
    return trades, moved


def was_there(pipeline: Pipeline, exchange: Exchange) -> None:
    """Report as the producer of a feed that has heard everything since days ago."""
    feed = PUBLIC[exchange.dialect.name]
    symbols = our_symbols(feed, exchange.dialect.symbols[:1])
    now = datetime.now(timezone.utc)
    send_status(
        pipeline,
        "live",
        symbols=symbols,
        is_live=True,
        source=feed.name,
        started_us=round((now - timedelta(days=4)).timestamp() * 1e6),
        last_message_us=round(now.timestamp() * 1e6),
    )


def play(pipeline: Pipeline, market: Market, trades: Sequence[MadeTrade]) -> None:
    """Send a tape; the line is down for what is missed, and asked for afterwards."""
    exchange = market.exchange
    send(pipeline, market, trades[: MISSED.start])
    exchange.refuses_connections = True
    exchange.drop()
    wait_for(lambda: exchange.subscribers(trades[0].symbol) == 0)
    for trade in trades[MISSED]:
        exchange.add(trade)
    exchange.refuses_connections = False
    send(pipeline, market, trades[MISSED.stop :])
    wait_for(lambda: exchange.requests)


def send(pipeline: Pipeline, market: Market, trades: Sequence[MadeTrade]) -> None:
    """Send trades to whoever subscribes, every third twice, until Kafka has the last of them."""
    exchange = market.exchange
    wait_for(lambda: exchange.subscribers(trades[0].symbol) == 1)
    for place, trade in enumerate(trades):
        exchange.add(trade)
        if place % 3 == 0:
            exchange.add(trade)
    wait_until_delivered(pipeline, market, trades[-1])
    time.sleep(1)  # what came twice would come now


def produce_until_healed(pipeline: Pipeline, market: Market, act: Callable[[], None]) -> None:
    """Run a producer for some work, and on until what was missed is there."""

    def act_and_wait() -> None:
        act()
        wait_until_healed(pipeline, market)

    produce(pipeline, act_and_wait, market)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_each_number_is_once_in_silver_and_bars_are_the_vendors_or_say_what_they_lack(
    pipeline: Pipeline, dialect
) -> None:
    """Every third trade is sent twice; twenty are made while the line is down, and no history."""
    symbol = dialect.symbols[0]
    trades, moved = two_days_ago(symbol)
    missed = trades[MISSED]
    assert [t.trade_id for t in trades] == list(range(10_218_208, 10_218_208 + TRADES))
    with Exchange(dialect, history_status=HTTPStatus.FORBIDDEN).running() as exchange:
        was_there(pipeline, exchange)
        market = Market(exchange, symbol)
        produce(pipeline, lambda: play(pipeline, market, trades), market)

    pipeline.ingest()
    pipeline.now = datetime.now(timezone.utc) + timedelta(minutes=30)
    pipeline.finalize(max_windows=1000)

    silver = sorted(row["trade_id"] for row in pipeline.rows("trades_silver"))
    assert silver == [t.trade_id for t in trades if t not in missed]
    bars = pipeline.bars()
    name = f"{dialect.name.upper()}:{symbol}"
    vendor = [
        replace(bar, symbol=name, window_start=bar.window_start + moved)
        for bar in read_vendor_bars(path_of("bars_5m"))
    ]
    assert len(vendor) == BARS
    before, after = (trades[place].time_us for place in (MISSED.start - 1, MISSED.stop))

    def lacks(bar: VendorBar) -> bool:
        start_us = round(bar.window_start.timestamp() * 1e6)
        return start_us <= after and before < start_us + 300_000_000

    whole = [bar for bar in vendor if not lacks(bar)]
    assert BARS - 10 < len(whole) < BARS
    assert differences(whole, {key: vars_of(bar) for key, bar in bars.items()}) == []
    assert all(bar.is_final for bar in bars.values())
    incomplete = {start for (_, start), bar in bars.items() if not bar.is_complete}
    assert incomplete == {
        start for _, start in bars if start in {b.window_start for b in vendor if lacks(b)}
    }
    found = pipeline.client.gaps(datetime.now(timezone.utc) - timedelta(days=4), pipeline.now)
    (skipped,) = (gap for gap in found if gap.kind is GapKind.SKIPPED)
    assert skipped.symbols == (name,)
    assert skipped.started_us == before // 1000 * 1000
    assert skipped.ended_us == (after // 1000 + 1) * 1000


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("is_down", ["line", "producer", "line, and the history until a stop"])
def test_what_was_missed_is_fetched_and_its_bars_are_complete_and_the_vendors(
    pipeline: Pipeline, dialect, is_down, monkeypatch
) -> None:
    monkeypatch.setattr(type(PUBLIC[dialect.name].history), "requests_per_s", 20.0)
    symbol = dialect.symbols[0]
    trades, moved = two_days_ago(symbol)
    with Exchange(dialect).running() as exchange:
        was_there(pipeline, exchange)
        market = Market(exchange, symbol)
        if is_down == "line":
            produce_until_healed(pipeline, market, lambda: play(pipeline, market, trades))
        elif is_down != "producer":
            exchange.history_status = HTTPStatus.FORBIDDEN
            # The first ones may come before the client knows that it has subscribed.
            later = trades[800:900], trades[900:]
            produce(pipeline, lambda: play(pipeline, market, trades[:800]), market)
            exchange.history_status = None
            produce_until_healed(
                pipeline, market, lambda: [send(pipeline, market, t) for t in later]
            )
        else:
            before, after = trades[: MISSED.start], trades[MISSED.stop :]
            produce(pipeline, lambda: send(pipeline, market, before), market)
            for trade in trades[MISSED]:
                exchange.add(trade)
            produce_until_healed(pipeline, market, lambda: send(pipeline, market, after))
    pipeline.ingest()
    pipeline.now = datetime.now(timezone.utc) + timedelta(minutes=30)
    with pipeline.finalizer(1000) as finalizer:
        finalizer.round()
        finalizer.round()

    rows = pipeline.rows("trades_silver")
    assert sorted(row["trade_id"] for row in rows) == [t.trade_id for t in trades]
    fetched = {row["trade_id"] for row in rows if row["source"] == f"{dialect.name}:backfill"}
    assert fetched == {t.trade_id for t in trades[MISSED]}
    bars = pipeline.bars()
    name = f"{dialect.name.upper()}:{symbol}"
    vendor = [
        replace(bar, symbol=name, window_start=bar.window_start + moved)
        for bar in read_vendor_bars(path_of("bars_5m"))
    ]
    assert differences(vendor, {key: vars_of(bar) for key, bar in bars.items()}) == []
    assert all(bar.is_final and bar.is_complete for bar in bars.values())
    found = pipeline.client.gaps(datetime.now(timezone.utc) - timedelta(days=4), pipeline.now)
    (skipped,) = (gap for gap in found if gap.kind is GapKind.SKIPPED)
    assert (skipped.symbols, skipped.healed) == ((), (name,))


def vars_of(bar) -> dict[str, float]:
    names = ("open", "high", "low", "close", "volume")
    return {field: float(getattr(bar, field)) for field in names}
