"""When a producer notices a gap, and where the gap begins and ends.

Times are in seconds since noon UTC of a Friday on which the exchange opens at 14:30 UTC.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tapeline.feeds.feed import IdHole
from tapeline.model.gap import Gap, GapKind, ends_of
from tapeline.model.reports import UnreadableReportError
from tapeline.producer.clock import FeedClock
from tapeline.producer.gap_reporter import GapReporter, gap_reporter
from tapeline.producer.gap_watch import GapWatch
from tapeline.producer.holes import Hole
from tapeline.producer.origin import Origin
from tapeline.program.settings import load_settings
from tests.statuses import a_status

NOON_US = int(datetime(2026, 11, 20, 12, tzinfo=timezone.utc).timestamp()) * 1_000_000
SYMBOLS = ("BINANCE:BTCUSDT", "AAPL")
BTC, AAPL = SYMBOLS
BLANK = Gap("me", "trades_raw", "topic-id", GapKind.DISCONNECTED, SYMBOLS, 0, None, 0)
OPEN_S = 9000.0  # 14:30 UTC
CLOSE_S = 9000.0 + 6.5 * 3600


def us(seconds: float) -> int:
    return NOON_US + round(seconds * 1_000_000)


def gap(
    kind: GapKind, started_s: float, ended_s: float | None, detected_s: float, *symbols: str
) -> Gap:
    return replace(
        BLANK,
        kind=kind,
        symbols=symbols or SYMBOLS,
        started_us=us(started_s),
        ended_us=None if ended_s is None else us(ended_s),
        detected_us=us(detected_s),
    )


class Told:
    """A watch that is told the same instant on both clocks."""

    def __init__(
        self, *symbols: str, last_message_us: int | None = None, started_us: int | None = None
    ) -> None:
        blank = replace(BLANK, symbols=symbols or SYMBOLS)
        self.watch = GapWatch(blank, 300.0, 900.0, last_message_us, started_us)

    def on_message(self, at_s: float, *symbols: str) -> list[Gap]:
        return self.watch.on_message(us(at_s), at_s, symbols)

    def on_disconnect(self, kind: GapKind, at_s: float) -> list[Gap]:
        return self.watch.on_disconnect(kind, us(at_s))

    def check(self, at_s: float) -> list[Gap]:
        return self.watch.check(us(at_s), at_s)

    def trades_each_second(self, first_s: int, last_s: int, *symbols: str) -> None:
        for second in range(first_s, last_s + 1):
            assert self.on_message(float(second), *symbols) == []


def reporter_of(watch: GapWatch, found: list[Gap], **earlier: Any) -> GapReporter:
    return GapReporter(watch, "feed_gaps", FeedClock(), send=found.append, **earlier)


def test_a_gap_begins_at_the_last_message_and_ends_at_the_next():
    told = Told()
    told.on_message(10, BTC)

    assert told.on_disconnect(GapKind.DISCONNECTED, 12) == [gap(GapKind.DISCONNECTED, 10, None, 12)]
    assert told.on_message(100) == [gap(GapKind.DISCONNECTED, 10, 100, 12)]
    assert told.on_message(101) == []


def test_the_first_reason_stands_until_a_message_comes():
    told = Told()
    told.on_message(10, BTC)

    told.on_disconnect(GapKind.SILENT, 160)

    assert told.on_disconnect(GapKind.REFUSED, 161) == []
    assert told.on_disconnect(GapKind.DISCONNECTED, 165) == []
    assert told.on_message(170, BTC) == [gap(GapKind.SILENT, 10, 170, 160)]


def test_a_feed_that_was_never_there_is_a_gap_since_the_first_attempt():
    told = Told()

    assert told.on_disconnect(GapKind.REFUSED, 5) == [gap(GapKind.REFUSED, 5, None, 5)]
    assert told.on_message(9) == [gap(GapKind.REFUSED, 5, 9, 5)]


def test_a_gap_takes_with_it_what_was_under_way_when_it_began():
    """The feed is 25 s late: what was lost at 310 s after noon was traded at 285 s."""
    told = Told()
    told.watch.late_us = 25_000_000
    told.on_message(310, BTC)
    assert told.on_disconnect(GapKind.DISCONNECTED, 312) == [
        gap(GapKind.DISCONNECTED, 285, None, 312)
    ]
    assert told.on_message(320) == [gap(GapKind.DISCONNECTED, 285, 320, 312)]


def test_a_producer_that_was_killed_reports_the_time_since_it_last_heard_anything():
    told = Told(last_message_us=us(10))

    assert told.watch.started(us(50)) == [gap(GapKind.STOPPED, 10, None, 50)]
    assert told.on_message(55) == [gap(GapKind.STOPPED, 10, 55, 50)]
    assert Told().watch.started(us(50)) == []


def test_a_gap_of_one_who_was_behind_begins_when_it_last_kept_up():
    """Frames that piled up in the socket were read at 40; nothing was read in time since 12."""
    told = Told()
    told.on_message(10, BTC)
    told.on_message(40, BTC)

    found = told.watch.on_disconnect(GapKind.DISCONNECTED, us(41), behind_since_us=us(12))

    assert found == [gap(GapKind.DISCONNECTED, 12, None, 41)]
    assert told.on_message(42) == [gap(GapKind.DISCONNECTED, 12, 42, 41)]


def test_a_gap_does_not_begin_before_the_last_message_of_one_who_kept_up_longer():
    told = Told()
    told.on_message(10, BTC)

    found = told.watch.on_disconnect(GapKind.DISCONNECTED, us(41), behind_since_us=us(12))

    assert found == [gap(GapKind.DISCONNECTED, 10, None, 41)]


def test_a_gap_never_ends_before_it_begins_though_the_clock_was_corrected():
    told = Told()
    told.on_disconnect(GapKind.REFUSED, 3600)  # by a clock an hour ahead

    assert told.on_message(5) == [gap(GapKind.REFUSED, 3600, 3600, 3600)]


def test_what_was_damaged_on_disk_is_a_gap_between_what_was_not():
    """Kafka had everything until 100, and the newest receipt that is on disk is of 130."""
    told = Told(last_message_us=us(130))
    found: list[Gap] = []
    reporter = reporter_of(told.watch, found, earlier_us=us(100))

    reporter.damaged(Hole(3, 5, us(40), us(50)))
    # What stood before is gone too: the gap begins where Kafka's knowledge ends.
    reporter.damaged(Hole(1, 5, 0, us(120)))

    # Kafka had nothing yet.
    new = Told(last_message_us=us(130), started_us=us(20))
    reporter_of(new.watch, found).damaged(Hole(1, 5, 0, us(30)))

    assert found == [
        gap(GapKind.DROPPED, 40, 50, 50),
        gap(GapKind.DROPPED, 100, 120, 120),
        gap(GapKind.DROPPED, 20, 30, 30),
    ]


def test_a_producer_that_was_killed_before_kafka_had_anything_of_it_comes_back_with_a_gap():
    """Its one status says when it first heard something; its spool is gone, or another has it."""
    killed = a_status("me", started_us=us(5), last_message_us=None)
    origin = Origin("finnhub", "me", "topic-id")
    watch = gap_reporter(load_settings(), origin, SYMBOLS, {"me": killed}).watch

    found = watch.started(us(600))

    assert watch.started_us == us(5)
    assert found == [gap(GapKind.STOPPED, 5, None, 600)]


def test_a_gap_of_a_life_that_received_nothing_ends_when_the_next_one_does():
    """It was refused until it was killed at 30; the next life receives something at 70."""
    killed = a_status("me", started_us=None, last_message_us=None, made_us=us(30))
    origin = Origin("finnhub", "me", "topic-id")
    refused = gap(GapKind.REFUSED, 5, None, 5)
    watch = gap_reporter(load_settings(), origin, SYMBOLS, {"me": killed}).watch

    (begun,) = watch.started(us(60))
    assert begun == gap(GapKind.STOPPED, 30, None, 60)
    (ended,) = watch.on_message(us(70), 70, [BTC])

    assert watch.started_us == us(70)
    assert dict(ends_of([refused, begun]))[refused] is None
    assert dict(ends_of([refused, ended]))[refused] == us(70)


def test_what_another_producer_left_damaged_is_a_gap_of_that_one():
    found: list[Gap] = []
    known = a_status("she", symbols=("MSFT",), last_message_us=us(70))
    watch = Told(last_message_us=us(130)).watch
    reporter = reporter_of(watch, found, earlier_us=us(100), others={"she": known})

    reporter.damaged_of("she", Hole(1, 2, 0, us(90)))
    reporter.damaged_of("he", Hole(3, 4, us(20), us(30)))

    assert found == [
        replace(gap(GapKind.DROPPED, 70, 90, 90, "MSFT"), producer_id="she"),
        # Who has never reported does not tell its symbols.
        replace(gap(GapKind.DROPPED, 20, 30, 30), producer_id="he"),
    ]


def test_a_dropped_frame_is_a_gap_since_the_message_before_it():
    told = Told()
    told.on_message(10, BTC)

    assert told.watch.dropped(us(11)) == [gap(GapKind.DROPPED, 10, 11, 11)]


def test_pings_without_trades_are_idle_after_the_time_out():
    told = Told()
    told.trades_each_second(0, 100, BTC)
    told.on_message(350)

    assert told.check(400) == []
    assert told.check(400.5) == [gap(GapKind.IDLE, 100, None, 400.5)]
    assert told.check(500) == []
    assert told.on_message(550) == []  # a ping ends no silence of trades
    assert told.on_message(600, BTC) == [gap(GapKind.IDLE, 100, 600, 400.5)]


def test_a_gap_is_open_while_nothing_comes_that_should():
    told = Told()
    told.trades_each_second(0, 100, BTC)
    told.on_message(350)
    assert not told.watch.is_open
    told.check(400.5)
    assert told.watch.is_open  # idle
    told.on_message(600, BTC)
    assert not told.watch.is_open

    told.on_disconnect(GapKind.DISCONNECTED, 601)
    assert told.watch.is_open
    told.on_message(602)
    assert not told.watch.is_open


def test_one_silent_symbol_is_no_open_gap():
    told = Told()
    told.trades_each_second(int(OPEN_S), int(OPEN_S) + 60, BTC, AAPL)
    told.trades_each_second(int(OPEN_S) + 61, int(OPEN_S) + 1000, BTC)

    assert [found.kind for found in told.check(OPEN_S + 1000)] == [GapKind.SYMBOL_SILENT]
    assert not told.watch.is_open


def test_pings_alone_are_idle_too():
    told = Told()
    told.on_message(0)
    for second in range(60, 301, 60):
        told.on_message(float(second))

    assert told.check(300) == []
    assert told.check(301) == [gap(GapKind.IDLE, 0, None, 301)]


def test_a_pause_that_was_a_gap_is_not_usual():
    told = Told()
    told.trades_each_second(0, 100, BTC)
    told.on_disconnect(GapKind.DISCONNECTED, 101)
    told.on_message(7300, BTC)

    (found,) = told.check(7300 + 301)
    assert found.kind is GapKind.IDLE


def test_where_trades_are_rare_silence_is_usual():
    """A trade each four minutes: an hour and twenty minutes are twenty pauses."""
    told = Told()
    for number in range(200):
        told.on_message(number * 240.0, BTC)
    last_s = 199 * 240.0

    assert told.check(last_s + 4700) == []
    (found,) = told.check(last_s + 4900)
    assert found.kind is GapKind.IDLE


def test_a_closed_market_is_not_idle_and_its_night_is_no_gap():
    told = Told(AAPL)
    told.trades_each_second(int(CLOSE_S) - 100, int(CLOSE_S) - 1, AAPL)

    assert told.check(CLOSE_S + 7200) == []
    # Monday 14:30 UTC is three days after Friday's opening.
    monday_s = OPEN_S + 3 * 86_400
    assert told.check(monday_s - 1) == []
    assert told.check(monday_s + 200) == []
    (found,) = told.check(monday_s + 301)
    assert (found.kind, found.started_us) == (GapKind.IDLE, us(monday_s - 1))


EUR, GOLD = "OANDA:EUR_USD", "OANDA:XAU_USD"
WEEK_END_S = 10 * 3600.0  # Friday 22:00 UTC, 17:00 in New York
WEEK_BEGIN_S = WEEK_END_S + 48 * 3600


def test_currencies_miss_nothing_at_the_weekend():
    """Pings all the time and no trade from Friday 22:00 to Sunday 22:00 UTC."""
    told = Told(EUR)
    told.trades_each_second(int(WEEK_END_S) - 100, int(WEEK_END_S) - 1, EUR)
    for minute in range(48 * 60 + 4):
        told.on_message(WEEK_END_S + minute * 60)
        assert told.check(WEEK_END_S + minute * 60 + 1) == []

    # The week has begun: five minutes later it is idle, from its first instant on.
    (found,) = told.check(WEEK_BEGIN_S + 305)
    assert found.kind is GapKind.IDLE
    assert us(WEEK_BEGIN_S - 60) <= found.started_us <= us(WEEK_BEGIN_S)


@pytest.mark.parametrize(("symbol", "gaps"), [(GOLD, 0), (EUR, 1)])
def test_metals_pause_for_an_hour_each_day(symbol, gaps):
    told = Told(symbol)
    monday_s = WEEK_BEGIN_S + 86_400  # 17:00 in New York
    told.trades_each_second(int(monday_s) - 100, int(monday_s) - 1, symbol)

    found = [gap for second in range(0, 3600, 60) for gap in told.check(monday_s + second)]

    assert len(found) == gaps


def test_what_is_idle_is_over_when_the_market_closes():
    """Nothing is missed from then on, so a status at the weekend shows no gap that lasts."""
    told = Told(EUR)
    told.trades_each_second(int(WEEK_END_S) - 1000, int(WEEK_END_S) - 900, EUR)
    (idle,) = told.check(WEEK_END_S - 100)
    assert told.check(WEEK_END_S - 1) == []

    assert told.check(WEEK_END_S + 1) == [replace(idle, ended_us=us(WEEK_END_S + 1))]
    assert told.check(WEEK_END_S + 3600) == []
    assert told.on_message(WEEK_BEGIN_S + 5, EUR) == []


def test_idle_shares_stay_idle_while_they_may_trade_after_hours():
    told = Told(AAPL)
    told.trades_each_second(int(CLOSE_S) - 1000, int(CLOSE_S) - 900, AAPL)
    (idle,) = told.check(CLOSE_S - 100)

    assert told.check(CLOSE_S + 100) == []
    # The late session ends at 20:00 New York time, four hours after the close.
    night_s = CLOSE_S + 4 * 3600
    assert told.check(night_s - 1) == []
    assert told.check(night_s) == [replace(idle, ended_us=us(night_s))]


def test_of_a_venue_whose_hours_are_not_known_silence_says_nothing():
    told = Told("SOMEWHERE:1")
    told.trades_each_second(0, 100, "SOMEWHERE:1")
    told.on_message(5000)

    assert told.check(5000) == []


def test_one_symbol_that_stays_silent_while_others_trade_is_reported():
    told = Told()
    told.trades_each_second(int(OPEN_S), int(OPEN_S) + 60, BTC, AAPL)
    told.trades_each_second(int(OPEN_S) + 61, int(OPEN_S) + 1000, BTC)

    quiet_s, now_s = OPEN_S + 60, OPEN_S + 1000
    (found,) = told.check(now_s)
    assert found == gap(GapKind.SYMBOL_SILENT, quiet_s, None, now_s, AAPL)
    assert not found.kind.marks_bars
    assert told.check(now_s + 1) == []
    assert told.on_message(now_s + 2, AAPL) == [
        gap(GapKind.SYMBOL_SILENT, quiet_s, now_s + 2, now_s, AAPL)
    ]


def test_symbols_that_are_silent_since_one_instant_have_a_gap_each_with_its_own_end():
    """Readers tell gaps of a kind apart by the millisecond in which they begin."""
    shares = ("AAPL", "MSFT", "TSLA")
    told = Told(BTC, *shares)
    told.on_message(OPEN_S, BTC, "AAPL", "TSLA")  # and never MSFT
    told.trades_each_second(int(OPEN_S) + 1, int(OPEN_S) + 1000, BTC)
    now_s = OPEN_S + 1000
    by_key = {}

    def report(gaps: list[Gap]) -> None:
        by_key.update({(found.kind, found.started_us // 1000): found for found in gaps})

    report(told.check(now_s))
    assert sorted(found.symbols for found in by_key.values()) == [(name,) for name in shares]
    report(told.on_message(now_s + 5, "MSFT"))
    report(told.check(now_s + 6))
    report(told.on_message(now_s + 7, "AAPL", BTC))
    # Those that are over hold their beginnings.
    told.watch.late_us = 1_000_000
    told.trades_each_second(int(now_s) + 8, int(now_s) + 2000, BTC)
    report(told.check(now_s + 2000))

    ends = {}
    for found in by_key.values():
        assert abs(found.started_us - us(OPEN_S)) <= 3000 or found.ended_us is None
        ends.setdefault(found.symbols, []).append(found.ended_us)
    assert ends == {
        ("AAPL",): [us(now_s + 7), None],
        ("MSFT",): [us(now_s + 5), None],
        ("TSLA",): [None],
    }


def test_thousands_of_silent_symbols_cost_no_time_and_none_replaces_another():
    names = tuple(f"N{number}" for number in range(20_000))
    told = Told(BTC, *names)
    told.on_message(OPEN_S, BTC)
    told.on_message(OPEN_S + 1000, BTC)
    began = time.process_time()
    found = told.check(OPEN_S + 1001)
    assert time.process_time() - began < 10  # 200 million steps when each begins with the first
    assert len({silent.started_us // 1000 for silent in found}) == len(names)


@pytest.mark.parametrize("kind", list(GapKind))
def test_a_gap_survives_the_wire(kind):
    sent = gap(kind, 1, None, 2)
    assert Gap.from_bytes(sent.to_bytes()) == sent
    assert Gap.from_bytes(replace(sent, ended_us=5).to_bytes()).key == sent.key


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"kind":"noise"}'])
def test_what_is_no_gap_is_an_error(value):
    with pytest.raises(UnreadableReportError):
        Gap.from_bytes(value)


def test_a_gap_of_a_newer_producer_is_read_and_one_of_a_kind_unknown_here_marks_bars():
    sent = json.loads(gap(GapKind.SYMBOL_SILENT, 1, None, 2).to_bytes())
    read = Gap.from_bytes(json.dumps({**sent, "kind": "of_2031", "venue": "X"}).encode())

    assert (read.kind, read.started_us, read.kind.marks_bars) == (
        GapKind.UNKNOWN,
        sent["started_us"],
        True,
    )


def test_numbers_left_out_are_a_gap_of_their_symbol_by_event_time():
    told = Told()
    ms = NOON_US // 1000
    (found,) = told.watch.skipped(IdHole(AAPL, 1, 3, ms + 10_000, ms + 25_000), us(26))
    assert found == gap(GapKind.SKIPPED, 10.0, 25.001, 26.0, AAPL)
    assert found.kind.marks_bars


def test_gaps_of_two_symbols_that_begin_together_are_one_so_that_none_replaces_the_other():
    told = Told()
    ms = NOON_US // 1000
    (first,) = told.watch.skipped(IdHole(AAPL, 1, 3, ms + 10_000, ms + 25_000), us(26))
    (both,) = told.watch.skipped(IdHole(BTC, 1, 3, ms + 10_000, ms + 20_000), us(27))
    assert both == gap(GapKind.SKIPPED, 10.0, 25.001, 27.0, AAPL, BTC)
    assert first.key == both.key
    (other,) = told.watch.skipped(IdHole(BTC, 1, 3, ms + 30_000, ms + 30_000), us(31))
    assert other == gap(GapKind.SKIPPED, 30.0, 30.001, 31.0, BTC)


@pytest.mark.parametrize(
    ("after_ms", "before_ms", "windows"),
    [
        (299_998, 300_000, [0, 1]),  # what is missing may be of the first millisecond, too
        (300_000, 299_999, [0, 1]),  # an exchange's times may go back
        (299_998, 299_999, [0]),
        (300_000, 300_000, [1]),
    ],
)
def test_numbers_left_out_mark_each_window_that_they_may_lie_in(after_ms, before_ms, windows):
    ms, five = NOON_US // 1000, timedelta(minutes=5)
    noon = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    hole = IdHole(AAPL, 1, 3, ms + after_ms, ms + before_ms)
    (found,) = Told().watch.skipped(hole, us(400))
    assert [n for n in range(3) if found.touches(AAPL, noon + n * five, noon + (n + 1) * five)] == (
        windows
    )


def test_a_symbol_that_was_removed_is_never_silent_though_a_trade_was_under_way():
    told = Told()
    told.trades_each_second(int(OPEN_S), int(OPEN_S) + 10, BTC, AAPL)
    assert told.watch.subscribed((BTC,), us(OPEN_S + 11), OPEN_S + 11) == []
    told.on_message(OPEN_S + 11, BTC, AAPL)
    told.trades_each_second(int(OPEN_S) + 12, int(OPEN_S) + 1000, BTC)
    assert told.check(OPEN_S + 1000) == []


def test_a_healed_gap_survives_the_wire_and_names_what_is_missing_still():
    found = gap(GapKind.DISCONNECTED, 5.0, 9.0, 5.5).healed_of([AAPL], us(20), {0: 17, 3: 4})
    assert (found.symbols, found.healed) == ((BTC,), (AAPL,))
    assert Gap.from_bytes(found.to_bytes()) == found
    assert found.key == gap(GapKind.DISCONNECTED, 5.0, 9.0, 5.5).key


def test_gaps_are_healed_once_what_was_missing_has_come_and_damage_on_disk_never_is():
    sent: list[Gap] = []
    told = Told()
    reporter = GapReporter(told.watch, "feed_gaps", FeedClock(), send=sent.append)
    over = gap(GapKind.DISCONNECTED, 5.0, 9.0, 5.5)
    lasting = gap(GapKind.IDLE, 20.0, None, 25.0)
    reporter.report([over, lasting])
    reporter.damaged(Hole(1, 2, us(10), us(11)))
    sent.clear()
    asked: list[tuple[str, Gap]] = []

    def covers(symbol: str, found: Gap) -> bool:
        asked.append((symbol, found))
        return symbol == AAPL

    reporter.heal(covers, {0: 17})
    (first,) = sent
    assert asked == [(symbol, over) for symbol in SYMBOLS]
    assert (first.symbols, first.healed, first.healed_offsets) == ((BTC,), (AAPL,), {0: 17})
    reporter.heal(lambda *_: False, {0: 18})
    assert sent == [first]
    reporter.heal(lambda *_: True, {1: 3})
    assert (sent[1].symbols, sent[1].healed) == ((), (AAPL, BTC))
    assert sent[1].healed_offsets == {0: 17, 1: 3}
    reporter.heal(lambda *_: True, {0: 20})
    assert len(sent) == 2


def lives_of(*gaps: Gap) -> tuple[GapReporter, list[Gap]]:
    """Return the reporter of a life after these gaps, which runs since 60 s, and what it tells."""
    earlier = a_status("me", started_us=us(0), last_message_us=us(40), source="coinbase")
    clock = FeedClock(lambda: NOON_US / 1e6 + 60, lambda: 0.0)
    origin = Origin("coinbase", "me", "topic-id")
    found: list[Gap] = []
    reporter = gap_reporter(
        load_settings(), origin, SYMBOLS, {"me": earlier}, missed=gaps, clock=clock
    )
    reporter.send = found.append
    reporter.report(reporter.watch.started(us(60)))
    return reporter, found


def test_what_a_life_before_left_open_ends_with_this_one_and_may_be_healed():
    lasting, silent = gap(GapKind.IDLE, 30, None, 35), gap(GapKind.SYMBOL_SILENT, 1, None, 9, AAPL)
    other = replace(gap(GapKind.IDLE, 31, None, 35), producer_id="she")
    unknown = gap(GapKind.UNKNOWN, 32, None, 33)
    reporter, found = lives_of(lasting, silent, other, unknown)

    reporter.report(reporter.watch.on_message(us(70), 70, [BTC]))

    ended = [replace(lasting, ended_us=us(70)), replace(silent, ended_us=us(70))]
    stopped = gap(GapKind.STOPPED, 40, None, 60)
    assert sorted(found[1:], key=lambda g: g.started_us) == [
        ended[1],
        ended[0],
        replace(stopped, ended_us=us(70)),
    ]
    found.clear()
    reporter.heal(lambda _symbol, gap: gap.kind is GapKind.IDLE, {0: 3})
    assert [(g.key, g.symbols, g.healed) for g in found] == [(lasting.key, (), SYMBOLS)]


def test_gaps_of_lives_before_are_healed_but_for_damage_on_disk():
    line = gap(GapKind.DISCONNECTED, 10, 20, 12)
    left_open = gap(GapKind.SILENT, 22, None, 23)
    stopped = gap(GapKind.STOPPED, 24, 30, 26).healed_of(SYMBOLS, us(31), {})
    reporter, found = lives_of(
        *(line, left_open, stopped, gap(GapKind.DROPPED, 5, 6, 6)),
        gap(GapKind.DISCONNECTED, -100_000, -90_000, -100_000),  # a day ago
        replace(line, started_us=us(11)).healed_of(SYMBOLS, us(21), {}),
    )
    found.clear()
    reporter.heal(lambda *_: True, {0: 3})
    assert [(g.kind, g.started_us, g.ended_us, g.healed) for g in found] == [
        (GapKind.DISCONNECTED, us(10), us(20), SYMBOLS),
        (GapKind.SILENT, us(22), us(30), SYMBOLS),
    ]


def test_numbers_left_out_since_an_instant_of_a_life_before_are_one_gap_with_those():
    before = gap(GapKind.SKIPPED, 38, 39, 39, AAPL)
    reporter, _ = lives_of(before)
    hole = IdHole(BTC, 1, 3, NOON_US // 1000 + 38_000, NOON_US // 1000 + 62_000)
    assert reporter.watch.skipped(hole, us(63)) == [gap(GapKind.SKIPPED, 38, 62.001, 63, AAPL, BTC)]


def test_numbers_of_before_say_nothing_once_another_feed_has_brought_a_symbol():
    other = a_status("other", symbols=(BTC,), source="finnhub", last_message_us=us(50))
    reporter = GapReporter(
        Told().watch, "feed_gaps", FeedClock(), others={"other": other}, source="binance"
    )
    assert reporter.came_by_another_feed(BTC, us(49))
    assert not reporter.came_by_another_feed(BTC, us(50))
    assert not reporter.came_by_another_feed(AAPL, us(49))
    same = replace(reporter, source="simulator")
    assert not same.came_by_another_feed(BTC, us(49))


def test_a_number_left_out_does_not_end_a_gap_that_lasts():
    lasting = gap(GapKind.DISCONNECTED, 5.0, None, 5.5)
    skipped = gap(GapKind.SKIPPED, 6.0, 7.0, 8.0, AAPL)
    stopped = gap(GapKind.STOPPED, 9.0, 12.0, 12.0)
    assert dict(ends_of([lasting, skipped]))[lasting] is None
    assert dict(ends_of([lasting, skipped, stopped]))[lasting] == us(12)
