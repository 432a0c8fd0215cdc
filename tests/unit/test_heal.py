"""What `tapeline heal` is asked, and which gaps of which feeds it looks at."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from typer.testing import CliRunner

from tapeline.cli.app import app
from tapeline.feeds.known import PUBLIC
from tapeline.heal.job import Span
from tapeline.heal.run import Wanted, gaps_by_feed
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import UsageError
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import to_micros
from tests.statuses import a_status

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
BTC, ETH, PAIR = "COINBASE:BTC-USD", "COINBASE:ETH-USD", "KRAKEN:BTC/USD"


def test_a_feed_whose_history_is_switched_off_is_said_before_anything_is_asked(monkeypatch):
    monkeypatch.setenv("TAPELINE_FEEDS__KRAKEN_HISTORY", "none")
    said = CliRunner().invoke(app, ["heal", "--from", "2026-11-20", "--source", "kraken"])
    assert isinstance(said.exception, UsageError)
    assert "TAPELINE_FEEDS__KRAKEN_HISTORY is none" in str(said.exception)


def gap(start: timedelta, end: timedelta | None, producer: str = "cb", **changes) -> Gap:
    times = [None if t is None else to_micros(NOON + t) for t in (start, end)]
    made = Gap(producer, "t", "id", GapKind.DISCONNECTED, (BTC, ETH), times[0], times[1], times[0])
    return replace(made, **changes)


def found(*gaps: Gap, feed: str | None = None, symbols: tuple[str, ...] = ()) -> dict:
    """Return the beginnings of the gaps from noon to one, hours after noon, by feed and symbol."""
    sources = {"cb": "coinbase", "kr": "kraken", "fh": "finnhub", "old": ""}
    views = [
        ProducerView(a_status(name, source=source), is_gone=False, reported_at=NOON)
        for name, source in sources.items()
    ]
    snapshot = FeedSnapshot({}, has_ended=False, producers=tuple(views), gaps=gaps)
    wanted = Wanted(NOON, NOON + HOUR, PUBLIC.get(feed or ""), symbols)
    span = Span(NOON, NOON + HOUR, NOON - 9 * HOUR, NOON + 9 * HOUR)
    return {
        name: {
            symbol: [(gap.started_us - to_micros(NOON)) / 3.6e9 for gap in some]
            for symbol, some in by_symbol.items()
        }
        for name, by_symbol in gaps_by_feed(snapshot, wanted, span).items()
    }


def test_without_symbols_those_are_looked_at_that_have_a_gap_in_the_time_of_a_feed_with_numbers():
    gaps = [
        gap(-2 * HOUR, -1 * HOUR),
        gap(-HOUR, HOUR / 2),
        gap(HOUR / 2, HOUR * 2, symbols=(ETH,), healed=(BTC,)),
        gap(HOUR, HOUR * 2),
        gap(HOUR / 4, HOUR, "kr", symbols=(PAIR,)),
        gap(HOUR / 4, HOUR, "kr", symbols=(PAIR,), kind=GapKind.SYMBOL_SILENT),
        gap(HOUR / 4, HOUR, "fh", symbols=("AAPL",)),
        gap(HOUR / 4, HOUR, "old", symbols=("AAPL",)),
        gap(HOUR / 4, HOUR, "nobody", symbols=(BTC,)),
    ]
    coinbase = {BTC: [-1], ETH: [-1, 0.5]}
    assert found(*gaps) == {"coinbase": coinbase, "kraken": {PAIR: [0.25]}}
    assert found(*gaps, feed="coinbase") == {"coinbase": coinbase}
    assert found(*gaps, feed="coinbase", symbols=(ETH,)) == {"coinbase": {ETH: [-1, 0.5]}}
    assert found(*gaps, feed="kraken", symbols=("KRAKEN:X/Y",)) == {"kraken": {"KRAKEN:X/Y": []}}
    assert found() == {}


def test_a_gap_that_a_producer_left_open_ends_with_the_next_one_of_its():
    stopped = gap(-2 * HOUR, -HOUR, kind=GapKind.STOPPED)
    assert found(gap(-3 * HOUR, None), stopped) == {}
    lasting = found(gap(-3 * HOUR, None), replace(stopped, ended_us=to_micros(NOON + HOUR / 2)))
    assert lasting == {"coinbase": {BTC: [-3, -2], ETH: [-3, -2]}}
    assert found(gap(-3 * HOUR, None)) == {"coinbase": {BTC: [-3], ETH: [-3]}}
