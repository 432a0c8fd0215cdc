"""Live bars: one reader of the store for all listeners.

A listener that does not keep up is cut off; its browser comes back with the id of the last
event that it got, and gets what changed since.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog

from tapeline.api.problems import Problem
from tapeline.api.store import Store
from tapeline.bar import Bar, Interval
from tapeline.storage.cassandra_client import CassandraClient

log = structlog.get_logger()

_PERIOD_S: Final = 0.5
_LOOK_BACK: Final = timedelta(hours=3)
"""How far back bars are looked at for changes; a bar is final well within it."""
_QUEUE_EVENTS: Final = 1000
_Topic = tuple[str, Interval]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Event:
    """A changed bar. `number` grows with the time of the change, in ms since the epoch."""

    number: int
    bar: Bar


class SlowListenerError(Exception):
    """A listener has not taken its events in time."""


@dataclass(slots=True)
class _Listener:
    topics: frozenset[_Topic]
    queue: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(_QUEUE_EVENTS))
    is_cut: bool = False


class Live:
    """Watches the bars that somebody listens to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: list[_Listener] = []
        self._known: dict[_Topic, dict[datetime, Bar]] = {}
        self._is_store_down = False

    @property
    def state(self) -> str:
        """How the last look at the store went: `up` or `down`."""
        return "down" if self._is_store_down else "up"

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(_PERIOD_S)

    async def events(
        self, symbols: Iterable[str], interval: Interval, since: int | None
    ) -> AsyncIterator[Event | None]:
        """Yield changes as they come, None when there was none for a while.

        Args:
            symbols: in the feed's names.
            interval: of the bars.
            since: number of the last event that the listener has; None for what changes now.

        Raises:
            SlowListenerError: the listener does not keep up.
        """
        listener = _Listener(frozenset((symbol, interval) for symbol in symbols))
        self._listeners.append(listener)
        try:
            if since is not None:
                for event in await self._missed(listener.topics, since):
                    yield event
            while not listener.is_cut:
                try:
                    yield await asyncio.wait_for(listener.queue.get(), _PERIOD_S * 10)
                except (TimeoutError, asyncio.TimeoutError):
                    yield None
            raise SlowListenerError
        finally:
            self._listeners.remove(listener)

    async def _missed(self, topics: frozenset[_Topic], since: int) -> list[Event]:
        recent = await self._store.read(lambda client: _recent(client, topics))
        events = [_event(bar) for bars in recent.values() for bar in bars.values()]
        return sorted((e for e in events if e.number > since), key=lambda e: e.number)

    async def _look(self) -> None:
        topics = frozenset(t for listener in self._listeners for t in listener.topics)
        for gone in self._known.keys() - topics:
            del self._known[gone]
        if not topics:
            return
        try:
            recent = await self._store.read(lambda client: _recent(client, topics))
        except Problem as problem:
            if not self._is_store_down:
                log.warning("store_down", detail=problem.detail)
            self._is_store_down = True
            return
        self._is_store_down = False
        for topic, bars in recent.items():
            before = self._known.get(topic)
            self._known[topic] = bars
            if before is None:
                continue  # nobody has listened before, so nothing has been missed
            changed = [bar for start, bar in bars.items() if before.get(start) != bar]
            self._publish(topic, sorted(map(_event, changed), key=lambda e: e.number))

    def _publish(self, topic: _Topic, events: Iterable[Event]) -> None:
        listeners = [x for x in self._listeners if topic in x.topics]
        for event in events:
            for listener in listeners:
                try:
                    listener.queue.put_nowait(event)
                except asyncio.QueueFull:
                    listener.is_cut = True


def _recent(
    client: CassandraClient, topics: frozenset[_Topic]
) -> dict[_Topic, dict[datetime, Bar]]:
    now = datetime.now(timezone.utc)
    found: dict[_Topic, dict[datetime, Bar]] = defaultdict(dict)
    for symbol, interval in topics:
        for bar in client.bars(symbol, interval, now - _LOOK_BACK, now):
            found[symbol, interval][bar.window_start] = bar
        found[symbol, interval]  # an empty one too, so that its first bar is a change
    return found


def _event(bar: Bar) -> Event:
    updated_at = bar.updated_at or bar.window_start
    return Event((updated_at - _EPOCH) // timedelta(milliseconds=1), bar)


async def close_quietly(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
