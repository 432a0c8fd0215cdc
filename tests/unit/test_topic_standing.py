"""What can still come from the topics of a keyspace, and how far all of them are."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tapeline.finalize.topic_standing import state_of
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.coverage import ProducerView
from tapeline.storage.topics import TopicStanding, TopicState, final_until
from tapeline.storage.windows import PartitionProgress
from tests.statuses import a_status

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
DELAY = timedelta(minutes=10)
MOVING, ENDED, OVER = TopicState.MOVING, TopicState.ENDED, TopicState.OVER


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def topic(state, minutes):
    until = None if minutes is None else at(minutes)
    return TopicStanding(f"{state.value}{minutes}", until, state)


#  the range of a longer bar is final when all that may still bring trades to it have passed


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([], None),
        ([topic(MOVING, 5)], at(5)),
        ([topic(MOVING, 5), topic(MOVING, 3)], at(3)),
        ([topic(MOVING, 5), topic(ENDED, 3)], at(3)),  # ended, and not finalized yet
        ([topic(MOVING, 5), topic(MOVING, None)], None),  # it has only begun
        ([topic(MOVING, 5), topic(OVER, 3)], at(5)),
        ([topic(MOVING, 5), topic(OVER, 9)], at(5)),
        ([topic(OVER, 5), topic(OVER, 9), topic(OVER, None)], at(9)),
        ([topic(OVER, None)], None),
    ],
)
def test_all_is_final_up_to_the_slowest_topic_that_moves(topics, expected):
    assert final_until(topics) == expected


LATER = at(60)


def producer(silent_minutes, *, is_lost=False, **status):
    reported_at = LATER - timedelta(minutes=silent_minutes)
    return ProducerView(a_status(**status), True, reported_at, is_lost)  # noqa: FBT003


def state(*, end=10, now=LATER, is_finalized=True, **feed):
    progress = {0: PartitionProgress(0, 9, NOON, NOON)}
    values = {"has_ended": False, **feed}
    return state_of(
        progress, FeedSnapshot({0: end}, **values), now, DELAY, is_finalized=is_finalized
    )


def test_a_tape_that_has_ended_is_over_once_it_is_finalized():
    assert state(has_ended=True) is OVER
    assert state(has_ended=True, is_finalized=False) is ENDED
    assert state(has_ended=True, end=11) is MOVING
    assert state(has_ended=True, producers=(producer(9, pending=1),)) is MOVING


def test_a_topic_is_over_when_its_producers_are_lost_and_nothing_came_for_the_delay():
    lost = producer(10, is_lost=True)
    assert state(producers=(lost,)) is OVER
    assert state(producers=(lost,), is_finalized=False) is MOVING
    assert state(producers=(lost,), now=at(9)) is MOVING
    assert state(producers=(lost,), end=11) is MOVING
    assert state(producers=(lost, producer(9))) is MOVING
    assert state(producers=(lost, producer(9, end_of_tape=True))) is OVER
    assert state() is OVER  # nobody has ever reported


def test_it_is_not_known_what_comes_of_a_producer_that_is_silent_and_may_be_back():
    """So a topic that is over stays so when a stream has just started."""
    assert state(producers=(producer(10),)) is None
    assert state(producers=(producer(10),), is_finalized=False) is MOVING
    assert state(producers=(producer(10), producer(9))) is MOVING
    assert state(producers=(producer(10),), has_ended=True) is OVER
    # What it held when it was last heard says nothing of what it holds now.
    holding = producer(10, pending=1)
    assert state(producers=(holding,)) is None
    assert state(producers=(holding, producer(9, pending=1))) is MOVING
    assert state(producers=(producer(10, pending=1, is_lost=True),)) is OVER
