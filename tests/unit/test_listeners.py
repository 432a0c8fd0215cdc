"""Open streams: one that takes nothing is cut off, the others go on."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest

from tapeline.api.listeners import Listener, Listeners
from tapeline.api.problems import Problem
from tapeline.bar import Interval
from tapeline.metrics import API_METRICS, Metrics
from tests.sample import START

TOPICS = frozenset({(Interval.FIVE_MINUTES, "AAPL")})


def test_a_listener_that_takes_nothing_is_cut_off_and_its_events_are_dropped():
    async def work():
        metrics = Metrics(API_METRICS)
        listeners = Listeners(metrics)
        slow, quick = Listener(TOPICS, START), Listener(TOPICS, START)
        listeners.add(slow)
        listeners.add(quick)
        for _ in range(500):
            listeners.put(slow, b"event")
            listeners.put(quick, b"event")
            assert await quick.queue.get() == b"event"
        assert list(listeners) == [quick]
        assert (slow.queue.qsize(), slow.queue.get_nowait()) == (1, None)
        page = generate_latest(metrics.registry).decode().splitlines()
        assert {"tapeline_api_listeners_cut_total 1.0", "tapeline_api_listeners 1.0"} <= {*page}

    asyncio.run(work())


def test_there_are_only_so_many_and_none_at_the_end():
    async def work():
        listeners = Listeners(Metrics(API_METRICS))
        for _ in range(500):
            listeners.add(Listener(TOPICS, START))
        with pytest.raises(Problem):
            listeners.add(Listener(TOPICS, START))
        listeners.close()
        assert {listener.queue.get_nowait() for listener in listeners} == {None}
        listeners.remove(next(iter(listeners)))
        with pytest.raises(Problem):
            listeners.add(Listener(TOPICS, START))

    asyncio.run(work())
