"""When windows may be finalized and what is then written: the rules alone, without Spark.

The pictures show event time to the right; `p0` and `p1` are Kafka partitions.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tapeline.finalize.final_bars import has_expired, reconcile, shrinks
from tapeline.finalize.horizon import (
    Horizon,
    final_until,
    frontier,
    horizon,
    is_caught_up,
    newest_receipt,
    newest_trade,
    unread_messages,
)
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.bar import Bar
from tapeline.model.coverage import ProducerView
from tapeline.model.times import to_micros
from tapeline.storage.bar_rows import StoredBar
from tapeline.storage.windows import PartitionProgress, WindowState
from tests.sample import a_bar
from tests.statuses import a_status

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
DELAY = timedelta(minutes=10)
SILENT = timedelta(seconds=30)


def at(minutes: float, seconds: float = 0) -> datetime:
    return NOON + timedelta(minutes=minutes, seconds=seconds)


def feed(*ends: int, is_pending: bool = False, has_ended: bool = False) -> FeedSnapshot:
    """What a producer that holds trades vouches for is later than all that counts here."""
    holding = (ProducerView(a_status(pending=1), False, at(60)),)  # noqa: FBT003
    return FeedSnapshot(
        dict(enumerate(ends)), has_ended=has_ended, producers=holding if is_pending else ()
    )


def progress(*partitions: tuple[int, datetime | None, datetime | None]):
    """Each partition's committed offset, newest event time and newest receipt."""
    return {
        p: PartitionProgress(p, offset, event_time, received)
        for p, (offset, event_time, received) in enumerate(partitions)
    }


# Caught up: every message of the topic is in silver.


@pytest.mark.parametrize(
    ("ends", "committed", "expected"),
    [
        ((10,), (9,), True),
        ((10,), (8,), False),
        ((10,), (10,), True),
        ((10, 5), (9, 4), True),
        ((10, 5), (9, 3), False),
        ((10, 5), (9,), False),
        ((10, 0), (9,), True),
        ((1,), (0,), True),
        ((1,), (), False),
        ((0, 0), (), True),
    ],
)
def test_the_topic_is_caught_up_when_every_last_offset_is_committed(ends, committed, expected):
    state = progress(*((offset, NOON, NOON) for offset in committed))
    assert is_caught_up(state, feed(*ends)) is expected


def test_unread_is_what_lies_between_the_committed_offset_and_the_end():
    #  p0 read up to 6 of 0..9, p1 never read, p2 read up to its end
    state = progress((6, NOON, NOON), (-1, None, None), (4, NOON, NOON))
    assert unread_messages(state, feed(10, 3, 5)) == {0: 3, 1: 3, 2: 0}
    assert unread_messages({}, feed(10, 0)) == {0: 10, 1: 0}


def test_messages_that_kafka_has_dropped_are_not_unread():
    state = progress((6, NOON, NOON))
    expired = FeedSnapshot({0: 20}, has_ended=False, first_offsets={0: 15})
    assert unread_messages(state, expired) == {0: 5}


def test_the_newest_receipt_is_that_of_any_partition():
    state = progress((1, NOON, at(3)), (1, NOON, at(7)), (1, None, None))
    assert newest_receipt(state) == at(7)
    assert newest_receipt(progress((1, None, None))) is None
    assert newest_receipt({}) is None


def test_the_newest_trade_is_that_of_any_partition():
    state = progress((1, at(3), at(9)), (1, at(7), at(8)), (1, None, None))
    assert newest_trade(state) == at(7)
    assert newest_trade(progress((1, None, None))) is None
    assert newest_trade({}) is None


# Frontier: the event time up to which all is committed.


def test_the_frontier_is_the_slowest_partition_with_unread_offsets():
    #  p0 ------------------| 12:09   unread
    #  p1 --------| 12:04             unread
    state = progress((5, at(9), at(0)), (5, at(4), at(0)))
    assert frontier(state, feed(10, 10), at(60)) == at(4)


