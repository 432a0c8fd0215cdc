"""The feed in one word: the same on the screen of `tapeline status` and in the API."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tapeline.api.status_api import feed_out
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.coverage import ProducerView
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import to_micros
from tapeline.status.flow import FeedState, flow_of, problems_of_feed
from tapeline.storage.windows import PartitionProgress
from tests.statuses import a_status

NOW = datetime(2026, 11, 20, 14, 35, 7, tzinfo=timezone.utc)


def producer(name="box-1", *, silent_s=1, **status):
    reported_at = NOW - timedelta(seconds=silent_s)
    return ProducerView(a_status(name, **status), silent_s >= 30, reported_at)


def flow(*producers, progress=(), **feed):
    has_ended = bool(producers) and all(p.status.end_of_tape for p in producers)
    values = {"has_ended": has_ended, "producers": producers, **feed}
    known = {p.kafka_partition: p for p in progress}
    return flow_of(FeedSnapshot({0: 10}, **values), known, NOW)


LIVE = producer()
OFF = producer("box-2", connected=False)
DEAD = producer("box-3", silent_s=30)
ENDED = producer("tape", connected=False, end_of_tape=True)
LONG_ENDED = producer("tape", silent_s=999, connected=False, end_of_tape=True)
NO_REPORT = "No producer reports: start one with `tapeline produce`."
NO_PRODUCER = "No producer reports: start `tapeline produce`."
NEVER = "No producer has reported yet: start `tapeline produce`."
CONNECTED = "The producer is connected."
CUT = "Producer box-2 has no connection to the feed: see its log."
ALL_CUT = "The producer has no connection to the feed; it tries again by itself."


@pytest.mark.parametrize(
    ("producers", "state", "detail", "problems", "living"),
    [
        ((), "stale", NEVER, [NO_REPORT], 0),
        ((LIVE,), "live", CONNECTED, [], 1),
        ((LIVE, DEAD), "live", CONNECTED, [], 1),
        ((LIVE, ENDED), "live", CONNECTED, [], 2),
        ((LIVE, OFF), "live", CUT, [CUT], 2),  # the one that is cut off is named by both
        ((OFF,), "down", ALL_CUT, [CUT], 1),
        ((OFF, ENDED), "down", ALL_CUT, [CUT], 2),
        ((DEAD,), "stale", NO_PRODUCER, [NO_REPORT], 0),
        ((LONG_ENDED,), "ended", "The tape has ended.", [], 0),
        # What has ended has no connection and needs none; what should be there is gone.
        ((DEAD, ENDED), "stale", NO_PRODUCER, [NO_REPORT], 1),
    ],
)
def test_both_say_the_same_of_the_feed(producers, state, detail, problems, living):
    found = flow(*producers)
    assert feed_out(found, "") == {
        "state": state,
        "detail": detail,
        "producers": living,
        "pending_trades": 0,
    }
    assert list(problems_of_feed(found)) == problems


def test_a_feed_of_which_kafka_does_not_say_anything_is_unknown():
    assert feed_out(None, "It is being asked.") == {
        "state": "unknown",
        "detail": "It is being asked.",
        "producers": 0,
        "pending_trades": 0,
    }


def test_no_tape_is_known_to_have_ended_while_a_report_cannot_be_read():
    assert flow(LONG_ENDED, has_ended=False, is_readable=False).state is FeedState.STALE


def test_a_live_feed_without_trades_says_since_when():
    started_us = to_micros(NOW - timedelta(minutes=5))
    gap = Gap("box-1", "trades_raw", "id", GapKind.IDLE, ("A",), started_us, None, started_us)
    found = feed_out(flow(LIVE, gaps=(gap,)), "")
    assert found["state"] == "live"
    assert found["detail"] == "Producer box-1 hears no trades since 2026-11-20 14:30:07 UTC (idle)."


def test_trades_of_producers_that_report_are_on_their_way():
    found = flow(producer(pending=3), producer("box-2", pending=4), producer("x", silent_s=30))
    assert found.pending == feed_out(found, "")["pending_trades"] == 7


@pytest.mark.parametrize(("silent", "expected"), [(599, -600), (600, -1)])
def test_the_frontier_waits_for_no_producer_that_is_lost(silent, expected):
    """Not even where nobody has listened for long, as the command never has."""
    newest = NOW - timedelta(seconds=1)
    waits_for = producer("box-2", silent_s=silent, oldest_unsent_us=to_micros(NOW) - 600_000_000)
    found = flow(LIVE, waits_for, progress=[PartitionProgress(0, 9, newest, newest)])
    assert found.frontier == NOW + timedelta(seconds=expected)


def test_freshness_is_never_below_zero_where_clocks_differ():
    ahead = NOW + timedelta(seconds=2)
    assert flow(LIVE, progress=[PartitionProgress(0, 9, ahead, ahead)]).freshness_s == 0
    assert flow(LIVE).freshness_s is None
