"""Open streams: what each wants, and what waits for it; one that is too slow is cut off."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

from tapeline.api.events import Event
from tapeline.api.problems import Problem
from tapeline.program.metrics import API_REFUSED, LISTENERS, LISTENERS_CUT, Metrics

log = structlog.get_logger()

Topic = tuple[str, str]
"""What can be listened to: the bars of one length (its name) of one symbol, or its trades."""
TRADES: Final = "trades"
"""Stands in a topic where bars have their length."""

_WAITING: Final = 20_000
"""As many events may wait for a listener to take them; bars wait in their newest form alone."""
_MOST: Final = 500


@dataclass(slots=True, eq=False)
class Listener:
    """One open stream; it gets events of the topics that it has joined."""

    joining: set[Topic]
    client: str = ""
    """Whose streams are counted together; "" is one without a limit."""
    joined: set[Topic] = field(default_factory=set)
    is_ended: bool = False
    _waiting: dict[Hashable, Event] = field(default_factory=dict)
    _followed: list[tuple[frozenset[Topic], Event]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: Event) -> bool:
        """Let an event wait; return whether there was room."""
        if self.is_ended:
            return True
        self._waiting[object() if event.key is None else event.key] = event
        self._wake.set()
        return len(self._waiting) <= _WAITING

    def put_when_followed(self, topics: Iterable[Topic], event: Event) -> None:
        """Put an event once none of the topics is still to be joined."""
        self._followed.append((frozenset(topics), event))
        self.put_followed()

    def put_followed(self) -> None:
        """Put the events that have waited for topics which are no longer to be joined."""
        waiting, self._followed = self._followed, []
        for topics, event in waiting:
            if topics.isdisjoint(self.joining):
                self.put(event)
            else:
                self._followed.append((topics, event))

    async def take(self) -> list[Event] | None:
        """Wait for events and return them all; None ends the stream."""
        await self._wake.wait()
        self._wake.clear()
        if self.is_ended:
            self._wake.set()
            return None
        events, self._waiting = list(self._waiting.values()), {}
        return events

    def end(self) -> None:
        """Drop what waits, and end the stream."""
        self.is_ended = True
        self._waiting = {}
        self._wake.set()


class Listeners:
    """All open streams.

    Args:
        metrics: of the API.
        most_of_one: as many may one client have.
    """

    def __init__(self, metrics: Metrics, most_of_one: int = _MOST) -> None:
        self._metrics = metrics
        self._most_of_one = most_of_one
        self._open: list[Listener] = []
        self._of: defaultdict[Topic, set[Listener]] = defaultdict(set)
        self._is_closed = False
        metrics[LISTENERS].set(0)

    def __len__(self) -> int:
        """Count them."""
        return len(self._open)

    def __iter__(self) -> Iterator[Listener]:
        """Yield those that are open now."""
        return iter(list(self._open))

    @property
    def topics(self) -> frozenset[Topic]:
        """What any of them wants."""
        return frozenset(t for listener in self._open for t in listener.joining | listener.joined)

    def add(self, listener: Listener) -> None:
        """Open one.

        Raises:
            Problem: 429, its client has as many as one may have; 503, there are as many as can be,
                or we are about to end.
        """
        ours = sum(other.client == listener.client for other in self._open if listener.client)
        if ours >= self._most_of_one:
            self._metrics[API_REFUSED].labels("streams").inc()
            detail = f"There are {ours} streams from here, as many as may be: close some first."
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": "5"})
        if self._is_closed or len(self._open) >= _MOST:
            self._metrics[API_REFUSED].labels("all_streams").inc()
            detail = f"There are {len(self._open)} listeners, as many as can be: try again later."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        self._open.append(listener)
        self._metrics[LISTENERS].set(len(self._open))

    def remove(self, listener: Listener) -> None:
        """Forget one that has gone, or has been cut off."""
        if listener in self._open:
            self._open.remove(listener)
            self.leave(listener, listener.joined | listener.joining)
            self._metrics[LISTENERS].set(len(self._open))

    def join(self, listener: Listener, topics: Collection[Topic]) -> None:
        """Let one have the events of topics from now on."""
        if listener.is_ended:
            return
        listener.joining.difference_update(topics)
        listener.joined.update(topics)
        for topic in topics:
            self._of[topic].add(listener)
        listener.put_followed()

    def leave(self, listener: Listener, topics: Collection[Topic]) -> None:
        """Let one have the events of topics no more."""
        for topic in list(topics):
            listener.joining.discard(topic)
            listener.joined.discard(topic)
            self._of[topic].discard(listener)
            if not self._of[topic]:
                del self._of[topic]
        listener.put_followed()

    def are_any(self, topic: Topic) -> bool:
        """Return whether anyone has joined a topic."""
        return topic in self._of

    def send(self, topic: Topic, event: Event) -> None:
        """Hand an event to all that have joined a topic."""
        self.put(self._of.get(topic, ()), event)

    def put(self, listeners: Iterable[Listener], event: Event) -> None:
        """Hand an event to some, and cut off those for whom too many wait."""
        for listener in list(listeners):
            if not listener.put(event):
                log.warning("listener_cut", reason="it does not keep up")
                self._metrics[LISTENERS_CUT].inc()
                listener.end()
                self.remove(listener)

    def close(self) -> None:
        """End all; none is opened any more."""
        self._is_closed = True
        for listener in self._open:
            listener.end()