def test_a_partition_that_is_read_up_and_got_a_trade_lately_holds_the_frontier():
    #  p0 ------------------| 12:09   unread
    #  p1 --------| 12:04             read up, received 59 s ago
    state = progress((5, at(9), at(60)), (9, at(4), at(60, -59)))
    assert frontier(state, feed(10, 10), at(60)) == at(4)


def test_a_partition_that_is_read_up_and_quiet_for_a_minute_does_not():
    #  p0 ------------------| 12:09   unread
    #  p1 --------| 12:04             read up, received 60 s ago
    state = progress((5, at(9), at(60)), (9, at(4), at(59)))
    assert frontier(state, feed(10, 10), at(60)) == at(9)


def test_an_empty_partition_does_not_hold_the_frontier():
    state = progress((9, at(9), at(60)))
    assert frontier(state, feed(10, 0), at(60)) == at(9)


def test_there_is_no_frontier_while_a_partition_with_messages_has_committed_none():
    state = progress((9, at(9), at(60)))
    assert frontier(state, feed(10, 3), at(60)) is None


def test_there_is_no_frontier_while_a_partition_with_unread_offsets_has_no_trade_yet():
    # Its committed messages were all quarantined.
    state = progress((9, at(9), at(60)), (2, None, None))
    assert frontier(state, feed(10, 5), at(60)) is None


def test_there_is_no_frontier_in_a_quiet_market():
    state = progress((9, at(9), at(10)), (9, at(4), at(10)))
    assert frontier(state, feed(10, 10), at(60)) is None


def test_there_is_no_frontier_in_an_empty_topic():
    assert frontier({}, feed(0, 0), at(60)) is None


# Horizon: which windows can be finalized.


def test_in_a_busy_market_windows_behind_the_frontier_by_the_delay_are_due():
    #  12:00      12:05     12:10      12:15
    #  |  window  |         delay      | frontier 12:15
    state = progress((5, at(15), at(15)))
    reach = horizon(state, feed(10, is_pending=True), at(15), DELAY)
    assert reach == Horizon(everything=False, until=at(5))
    assert reach.covers(at(5))
    assert not reach.covers(at(10))


def test_nothing_is_due_before_anything_is_committed():
    reach = horizon({}, feed(10), at(60), DELAY)
    assert reach == Horizon(everything=False, until=None)
    assert not reach.covers(NOON - timedelta(days=365))


@pytest.mark.parametrize(("now", "until"), [(at(20), at(10)), (at(19, 59.9), None)])
def test_in_a_quiet_market_the_clock_counts_once_nothing_came_for_the_delay(now, until):
    # Received last at 12:10, an event of 12:03.
    state = progress((9, at(3), at(10)))
    assert horizon(state, feed(10), now, DELAY) == Horizon(everything=False, until=until)


def test_in_a_quiet_market_the_newest_receipt_of_any_partition_counts():
    state = progress((9, at(3), at(10)), (9, at(3), at(15)))
    assert horizon(state, feed(10, 10), at(24), DELAY).until is None
    assert horizon(state, feed(10, 10), at(25), DELAY).until == at(15)


@pytest.mark.parametrize(
    "snapshot", [feed(11), feed(10, is_pending=True), feed(10, 1)], ids=["unread", "held", "new"]
)
def test_the_clock_does_not_count_while_a_trade_may_be_on_its_way(snapshot):
    state = progress((9, None, at(10)))
    assert horizon(state, snapshot, at(60), DELAY).until is None


def test_the_later_of_frontier_and_clock_counts():
    # Read up; the last receipt was 30 s ago, a delay of 20 s lies behind it.
    state = progress((9, at(3), at(10)))
    short = timedelta(seconds=20)
    assert horizon(state, feed(10), at(10, 30), short).until == at(10, 10)
    ahead = progress((9, at(10, 50), at(10)))
    assert horizon(ahead, feed(10), at(10, 30), short).until == at(10, 30)


