"""A whole tape rebuilt beside a running stream, with a reader that looks all the time."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tapeline.model.bar import Bar, Interval
from tapeline.model.trade import Trade, encode_trade
from tests.commands import TIMEOUT_S, finish, start, stored_bars, wait_for
from tests.pipeline import Pipeline
from tests.watcher import Watcher

from .vendor import differences, read_vendor_bars

TAPE = "gold_20131007"
TRADES = 40_182
START = datetime(2013, 10, 6, tzinfo=timezone.utc)
LATE = 8


def tape(kind: str) -> Path:
    return Path(os.environ["TAPELINE_TAPES"]) / f"{TAPE}.{kind}.csv.gz"


def send_late_trade(pipeline: Pipeline, symbol: str, start: datetime, trade_id: int) -> None:
    """Send a trade that counts and changes nothing else: an odd lot of size 0."""
    ms = int(start.timestamp() * 1000) + 299_000
    now_us = int(datetime.now(timezone.utc).timestamp() * 1e6)
    late = Trade(symbol, 1.0, 0.0, ms, ("12",), trade_id, now_us, 0, "late")
    pipeline.send_messages([(symbol, encode_trade(late))])


@pytest.mark.long
def test_a_reader_sees_no_worse_bar_while_a_whole_tape_is_rebuilt(pipeline: Pipeline) -> None:
    vendor = read_vendor_bars(tape("bars_5m"))
    windows = sorted({(b.symbol, b.window_start) for b in vendor}, key=lambda w: w[1])
    symbols = {symbol for symbol, _ in windows}
    kafka = pipeline.settings.kafka
    target = ("--topic", pipeline.name, "--keyspace", pipeline.name, "--policy", "sip")
    environment = {
        "TAPELINE_KAFKA__STATUS_TOPIC": kafka.status_topic,
        "TAPELINE_KAFKA__GAPS_TOPIC": kafka.gaps_topic,
    }
    pipeline.send_tape(tape("trades"))
    stream = start("stream", *target, environment=environment)
    try:
        wait_for(lambda: finals(pipeline, symbols) >= len(windows), timeout_s=TIMEOUT_S)
        before = finals(pipeline, symbols)
        pipeline.session.execute("TRUNCATE trades_silver")
        for symbol, window in windows[::20]:
            change_bar(pipeline, symbol, window)
        watcher = Watcher(pipeline.client, symbols, START, START + timedelta(days=5))
        with watcher.watching():
            rebuild = start("rebuild", "silver", *target, environment=environment)
            for n, (symbol, window) in enumerate(windows[:: len(windows) // LATE][:LATE]):
                send_late_trade(pipeline, symbol, window, n)
            finish(rebuild)
            wait_for(lambda: trades_in_bars(pipeline, symbols) == trades_in_silver(pipeline))
    finally:
        stream.terminate()
        finish(stream)

    assert watcher.worse == []
    assert watcher.changes >= len(windows[::20])
    assert len(pipeline.rows("trades_silver")) == TRADES + LATE
    assert finals(pipeline, symbols) >= before
    ours = stored_bars(symbols, "5m", pipeline.name)
    assert differences([b for b in vendor if b.is_exact], ours) == []


def stored(pipeline: Pipeline, symbols: set[str]) -> list[Bar]:
    end = START + timedelta(days=5)
    return [
        bar
        for symbol in symbols
        for bar in pipeline.client.bars(symbol, Interval.FIVE_MINUTES, START, end)
    ]


def finals(pipeline: Pipeline, symbols: set[str]) -> int:
    return sum(bar.is_final for bar in stored(pipeline, symbols))


def trades_in_bars(pipeline: Pipeline, symbols: set[str]) -> dict[tuple[str, datetime], int]:
    return {(b.symbol, b.window_start): b.trade_count for b in stored(pipeline, symbols)}


def trades_in_silver(pipeline: Pipeline) -> dict[tuple[str, datetime], int]:
    return Counter(
        (row["symbol"], row["bucket"].replace(tzinfo=timezone.utc))
        for row in pipeline.rows("trades_silver")
    )


def change_bar(pipeline: Pipeline, symbol: str, window: datetime) -> None:
    """Change a bar by hand."""
    pipeline.session.execute(
        "UPDATE trades_gold_5m SET close = 1.0, volume = 1 "
        "WHERE symbol = %s AND period = '2013-10-01' AND window_start = %s",
        (symbol, window),
    )
