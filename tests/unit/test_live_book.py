"""Open bars: told of when they are whole, at a pace, in bounded memory."""

from __future__ import annotations

from datetime import datetime, timezone

from tapeline.live.book import Book
from tapeline.model.bar import Interval
from tapeline.model.conditions import SIP
from tapeline.model.times import to_millis
from tapeline.model.trade import Trade

START = to_millis(datetime(2026, 11, 20, 15, 0, tzinfo=timezone.utc))
FIVE = 300_000
AAPL = (Interval.FIVE_MINUTES, "AAPL")
MINUTE = (Interval.ONE_MINUTE, "AAPL")


def trade(number: int, time_ms: int = START, symbol: str = "AAPL") -> Trade:
    return Trade(symbol, 10.0 + number, 1.0, time_ms, None, number, time_ms * 1000, 0, "test")


def a_book(*topics, **options) -> Book:
    book = Book(SIP, **options)
    book.want(frozenset(topics), START)
    return book


def counts(book: Book, now_s: float) -> list[tuple[str, int, int]]:
    return [
        (interval.value, (to_millis(bar.window_start) - START) // 60_000, bar.trade_count)
        for interval, bar in book.take_changed(now_s)
    ]


def test_a_window_is_told_of_when_the_log_has_been_read_for_it() -> None:
    book = a_book(AAPL)
    assert book.fold(trade(2, START + FIVE))
    assert counts(book, 0) == []
    assert book.fold(trade(1))
    book.make_whole([AAPL], START)
    assert counts(book, 1) == [("5m", 0, 1), ("5m", 5, 1)]


def test_what_the_log_no_longer_holds_is_never_told_as_a_fragment() -> None:
    """Messages until a second into the window are gone: it is the next one that is whole."""
    book = a_book(AAPL)
    book.fold(trade(1, START + 2000))
    book.fold(trade(2, START + FIVE))
    book.make_whole([AAPL], START + 1000)
    assert counts(book, 0) == [("5m", 5, 1)]
    assert not book.fold(trade(3, START + 3000))
    assert to_millis(book.held_from[AAPL]) == START + FIVE


def test_changes_are_told_at_once_and_then_ten_times_a_second() -> None:
    book = a_book(AAPL)
    book.make_whole([AAPL], START)
    book.fold(trade(1))
    assert counts(book, 10.0) == [("5m", 0, 1)]
    book.fold(trade(2))
    book.fold(trade(3))
    assert counts(book, 10.05) == []
    assert counts(book, 10.11) == [("5m", 0, 3)]
    assert counts(book, 99.0) == []


def test_minutes_are_folded_too_where_they_are_wanted() -> None:
    book = a_book(AAPL, MINUTE)
    book.make_whole([AAPL, MINUTE], START)
    book.fold(trade(1))
    book.fold(trade(2, START + 60_000))
    assert not book.fold(trade(2, START + 60_000))
    assert sorted(counts(book, 0)) == [("1m", 0, 1), ("1m", 1, 1), ("5m", 0, 2)]


def test_what_is_no_longer_wanted_is_forgotten_and_is_not_whole_when_wanted_again() -> None:
    book = a_book(AAPL)
    book.make_whole([AAPL], START)
    book.fold(trade(1))
    assert book.want(frozenset(), START) == frozenset()
    assert (book.trades, book.keys) == (0, frozenset())
    assert not book.fold(trade(2))
    assert book.want(frozenset({AAPL}), START) == {AAPL}
    book.fold(trade(3))
    assert counts(book, 0) == []


def test_the_oldest_windows_are_given_up_when_there_is_too_much() -> None:
    book = a_book(AAPL, most_trades=5)
    book.make_whole([AAPL], START)
    for number in range(8):
        book.fold(trade(number, START + number * 60_000))
    book.forget(0)
    assert book.trades == 3
    assert counts(book, 0) == [("5m", 5, 3)]
    assert to_millis(book.held_from[AAPL]) == START + FIVE


def test_old_windows_are_given_up() -> None:
    book = a_book(AAPL)
    book.make_whole([AAPL], START)
    book.fold(trade(1))
    book.forget(START + 1)
    assert book.trades == 0
    assert not book.fold(trade(2))