def test_a_tape_at_its_end_finalizes_everything_once_all_is_in_silver():
    state = progress((9, at(3), at(10)))
    reach = horizon(state, feed(10, has_ended=True), at(10), DELAY)
    assert reach == Horizon(everything=True, until=None)
    assert reach.covers(at(100_000))


@pytest.mark.parametrize(
    "snapshot",
    [feed(11, has_ended=True), feed(10, is_pending=True, has_ended=True)],
    ids=["unread", "held"],
)
def test_a_tape_at_its_end_waits_for_its_last_trades(snapshot):
    state = progress((9, at(3), at(10)))
    assert not horizon(state, snapshot, at(10), DELAY).everything


# What producers vouch for: Kafka may be away, and what they hold comes later.


def says(reported_at: datetime, *, is_lost: bool = False, **status: object) -> ProducerView:
    return ProducerView(a_status(**status), at(60) - reported_at > SILENT, reported_at, is_lost)


def test_after_an_outage_the_clock_does_not_pass_what_a_producer_last_said():
    #  trades   ─────┐ 12:10                    ┌ the spool is about to drain
    #  reports  ─────┤ 12:10   Kafka away       │
    #  now                                      │ 12:25
    state = progress((9, at(10), at(10)))
    silent = replace(feed(10), producers=(says(at(10)),))
    assert horizon(state, feed(10), at(25), DELAY).until == at(15)
    assert horizon(state, silent, at(25), DELAY).until == at(0)


def test_a_report_that_kafka_got_late_vouches_for_the_time_when_it_was_made():
    state = progress((9, at(10), at(10)))
    late = says(at(25), made_us=to_micros(at(10)))
    assert horizon(state, replace(feed(10), producers=(late,)), at(25), DELAY).until == at(0)


def test_every_producer_must_have_reported_unless_it_is_lost_or_its_tape_has_ended():
    state = progress((9, at(10), at(10)))
    back, silent = says(at(25)), says(at(10))
    both = replace(feed(10), producers=(back, silent))
    assert horizon(state, both, at(25), DELAY).until == at(0)
    for other in (
        replace(silent, is_lost=True),
        says(at(10), end_of_tape=True),
        says(at(10), has_stopped=True),
    ):
        others = replace(feed(10), producers=(back, other))
        assert horizon(state, others, at(25), DELAY).until == at(15)


def test_the_frontier_does_not_pass_what_a_producer_last_said():
    #  p0 ──────────────────| 12:30  by a producer that is back
    state = progress((5, at(30), at(30)))
    both = replace(feed(10), producers=(says(at(30)), says(at(11))))
    assert frontier(state, both, at(30)) == at(11)
    assert horizon(state, both, at(30), DELAY).until == at(1)


def test_a_producer_that_has_stopped_vouches_for_no_trade_that_its_spool_keeps():
    state = progress((9, at(10), at(10)))
    stopped = says(at(20), has_stopped=True, pending=1, oldest_unsent_us=to_micros(at(9)))
    assert frontier(state, replace(feed(11), producers=(stopped,)), at(20)) == at(9)


def test_while_a_spool_drains_its_oldest_trade_bounds_what_is_finalized():
    #  p0 ──────────────────| 12:29   by what has come of the spool
    #  p1 ──────| 12:11 ····          nothing for a minute: its broker is not back yet
    state = progress((5, at(29), at(30)), (9, at(11), at(12)))
    drains = says(at(30), pending=7, oldest_unsent_us=to_micros(at(11)))
    both = replace(feed(10, 10), producers=(drains,))
    assert frontier(state, feed(10, 10), at(30)) == at(29)
    assert frontier(state, both, at(30)) == at(11)
    assert horizon(state, both, at(30), DELAY).until == at(1)


# Reconcile: what is written over what stands there.

START = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
END_US = 1_795_185_300_000_000  # 2026-11-20T14:35:00Z
NOW = datetime(2026, 11, 20, 14, 46, 0, 5, tzinfo=timezone.utc)
NOW_US = 1_795_185_960_000_005
COMPUTED = a_bar(window_start=START)
OTHER = replace(COMPUTED, close=2.5)


