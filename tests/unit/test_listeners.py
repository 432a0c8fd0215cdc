"""Open streams: one that is slow gets the newest of each bar, one that takes nothing is cut off."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest

from tapeline.api.events import Event
from tapeline.api.listeners import Listener, Listeners
from tapeline.api.problems import Problem
from tapeline.program.metrics import API_METRICS, Metrics

TOPIC = ("5m", "AAPL")


def event(key: object, text: str = "") -> Event:
    return Event(key, text.encode(), text)


def joined(listeners: Listeners) -> Listener:
    listener = Listener({TOPIC})
    listeners.add(listener)
    listeners.join(listener, [TOPIC])
    return listener


def test_a_slow_listener_gets_the_newest_of_each_bar_and_every_trade():
    async def work():
        listeners = Listeners(Metrics(API_METRICS))
        listener = joined(listeners)
        for number in range(3):
            listeners.send(TOPIC, event("bar", f"bar {number}"))
            listeners.send(TOPIC, event(None, f"trade {number}"))
        listeners.send(("5m", "MSFT"), event("other", "not for this one"))
        return await listener.take()

    got = asyncio.run(work())
    assert [e.message for e in got] == ["bar 2", "trade 0", "trade 1", "trade 2"]


def test_a_listener_that_takes_nothing_is_cut_off_and_its_events_are_dropped():
    async def work():
        metrics = Metrics(API_METRICS)
        listeners = Listeners(metrics)
        slow, quick = joined(listeners), joined(listeners)
        for _ in range(20_001):
            listeners.send(TOPIC, event(None))
            assert len(await quick.take()) == 1
        assert list(listeners) == [quick]
        assert await slow.take() is None
        page = generate_latest(metrics.registry).decode().splitlines()
        assert {"tapeline_api_listeners_cut_total 1.0", "tapeline_api_listeners 1.0"} <= {*page}

    asyncio.run(work())


def test_one_that_leaves_a_topic_gets_no_more_of_it():
    async def work():
        listeners = Listeners(Metrics(API_METRICS))
        listener = joined(listeners)
        listeners.leave(listener, [TOPIC])
        assert not listeners.are_any(TOPIC)
        listeners.send(TOPIC, event(None))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listener.take(), 0.01)

    asyncio.run(work())


def test_there_are_only_so_many_and_none_at_the_end():
    async def work():
        listeners = Listeners(Metrics(API_METRICS))
        for _ in range(500):
            listeners.add(Listener(set()))
        with pytest.raises(Problem):
            listeners.add(Listener(set()))
        listeners.close()
        assert [await listener.take() for listener in listeners] == [None] * 500
        listeners.remove(next(iter(listeners)))
        with pytest.raises(Problem):
            listeners.add(Listener(set()))

    asyncio.run(work())
