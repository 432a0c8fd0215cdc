"""Which symbols producers receive, and what may be changed of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from tapeline.feeds.known import source_for
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import UsageError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.reports import UnreadableReportError
from tapeline.model.symbol_change import SymbolChange
from tapeline.status.symbols import SymbolState, changes_to, symbol_rows
from tests.statuses import a_status

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)
COINBASE = a_status(
    "c",
    is_live=True,
    started_us=1,
    source="coinbase",
    symbols=("COINBASE:BTC-USD", "COINBASE:ETH-USD", "COINBASE:SOL-USD"),
    removed=("COINBASE:SOL-USD",),
    without_slot={"COINBASE:ETH-USD": ((5, None),), "COINBASE:SOL-USD": ((9, None),)},
)
FINNHUB = a_status("f", is_live=True, started_us=1, symbols=("BINANCE:BTCUSDT", "AAPL"))


def feed(*statuses: FeedStatus, **changes: Any) -> FeedSnapshot:
    views = tuple(
        replace(ProducerView(s, is_gone=False, reported_at=NOW), **changes) for s in statuses
    )
    return FeedSnapshot({}, has_ended=False, producers=views)


def changes(*names: str, source: str | None = None, is_wanted: bool = True, of: Any = None) -> Any:
    found = changes_to(
        of or feed(COINBASE, FINNHUB), "trades_raw", names, source, 7, is_wanted=is_wanted
    )
    assert {(c.topic, c.is_wanted, c.changed_us) for c in found} == {("trades_raw", is_wanted, 7)}
    return [(c.source, c.symbol) for c in found]


def test_rows_are_what_is_asked_for_now_with_what_came_of_it():
    rows = symbol_rows(feed(COINBASE, FINNHUB))

    assert [(r.symbol, r.source, r.producer, r.state) for r in rows] == [
        ("AAPL", "finnhub", "f", SymbolState.RECEIVED),
        ("BINANCE:BTCUSDT", "finnhub", "f", SymbolState.RECEIVED),
        ("COINBASE:BTC-USD", "coinbase", "c", SymbolState.RECEIVED),
        ("COINBASE:ETH-USD", "coinbase", "c", SymbolState.WAITING),
    ]


@pytest.mark.parametrize("change", [{"connected": False}, {"started_us": None}])
def test_without_a_connection_or_a_message_nothing_is_received(change):
    rows = symbol_rows(feed(replace(FINNHUB, **change)))

    assert {row.state for row in rows} == {SymbolState.WAITING}


@pytest.mark.parametrize(
    "gone",
    [
        feed(COINBASE, is_gone=True),
        feed(replace(COINBASE, has_stopped=True)),
        feed(replace(COINBASE, is_live=False)),
    ],
)
def test_a_producer_that_does_not_run_and_a_tape_have_none(gone):
    assert symbol_rows(gone) == []


@pytest.mark.parametrize(
    ("symbol", "sources", "expected"),
    [
        ("AAPL", [], "finnhub"),
        ("AAPL", ["coinbase"], "finnhub"),
        ("AAPL", ["coinbase", "simulator"], "simulator"),
        ("COINBASE:BTC-USD", [], "coinbase"),
        ("coinbase:BTC-USD", ["kraken"], "coinbase"),
        ("BINANCE:BTCUSDT", ["finnhub"], "finnhub"),
        ("BINANCE:BTCUSDT", ["finnhub", "binance"], "binance"),
        ("OANDA:EUR_USD", ["binance"], "finnhub"),
    ],
)
def test_a_symbol_is_asked_of_what_runs_and_has_such_names(symbol, sources, expected):
    assert source_for(symbol, sources) == expected


def test_a_change_goes_to_the_feed_that_has_the_symbol():
    assert changes("MSFT", "coinbase:ADA-USD") == [
        ("finnhub", "MSFT"),
        ("coinbase", "COINBASE:ADA-USD"),
    ]
    assert changes("ADA-USD", source="coinbase") == [("coinbase", "COINBASE:ADA-USD")]
    assert changes("BINANCE:BTCUSDT", is_wanted=False) == [("finnhub", "BINANCE:BTCUSDT")]
    assert changes("BINANCE:BTCUSDT", of=feed(COINBASE)) == [("binance", "BINANCE:BTCUSDT")]


def test_a_symbol_that_comes_by_another_feed_is_not_added_and_its_trades_not_doubled():
    with pytest.raises(UsageError, match=r"BINANCE:BTCUSDT comes by finnhub already, from prod"):
        changes("BINANCE:BTCUSDT", source="binance")
    removed = replace(FINNHUB, removed=("BINANCE:BTCUSDT",))
    assert changes("BINANCE:BTCUSDT", source="binance", of=feed(removed)) == [
        ("binance", "BINANCE:BTCUSDT")
    ]


def test_a_symbol_of_another_venue_is_refused():
    with pytest.raises(UsageError, match="KRAKEN:A is not a symbol of COINBASE"):
        changes("KRAKEN:A", source="coinbase")


def test_a_connection_that_is_full_takes_no_more():
    full = a_status(
        "b",
        is_live=True,
        source="binance",
        symbols=tuple(f"BINANCE:S{number}" for number in range(1023)),
    )
    assert changes("BINANCE:NEW", of=feed(full)) == [("binance", "BINANCE:NEW")]
    with pytest.raises(UsageError, match="takes 1024 symbols, and producer b has 1023: remove"):
        changes("BINANCE:NEW", "BINANCE:NEW2", of=feed(full))


def test_a_change_is_read_back_as_it_was_and_anything_else_is_unreadable():
    change = SymbolChange(
        "trades_raw", "coinbase", "COINBASE:BTC-USD", is_wanted=True, changed_us=3
    )

    assert SymbolChange.from_bytes(change.to_bytes()) == change
    assert change.key == "trades_raw|coinbase|COINBASE:BTC-USD"
    for value in (b"", b"{}", b"[1]", b'{"topic":"t"}'):
        with pytest.raises(UnreadableReportError):
            SymbolChange.from_bytes(value)