def stored(bar: Bar, write_time_us: int = 7, **changes: object) -> StoredBar:
    return StoredBar(replace(bar, **changes), write_time_us)


def test_the_first_final_bar_is_revision_1_written_at_now():
    assert reconcile(None, COMPUTED, NOW) == (
        replace(COMPUTED, is_final=True, revision=1, updated_at=NOW),
        NOW_US,
    )


@pytest.mark.parametrize("preview", [COMPUTED, OTHER])
def test_a_preview_becomes_final_whether_it_was_right_or_not(preview):
    assert reconcile(stored(preview), COMPUTED, NOW) == (
        replace(COMPUTED, is_final=True, revision=1, updated_at=NOW),
        NOW_US,
    )


def test_a_final_bar_that_is_right_is_left_alone():
    before = stored(COMPUTED, is_final=True, revision=3, volume=Decimal("10.500"))
    assert reconcile(before, COMPUTED, NOW) is None


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (replace(COMPUTED, trade_count=3), "late_trade"),
        (replace(COMPUTED, policy="all", close=2.5), "policy"),
        (OTHER, "correction"),
        (replace(COMPUTED, is_complete=False), "feed_gap"),
    ],
)
def test_a_final_bar_that_is_wrong_is_revised_and_says_why(before, reason):
    assert reconcile(stored(before, is_final=True, revision=3), COMPUTED, NOW) == (
        replace(COMPUTED, is_final=True, revision=4, reason=reason, updated_at=NOW),
        NOW_US,
    )


def test_another_policy_is_the_reason_whatever_its_name():
    before = stored(COMPUTED, is_final=True, revision=1, policy="sip+oddlot")
    written = reconcile(before, replace(COMPUTED, policy="sip", close=2.5), NOW)
    assert written is not None
    assert written[0].reason == "policy"


def test_a_policy_read_from_a_table_is_the_same_policy():
    read = stored(OTHER, is_final=True, revision=1, policy=str(b"sip+oddlot", "ascii"))
    written = reconcile(read, COMPUTED, NOW)
    assert written is not None
    assert written[0].reason == "correction"


@pytest.mark.parametrize(
    ("reason", "revision", "expected"),
    [
        (None, 1, None),
        (None, 2, "late_trade"),  # its window counted as one without trades
        ("topic_gone", 1, "topic_gone"),
        ("topic_gone", 2, "topic_gone"),
    ],
)
def test_a_first_final_bar_that_comes_late_says_why(reason, revision, expected):
    computed = replace(COMPUTED, reason=reason)
    written = reconcile(None, computed, NOW, first_revision=revision)
    assert written is not None
    assert (written[0].reason, written[0].revision) == (expected, revision)


def test_the_first_receipt_is_kept_when_its_trades_are_no_longer_there():
    before = stored(OTHER, is_final=True, revision=1, first_received_at=at(1))
    written = reconcile(before, replace(COMPUTED, first_received_at=at(2)), NOW)
    assert written is not None
    assert written[0].first_received_at == at(1)


@pytest.mark.parametrize(
    ("changes", "ttl_days", "expired"),
    [
        ({}, 2, True),
        ({}, 3, True),
        ({}, 4, False),
        ({}, 0, False),
        ({"is_final": False}, 3, True),
        ({"first_received_at": None}, 3, False),
    ],
)
def test_trades_expire_by_when_they_were_received(changes, ttl_days, expired):
    fields = {"is_final": True, "first_received_at": NOW - timedelta(days=3), **changes}
    assert has_expired(stored(COMPUTED, **fields), timedelta(days=ttl_days), NOW) is expired


def test_a_final_bar_never_loses_trades():
    before = stored(replace(COMPUTED, trade_count=5), is_final=True, revision=1)
    assert reconcile(before, COMPUTED, NOW) is None


