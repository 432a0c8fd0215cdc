"""Holes among the numbers that silver has, and which gaps they prove to be healed.

Expected holes come from sets of numbers, expected gaps from cases worked by hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import pytest

from tapeline.heal.stored_numbers import StoredNumbers
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import EPOCH
from tapeline.producer.validation import WireTrade

SYMBOL, SOURCE = "COINBASE:BTC-USD", "coinbase"
T_S = 10 * 86_400.0


class Stored(NamedTuple):
    """A trade in silver; times in seconds after `T_S`."""

    trade_id: int
    made_s: float
    came_s: float | None = None
    source: str = SOURCE


def at(seconds: float):
    return EPOCH + timedelta(seconds=T_S + seconds)


def ms(seconds: float) -> int:
    return round((T_S + seconds) * 1000)


def silver(*trades: Stored) -> StoredNumbers:
    def between(start, end) -> Iterator[list[tuple[object, ...]]]:
        for trade in sorted(trades, key=lambda t: (t.made_s, t.trade_id)):
            if start <= at(trade.made_s) < end:
                came_s = trade.made_s if trade.came_s is None else trade.came_s
                row = (ms(trade.made_s), trade.trade_id, 1.0, 1.0, None, 0, ms(came_s))
                yield [(*row, trade.source)]

    return StoredNumbers(SYMBOL, SOURCE, between)


def read(*trades: Stored) -> StoredNumbers:
    numbers = silver(*trades)
    numbers.read(at(-1000), at(1000))
    return numbers


def gap(start_s: float, end_s: float, detected_s: float | None = None, kind="disconnected") -> Gap:
    detected_us = ms(start_s if detected_s is None else detected_s) * 1000
    times = ms(start_s) * 1000, ms(end_s) * 1000, detected_us
    return Gap("p", "t", "id", GapKind(kind), (SYMBOL,), *times)


def holes(numbers: StoredNumbers, start_s: float = -1000, end_s: float = 1000) -> list[range]:
    return [range(h.after_id + 1, h.before_id) for h in numbers.holes(at(start_s), at(end_s))]


@pytest.mark.parametrize("seed", range(20))
def test_holes_are_what_lies_between_the_first_and_the_last_number_and_is_not_there(
    seed, monkeypatch
) -> None:
    monkeypatch.setattr("tapeline.heal.stored_numbers._MOST_LOOSE", 7)
    chance = random.Random(seed)  # noqa: S311 - no secret
    kept = {n for n in range(300) if chance.random() < chance.choice((0.5, 0.95))}
    sources = (SOURCE, f"{SOURCE}:backfill")
    # Some are made out of the order of their numbers, and some came twice, a millisecond apart.
    trades = [Stored(n, n + chance.random() * 5, None, chance.choice(sources)) for n in kept]
    twice = [t._replace(made_s=t.made_s + 0.001) for t in trades if chance.random() < 0.1]
    numbers = read(*trades, *twice)
    missing = set(range(min(kept), max(kept))) - kept
    assert {n for hole in holes(numbers) for n in hole} == missing
    assert sum(map(len, holes(numbers))) == len(missing)

    lost = {n for n in missing if chance.random() < 0.3}
    numbers.fetched(WireTrade(SYMBOL, 1.0, 1.0, ms(n), None, n) for n in missing - lost)
    assert {n for hole in holes(numbers) for n in hole} == lost


def test_a_hole_has_the_numbers_and_times_of_its_neighbours_and_is_found_by_any_part_of_it():
    numbers = read(Stored(5, 10), Stored(8, 20), Stored(9, 30), Stored(11, 40))
    first, second = numbers.holes(at(-1000), at(1000))
    assert first == (SYMBOL, 5, 8, ms(10), ms(20))
    assert second == (SYMBOL, 9, 11, ms(30), ms(40))
    assert holes(numbers, 15, 16) == [range(6, 8)]
    assert holes(numbers, 20, 30.001) == [range(6, 8), range(10, 11)]
    assert holes(numbers, 21, 30) == []


LIVE = [Stored(n, n) for n in (1, 2, 3)]
"""What the feed brought before a gap from 4 to 9 s; the market goes on, a trade a second."""
AFTER = [Stored(n, n) for n in (10, 11, 12)]
MISSED = [Stored(n, n, 60, f"{SOURCE}:backfill") for n in range(4, 10)]


@pytest.mark.parametrize(
    ("stored", "is_covered"),
    [
        ([*LIVE, *MISSED, *AFTER], True),
        ([*LIVE, *MISSED[1:], *AFTER], False),
        ([*LIVE, *MISSED[:-1], *AFTER], False),
        ([*LIVE, *AFTER], False),
        # Nothing that the feed brought before it, or after it, so more may be missing there.
        ([*MISSED, *AFTER], False),
        ([*LIVE, *MISSED], False),
        ([*MISSED], False),
        # Trade 3 came once more after the gap, so silver has its later receipt.
        ([*LIVE[:2], Stored(3, 3, 50)], False),
        # Its exchange's clock is ahead of ours.
        ([*LIVE[:2], Stored(3, 11, 3)], False),
        ([*LIVE[:2], Stored(3, 3, 50), *MISSED, *AFTER], True),
        # A fetched one proves nothing of what the feed brought.
        ([*LIVE, *MISSED, *(t._replace(source=f"{SOURCE}:backfill") for t in AFTER)], False),
        # Each side has one, but not without a hole between.
        ([*LIVE, *MISSED, *AFTER[1:]], False),
        # Nothing was traded in it.
        ([*LIVE, Stored(4, 20)], True),
    ],
)
def test_a_gap_is_covered_when_no_number_is_missing_between_what_the_feed_brought_around_it(
    stored, is_covered
):
    assert read(*stored).covers(gap(3.5, 9.5)) is is_covered


def test_what_came_within_the_millisecond_of_an_end_of_the_gap_is_on_neither_side():
    start, end = ms(3) * 1000 + 500, ms(10) * 1000 + 500
    around = Gap("p", "t", "id", GapKind.DROPPED, (SYMBOL,), start, end, end)
    inside = [Stored(3, 3), *MISSED, Stored(10, 10)]
    assert not read(*inside).covers(around)
    assert not read(Stored(2, 2.999), *inside).covers(around)
    assert not read(*inside, Stored(11, 10.001)).covers(around)
    assert read(Stored(2, 2.999), *inside, Stored(11, 10.001)).covers(around)


def test_numbers_that_were_left_out_are_over_when_the_next_one_came():
    """Trade 3, then 7 with the next millisecond of the exchange, ten seconds later."""
    skipped = gap(3, 3.001, detected_s=13, kind="skipped")
    before = [Stored(1, 1), Stored(2, 2), Stored(3, 3)]
    fetched = [Stored(n, 3, 60, f"{SOURCE}:backfill") for n in (4, 5, 6)]
    # Made before trade 3 and of a lower number, though of a later time than it.
    odd = Stored(0, 3.5)
    assert not read(odd, *before).covers(skipped)
    assert not read(*before, *fetched, Stored(7, 3.001, 13)).covers(skipped)
    assert read(*before, *fetched, Stored(7, 3.001, 13), Stored(8, 14)).covers(skipped)
    assert not read(*before, *fetched[1:], Stored(7, 3.001, 13), Stored(8, 14)).covers(skipped)


@pytest.mark.parametrize(("made_s", "is_other"), [(0, True), (299, True), (300, False)])
def test_a_hole_in_a_time_that_came_from_elsewhere_is_told(made_s, is_other):
    numbers = read(Stored(1, 10), Stored(5, 20), Stored(-7, made_s, source="finnhub"))
    (hole,) = numbers.holes(at(0), at(100))
    assert numbers.came_from_elsewhere(hole) is is_other


def test_neighbours_are_looked_for_up_to_a_day_away_but_never_in_what_may_have_expired():
    hour, now = 3600.0, at(200_000)
    before, after = Stored(1, -20 * hour), Stored(3, 20 * hour)
    numbers = silver(before, Stored(2, 5), after)
    numbers.read_around(at(0), at(10), at(-500_000), now)
    assert numbers.covers(gap(0, 10))

    for oldest, newest in ((at(-10 * hour), now), (at(-500_000), at(10 * hour))):
        numbers = silver(before, Stored(2, 5), after)
        numbers.read_around(at(0), at(10), oldest, newest)
        assert not numbers.covers(gap(0, 10))

    far = silver(before._replace(made_s=-25 * hour), Stored(2, 5), after)
    far.read_around(at(0), at(10), at(-500_000), now)
    assert not far.covers(gap(0, 10))
    assert "before it" in far.why_not(gap(0, 10))
