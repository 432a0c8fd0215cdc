"""Which gaps are still looked at."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from tapeline.finalize.recent_gaps import RecentGaps
from tapeline.model.coverage import Coverage, ProducerView
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import to_micros
from tests.statuses import a_status

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
LIFETIME = 30 * DAY


def gap(start_days, end_days, producer_id="p", kind=GapKind.DISCONNECTED):
    """Make a gap that began and ended so many days ago; None while it lasts."""
    started = to_micros(NOW - start_days * DAY)
    ended = None if end_days is None else to_micros(NOW - end_days * DAY)
    return Gap(producer_id, "t", "id", kind, ("X",), started, ended, started)


def test_gaps_that_ended_before_silver_s_lifetime_are_left_out():
    old, long, new, lasting = gap(40, 31), gap(40, 29), gap(2, 1), gap(90, None, "q")
    found = RecentGaps(LIFETIME).of([old, long, new, lasting], NOW)

    assert set(found) == {long, new, lasting}


def test_one_left_open_by_a_life_before_goes_with_the_gap_that_ended_it():
    """Alone it would last forever, and mark every bar."""
    left_open, ended_by = gap(40, None), gap(39, 38, kind=GapKind.STOPPED)
    status = a_status(symbols=("X",), is_live=True, started_us=1, last_message_us=to_micros(NOW))
    view = ProducerView(status, is_gone=False, reported_at=NOW)
    gaps = RecentGaps(LIFETIME)
    recent = gaps.of([left_open, ended_by, gap(2, 1)], NOW)
    coverage = Coverage([view], recent, gaps.known_from_us)

    assert list(recent) == [gap(2, 1)]
    assert coverage.is_complete("X", NOW - DAY / 2, NOW - DAY / 3)
    assert not coverage.is_complete("X", NOW - 1.5 * DAY, NOW - 1.4 * DAY)
    # What is older is not known any more, and is never called complete.
    assert not coverage.is_complete("X", NOW - 35 * DAY, NOW - 34 * DAY)


def test_the_answer_is_the_same_object_while_nothing_changes_and_drops_what_gets_old():
    gaps = (gap(29, 28), gap(2, 1))
    recent = RecentGaps(LIFETIME)
    first = recent.of(gaps, NOW)

    assert recent.of(gaps, NOW + DAY) is first
    assert recent.of(gaps, NOW + 3 * DAY) == (gap(2, 1),)


def test_silver_that_is_kept_for_ever_keeps_all():
    gaps = (gap(4000, 3000),)

    assert RecentGaps(timedelta(0)).of(gaps, NOW) is gaps