def test_only_a_final_bar_can_lose_trades():
    more = replace(COMPUTED, trade_count=5)
    assert shrinks(stored(more, is_final=True), COMPUTED)
    assert not shrinks(stored(COMPUTED, is_final=True), COMPUTED)
    assert not shrinks(stored(more), COMPUTED)
    assert not shrinks(None, COMPUTED)


def test_a_final_bar_that_may_lose_trades_is_corrected():
    before = stored(replace(COMPUTED, trade_count=5), is_final=True, revision=1)
    written = reconcile(before, COMPUTED, NOW, allow_shrink=True)
    assert written is not None
    assert (written[0].trade_count, written[0].revision) == (4, 2)
    assert written[0].reason == "correction"


def test_finalizing_what_was_just_finalized_changes_nothing():
    written = reconcile(None, COMPUTED, NOW)
    assert written is not None
    assert reconcile(StoredBar(*written), COMPUTED, NOW + timedelta(minutes=1)) is None


def test_a_clock_that_is_behind_still_writes_over_the_row_before():
    before = stored(OTHER, NOW_US + 1_000_000, is_final=True, revision=1)
    written = reconcile(before, COMPUTED, NOW)
    assert written is not None
    assert written[1] == NOW_US + 1_000_001


def test_a_clock_behind_the_bar_itself_writes_at_the_bars_end():
    written = reconcile(None, COMPUTED, START - timedelta(days=1))
    assert written is not None
    assert written[1] == END_US


# Finalized until: what a round has left open bounds it.

#   11:40          12:00   12:05   12:10   12:15
#     |  hour of 11  |  w0   |  w1   |  w2   |
#                                ^ the round reached 12:12


def open_window(minutes: float, finalized_offset: int = -1) -> WindowState:
    return WindowState(
        "t", 0, 0, at(minutes), "X", affected_offset=7, finalized_offset=finalized_offset
    )


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        ([], at(12)),
        ([open_window(10)], at(10)),  # still open when the round ended
        ([open_window(5, finalized_offset=7)], at(12)),  # only its hour is open
        ([open_window(5), open_window(10)], at(5)),  # one more than a round may finalize
        ([open_window(-20, finalized_offset=7)], at(-60)),  # an hour that was left for later
    ],
)
def test_all_is_finalized_up_to_what_a_round_has_left_open(remaining, expected):
    reach = Horizon(everything=False, until=at(12))
    assert final_until(reach, remaining, at(22), at(23)) == expected


def test_the_last_day_of_a_tape_that_has_ended_is_over():
    everything = Horizon(everything=True, until=None)
    midnight = datetime(2026, 11, 21, tzinfo=timezone.utc)
    assert final_until(everything, [], at(3), at(3000)) == midnight
    assert final_until(everything, [], at(3), at(5)) == at(5)  # it was replayed as it came
    next_day = midnight + timedelta(days=1)
    assert final_until(everything, [], midnight, at(3000)) == next_day
    assert final_until(everything, [open_window(-30)], at(3), at(3000)) == at(-60)
    assert final_until(everything, [], None, at(5)) is None
    assert final_until(Horizon(everything=False, until=None), [], at(3), at(5)) is None


def test_windows_that_begin_later_than_the_clock_hold_nothing_back():
    #  12:00            12:05                 12:10
    #    |  trades of a tape  | now, w0 open |  w1 open
    everything = Horizon(everything=True, until=None)
    w0, w1 = open_window(5), open_window(10)
    for remaining in ([w0], [w1], [w0, w1]):
        assert final_until(everything, remaining, at(3), at(5)) == at(5)
    assert final_until(everything, [w1, open_window(-30)], at(3), at(5)) == at(-60)


def test_offsets_of_any_size_are_compared_by_value():
    large = replace(open_window(5), affected_offset=10**9, finalized_offset=int("1000000000"))
    assert final_until(Horizon(everything=False, until=at(12)), [large], at(22), at(23)) == at(12)
