"""What the live view may show of a keyspace, by who made its bars."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tapeline.api.live_view import LiveView
from tapeline.live.tail import LiveState, Update
from tapeline.model.bar import Interval
from tapeline.program.metrics import API_METRICS, LIVE_UP, Metrics
from tapeline.program.settings import load_settings
from tests.sample import a_bar

NOW = datetime(2026, 11, 20, 15, 2, tzinfo=timezone.utc)
START = NOW - timedelta(minutes=2)
TOPIC = Interval.FIVE_MINUTES, "AAPL"
BAR = a_bar(window_start=START)


@pytest.fixture
def told():
    return []


@pytest.fixture
def metrics():
    return Metrics(API_METRICS)


@pytest.fixture
def view(told, metrics):
    """A view that has heard of one open bar, made by `sip+oddlot`."""
    found = LiveView(load_settings(), metrics, told.append)
    found.ask([TOPIC])
    found._hear(Update(LiveState.UP, "topic", {TOPIC: START}, ((TOPIC[0], BAR),)))  # noqa: SLF001
    return found


def test_bars_are_shown_where_the_stored_ones_are_made_by_the_same_rules(view, metrics):
    assert view.know({"topic": NOW}, "sip+oddlot") == [(TOPIC[0], BAR)]
    assert (view.state, view.holds(TOPIC, NOW)) == (LiveState.UP, True)
    assert metrics[LIVE_UP]._value.get() == 1  # noqa: SLF001


def test_bars_are_shown_where_none_is_stored_yet(view):
    assert view.know({}, None) == [(TOPIC[0], BAR)]


@pytest.mark.parametrize("policy", ["sip", "mine@0123456789"])
def test_where_the_stored_bars_are_made_by_other_rules_none_is_shown_and_it_says_so(
    view, told, metrics, policy
):
    assert view.know({"topic": NOW}, policy) == []
    assert (view.state, view.holds(TOPIC, NOW)) == (LiveState.OTHER_POLICY, False)
    assert metrics[LIVE_UP]._value.get() == 0  # noqa: SLF001

    view._hear(Update(LiveState.UP, "topic", {TOPIC: START}, ((TOPIC[0], BAR),)))  # noqa: SLF001
    assert (told[-1].state, told[-1].bars) == (LiveState.OTHER_POLICY, ())

    # They were made again by ours.
    assert view.know({"topic": NOW}, "sip+oddlot") == [(TOPIC[0], BAR)]
    assert view.state is LiveState.UP
