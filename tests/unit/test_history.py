"""What was missed is fetched page by page, and only called filled when all of it came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tapeline.feeds.feed import IdHole, our_symbols
from tapeline.feeds.known import PUBLIC
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.history import HistoryClient, NoHistoryError
from tapeline.producer.id_file import IdFile
from tapeline.producer.id_watch import IdWatch, Point
from tapeline.producer.validation import WireTrade
from tests.exchanges import DIALECTS, Exchange, MadeTrade

T_US = 1_764_230_400_123_456
FIRST, TRADES = 700, 43


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr("tapeline.producer.feed_client._FIRST_BACKOFF_S", 0.001)
    for feed in PUBLIC.values():
        monkeypatch.setattr(type(feed.history), "requests_per_s", 1000.0)


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def exchange(request) -> Iterator[Exchange]:
    """Have numbers 700 to 742, several a millisecond, and as many of another symbol."""
    dialect = request.param
    with Exchange(dialect).running() as exchange:
        for n in range(TRADES):
            time_us = T_US + n // 3 * 1000 + n
            exchange.add(MadeTrade(FIRST + n, dialect.symbols[0], f"{n + 1}.5", "0.25", time_us))
            exchange.add(MadeTrade(FIRST + n, dialect.symbols[1], "1", "1", time_us))
        yield exchange


def hole_of(exchange: Exchange, after: int, before: int) -> IdHole:
    feed = PUBLIC[exchange.dialect.name]
    (symbol,) = our_symbols(feed, exchange.dialect.symbols[:1])
    times = [(T_US + (n - FIRST) // 3 * 1000 + n - FIRST) // 1000 for n in (after, before)]
    return IdHole(symbol, after, before, times[0], times[1])


def fetched(exchange: Exchange, hole: IdHole) -> list[WireTrade]:
    async def fetch() -> list[WireTrade]:
        client = HistoryClient(PUBLIC[exchange.dialect.name], exchange.history_url)
        return [trade async for page in client.trades(hole) for trade in page]

    return asyncio.run(fetch())


@pytest.mark.parametrize(("after", "before"), [(702, 735), (700, 702), (705, 742), (720, 723)])
def test_every_number_of_a_hole_is_fetched_once_and_no_other(exchange, after, before):
    hole = hole_of(exchange, after, before)
    found = sorted(fetched(exchange, hole), key=lambda t: t.trade_id or 0)
    assert [t.trade_id for t in found] == list(range(after + 1, before))
    for trade in found:
        n = (trade.trade_id or 0) - FIRST
        at_ms = (T_US + n // 3 * 1000 + n) // 1000
        assert trade == WireTrade(hole.symbol, n + 1.5, 0.25, at_ms, None, trade.trade_id)
    assert (
        len(exchange.requests) <= 2 + (before - after) / 2
    )  # of Kraken's five, three may be known


def test_a_hole_of_which_the_history_leaves_numbers_out_is_not_filled(exchange):
    """It may be behind the feed; what it has is taken all the same."""
    first, never = exchange.dialect.symbols[0], range(710, 720)
    exchange.trades = [t for t in exchange.trades if t.symbol != first or t.trade_id not in never]
    hole, taken = hole_of(exchange, 705, 725), []

    async def fetch() -> None:
        client = HistoryClient(PUBLIC[exchange.dialect.name], exchange.history_url)
        async for page in client.trades(hole):
            taken.extend(trade.trade_id or 0 for trade in page)

    with pytest.raises(NoHistoryError, match="leaves out 10 of the numbers"):
        asyncio.run(fetch())
    assert sorted(taken) == [*range(706, 710), *range(720, 725)]


def test_what_lies_beyond_a_hole_is_not_looked_at(exchange):
    """A page runs on to the present, which may be long after the hole."""
    symbol = exchange.dialect.symbols[0]
    late_us = T_US + 3_600_000_000
    exchange.trades = [t for t in exchange.trades if t.symbol == symbol and t.trade_id < 730]
    exchange.add(MadeTrade(730, symbol, "0", "1", late_us))  # and is no valid trade
    assert len(fetched(exchange, hole_of(exchange, 725, 729))) == 3


def test_what_the_exchange_refuses_or_has_forgotten_is_no_history(exchange):
    exchange.history_status = HTTPStatus.FORBIDDEN
    with pytest.raises(NoHistoryError, match="HTTP 403"):
        fetched(exchange, hole_of(exchange, 702, 720))
    assert len(exchange.requests) == 1
    exchange.history_status = None
    exchange.trades = []
    with pytest.raises(NoHistoryError, match="has no such trades"):
        fetched(exchange, hole_of(exchange, 702, 720))


def test_an_exchange_in_trouble_is_asked_again_and_at_last_given_up(exchange):
    exchange.history_status = HTTPStatus.TOO_MANY_REQUESTS
    exchange.history_errors = 3
    assert len(fetched(exchange, hole_of(exchange, 702, 706))) == 3
    exchange.requests.clear()
    exchange.history_errors = None
    with pytest.raises(NoHistoryError, match="HTTP 429"):
        fetched(exchange, hole_of(exchange, 702, 706))
    assert len(exchange.requests) == 8


@pytest.mark.parametrize("body", ["no json", "{}", "[7]", "null", '{"error":["EGeneral:Unknown"]}'])
def test_an_answer_that_is_none_fills_nothing(exchange, body):
    exchange.history_body = body
    with pytest.raises(NoHistoryError):
        fetched(exchange, hole_of(exchange, 702, 706))


# Numbers that come, each a second after the one before, and gaps by their seconds.
def watch_of(numbers: list[int]) -> tuple[IdWatch, list[IdHole]]:
    watch, holes = IdWatch(), []
    for number in numbers:
        trade = WireTrade("A:B", 1.0, 1.0, number * 1000, None, number)
        holes += watch.note([trade], number * 1_000_000 + 200_000)
    return watch, holes


def gap(kind: GapKind, started_s: float, ended_s: float | None) -> Gap:
    ended_us = None if ended_s is None else round(ended_s * 1e6)
    return Gap("p", "t", "id", kind, ("A:B",), round(started_s * 1e6), ended_us, 0)


def test_a_gap_is_covered_when_the_numbers_go_on_through_it():
    watch, holes = watch_of([4, 5, 6, 7])
    assert holes == []
    assert watch.covers("A:B", gap(GapKind.DISCONNECTED, 5.3, 6.1))
    assert not watch.covers("A:B", gap(GapKind.DISCONNECTED, 4.1, 6.1))  # before the first came
    assert not watch.covers("A:B", gap(GapKind.DISCONNECTED, 5.3, 7.3))  # none came after it
    assert not watch.covers("A:B", gap(GapKind.DISCONNECTED, 5.3, None))
    assert not watch.covers("A:C", gap(GapKind.DISCONNECTED, 5.3, 6.1))


def test_a_hole_is_covered_once_it_is_filled_and_only_where_it_is():
    watch, holes = watch_of([4, 5, 9, 10, 13])
    assert [(h.after_id, h.before_id, h.after_ms, h.before_ms) for h in holes] == [
        (5, 9, 5000, 9000),
        (10, 13, 10_000, 13_000),
    ]
    skipped = [gap(GapKind.SKIPPED, 5, 9), gap(GapKind.SKIPPED, 10, 13)]
    lost = gap(GapKind.DISCONNECTED, 4.5, 9.1)
    assert not any(watch.covers("A:B", g) for g in (*skipped, lost))
    watch.filled(holes[0])
    assert [watch.covers("A:B", g) for g in (*skipped, lost)] == [True, False, True]
    watch.filled(holes[1])
    assert all(watch.covers("A:B", g) for g in (*skipped, lost))


@pytest.mark.parametrize("times_ms", [(5000, 5000, 6000), (5000, 4999, 6000), (5000, 5001, 9000)])
def test_a_hole_within_a_millisecond_is_not_filled_by_what_follows(times_ms):
    watch = IdWatch()
    for number, at_ms in zip((1, 3, 4), times_ms, strict=True):
        watch.note([WireTrade("A:B", 1.0, 1.0, at_ms, None, number)], 10_000_000)
    skipped = gap(GapKind.SKIPPED, min(times_ms[:2]) / 1000, 5.002)
    assert not watch.covers("A:B", skipped)
    watch.filled(IdHole("A:B", 1, 3, *times_ms[:2]))
    assert watch.covers("A:B", skipped)


def test_a_later_run_goes_on_from_the_numbers_that_were_kept(tmp_path):
    file = IdFile(tmp_path / "p.numbers")
    now_us = 60_000_000
    assert file.read("topic", now_us, now_us) == {}
    file.write("topic", 11_000_000, watch_of([4, 5, 9, 10])[0].runs)
    assert file.read("another", now_us, now_us) == {}
    assert file.read("topic", 10_999_999, now_us) == {}  # their trades are nowhere
    assert file.read("topic", now_us, now_us + 24 * 3_600_000_000) == {}
    watch = IdWatch()
    (open_hole,) = watch.goes_on_from(file.read("topic", 11_000_000, now_us))
    assert open_hole == IdHole("A:B", 5, 9, 5000, 9000)
    (hole,) = watch.note([WireTrade("A:B", 1.0, 1.0, 14_000, None, 14)], 14_200_000)
    assert (hole.after_id, hole.before_id, hole.after_ms) == (10, 14, 10_000)
    stopped = gap(GapKind.STOPPED, 10.5, 13.9)
    assert not watch.covers("A:B", stopped)
    watch.filled(hole)
    assert watch.covers("A:B", stopped)
    before = [gap(GapKind.DISCONNECTED, 4.5, 9.1), gap(GapKind.SKIPPED, 5, 9.001)]
    assert not any(watch.covers("A:B", g) for g in before)
    watch.filled(open_hole)
    assert all(watch.covers("A:B", g) for g in before)


def test_of_numbers_that_were_kept_those_of_a_day_are_known(tmp_path):
    file, day_us = IdFile(tmp_path / "p.numbers"), 24 * 3_600_000_000
    file.write("topic", 0, watch_of([4, 5, 9, 10])[0].runs)
    assert file.read("topic", 0, day_us + 5_200_000) == {
        "A:B": [(Point(9, 9000, 9_200_000), Point(10, 10_000, 10_200_000))]
    }
    assert file.read("topic", 0, day_us + 10_200_000) == {}


def test_a_symbol_that_comes_back_missed_nothing_before_though_a_trade_was_under_way():
    watch, _ = watch_of([4, 5])
    watch.subscribed(["A:C"])
    assert watch.note([WireTrade("A:B", 1.0, 1.0, 6000, None, 6)], 6_200_000) == []
    watch.subscribed(["A:B", "A:C"])
    assert watch.note([WireTrade("A:B", 1.0, 1.0, 60_000, None, 60)], 60_200_000) == []
    assert watch.runs == {"A:B": [(Point(60, 60_000, 60_200_000),) * 2]}


RUN = '{"topic_id":"topic","until_us":0,"runs":{"A":[[[1,2,3],%s]]}}'


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", RUN % "[4,5]", RUN % '[4,5,"6"]', RUN % "[4,5,true]", RUN % "null"]
)
def test_numbers_that_are_damaged_are_none(tmp_path, text):
    path = tmp_path / "p.numbers"
    path.write_text(text)
    assert IdFile(path).read("topic", 0, 0) == {}
    path.write_text(RUN % "[4,5,6]")
    assert IdFile(path).read("topic", 0, 0) == {"A": [(Point(1, 2, 3), Point(4, 5, 6))]}
