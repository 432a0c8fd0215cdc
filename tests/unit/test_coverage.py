"""Which windows the producers covered together.

minute    0   1   2   3   4   5   6   7   8   9
one       |---|---|   gap     |---|---|---|---|
two       |---|---|---|   gap     |---|---|---|
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from tapeline.model.coverage import Coverage, ProducerView
from tapeline.model.gap import Gap, GapKind
from tests.statuses import a_status

START = datetime(2026, 11, 20, 15, tzinfo=timezone.utc)


def us(minute: float) -> int:
    return int((START + timedelta(minutes=minute)).timestamp() * 1_000_000)


def producer(name, *symbols, started=0.0, last=60.0, is_live=True, is_gone=False):
    status = a_status(
        name,
        symbols=symbols or ("A",),
        is_live=is_live,
        started_us=None if started is None else us(started),
        last_message_us=None if started is None else us(last),
    )
    return ProducerView(status, is_gone, START)


def gap(name, start, end, kind=GapKind.DISCONNECTED, detected=None):
    ended_us = None if end is None else us(end)
    detected_us = us(start if detected is None else detected)
    return Gap(name, "trades_raw", "id", kind, ("A",), us(start), ended_us, detected_us)


def incomplete(producers, gaps, minutes=10, symbol="A"):
    """Return the minutes that are not covered."""
    coverage = Coverage(producers, gaps)
    minute = timedelta(minutes=1)
    return [
        n
        for n in range(minutes)
        if not coverage.is_complete(symbol, START + n * minute, START + (n + 1) * minute)
    ]


def test_every_window_that_a_gap_touches_is_incomplete():
    assert incomplete([producer("one")], [gap("one", 2, 4)]) == [2, 3]
    assert incomplete([producer("one")], [gap("one", 2.5, 4.01)]) == [2, 3, 4]
    assert incomplete([producer("one")], []) == []


def test_what_another_producer_covered_is_complete():
    both = [producer("one"), producer("two")]
    assert incomplete(both, [gap("one", 2, 4)]) == []
    assert incomplete(both, [gap("one", 2, 4), gap("two", 3, 5)]) == [3]


def test_gaps_that_meet_within_a_window_leave_it_incomplete():
    both = [producer("one"), producer("two")]
    assert incomplete(both, [gap("one", 2.2, 2.6), gap("two", 2.5, 2.9)]) == [2]
    assert incomplete(both, [gap("one", 2.2, 2.5), gap("two", 2.5, 2.9)]) == []


def test_a_producer_of_other_symbols_covers_nothing():
    others = [producer("one"), producer("two", "B")]
    assert incomplete(others, [gap("one", 2, 4)]) == [2, 3]


def test_before_its_first_message_a_producer_covers_nothing():
    assert incomplete([producer("one", started=3.5)], []) == [0, 1, 2, 3]
    assert incomplete([producer("one", started=None)], [], minutes=2) == [0, 1]
    assert incomplete([producer("one"), producer("two", started=5)], []) == []


def test_what_was_under_way_to_a_producer_that_is_gone_is_not_covered_either():
    gone = producer("one", last=6.5, is_gone=True)
    late = replace(gone, status=replace(gone.status, late_us=120_000_000))
    assert incomplete([late], []) == [4, 5, 6, 7, 8, 9]


def test_after_its_last_message_a_producer_that_is_gone_covers_nothing():
    assert incomplete([producer("one", last=6.5, is_gone=True)], []) == [6, 7, 8, 9]
    assert incomplete([producer("one", last=6.5)], []) == []


def test_after_the_last_message_of_one_that_was_stopped_nothing_is_covered():
    at_work = producer("one", last=5)
    stopped = replace(at_work, status=replace(at_work.status, has_stopped=True))
    ended = replace(at_work, status=replace(stopped.status, end_of_tape=True))

    assert incomplete([at_work], []) == []
    assert incomplete([stopped], []) == [5, 6, 7, 8, 9]
    assert incomplete([ended], []) == []  # nothing follows


def test_an_open_gap_lasts_until_the_producer_is_heard_of_again():
    assert incomplete([producer("one")], [gap("one", 7, None)]) == [7, 8, 9]
    killed = [gap("one", 3, None), gap("one", 3, 5, GapKind.STOPPED, 4)]
    assert incomplete([producer("one")], killed) == [3, 4]
    # It was killed twice, and the second life received nothing.
    again = [gap("one", 2, None), gap("one", 2, None, GapKind.STOPPED, 3)]
    assert incomplete([producer("one")], again, 5) == [2, 3, 4]
    assert incomplete([producer("one")], [*again, gap("one", 2, 4, GapKind.STOPPED, 3.5)]) == [2, 3]


@pytest.mark.parametrize("kind", [k for k in GapKind if k is not GapKind.STOPPED])
def test_a_gap_that_lasts_is_ended_by_no_other_of_the_same_life(kind):
    """Idle from minute 2 on; meanwhile a frame is dropped, pings go and come, numbers are left out.

    Before that the producer began, and its trades are later by now than they were then.
    """
    stopped = gap("one", 1.5, 1.9, GapKind.STOPPED, 1.8)
    idle = gap("one", 1, None, GapKind.IDLE, 3)
    assert incomplete([producer("one")], [stopped, idle, gap("one", 4, 5, kind)]) == [*range(1, 10)]


def test_a_silent_symbol_marks_no_bars():
    assert incomplete([producer("one")], [gap("one", 2, 4, GapKind.SYMBOL_SILENT)]) == []


@pytest.mark.parametrize("producers", [[], [producer("tape", started=5, is_live=False)]])
def test_a_tape_has_no_holes_in_the_present(producers):
    assert incomplete(producers, []) == []


def test_gaps_in_any_order_and_within_each_other_count_once():
    gaps = [gap("one", 4, 5), gap("one", 1, 6), gap("one", 8, 9), gap("one", 6, 7)]
    assert incomplete([producer("one")], gaps) == [1, 2, 3, 4, 5, 6, 8]


def test_what_is_renewed_knows_new_producers_and_new_gaps():
    gaps = (gap("one", 2, 4),)
    first = Coverage([producer("one")], gaps)
    window = (START + timedelta(minutes=2), START + timedelta(minutes=3))
    assert not first.is_complete("A", *window)

    assert first.renewed([producer("one"), producer("two")], gaps).is_complete("A", *window)
    assert not first.renewed([producer("two", last=1, is_gone=True)], gaps).is_complete(
        "A", *window
    )
    assert first.renewed([producer("one")], (gap("one", 5, 6),)).is_complete("A", *window)


def test_ten_thousand_gaps_cost_a_round_no_time():
    gaps = tuple(gap("one", n, n + 0.5 if n % 3 else None) for n in range(10_000))
    began = time.process_time()
    coverage = Coverage([producer("one", last=20_000)], gaps)
    marks = [
        coverage.is_complete("A", START + timedelta(minutes=n), START + timedelta(minutes=n + 0.9))
        for n in range(0, 10_000, 5)
    ]
    assert time.process_time() - began < 2  # 50 million steps when each looks at all
    assert not any(marks)


def test_the_bars_of_a_symbol_without_a_slot_are_incomplete_unless_another_producer_has_one():
    one = producer("one", "A", "B")
    status = replace(one.status, without_slot={"A": ((us(2), us(4)),), "B": ((us(8), None),)})
    one = replace(one, status=status)

    assert incomplete([one], []) == [2, 3]
    assert incomplete([one], [], symbol="B") == [8, 9]
    assert incomplete([one, producer("two")], []) == []


def test_a_symbol_that_was_removed_and_added_again_is_covered_in_between():
    one = producer("one", "A", "B")
    spans = ((0, us(1)), (us(3), us(4)), (us(8), None))
    status = replace(one.status, without_slot={"A": spans}, removed=("A",))
    one = replace(one, status=status)

    assert incomplete([one], []) == [0, 3, 8, 9]
    assert incomplete([one], [], symbol="B") == []
