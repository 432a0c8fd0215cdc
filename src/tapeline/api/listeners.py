"""Open streams: what each wants, and what waits for it; one that is too slow is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final

import structlog

from tapeline.api.look import Topic
from tapeline.api.problems import Problem
from tapeline.metrics import LISTENERS, LISTENERS_CUT, Metrics

log = structlog.get_logger()

_BATCHES: Final = 100
"""As many looks may wait for a listener to take what they found."""
_MOST: Final = 500


@dataclass(slots=True, eq=False)
class Listener:
    """One open stream. It wants what has changed at `since` or later; None ends it."""

    topics: frozenset[Topic]
    since: datetime
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_BATCHES))
    has_joined: bool = False
    is_ended: bool = False

    def end(self) -> None:
        """Drop what waits, and end the stream."""
        self.is_ended = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Listeners:
    """All open streams."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: list[Listener] = []
        self._someone = asyncio.Event()
        self._is_closed = False
        metrics[LISTENERS].set(0)

    def __len__(self) -> int:
        """Count them."""
        return len(self._open)

    def __iter__(self) -> Iterator[Listener]:
        """Yield those that are open now."""
        return iter(list(self._open))

    async def wait(self) -> None:
        """Wait until there is one."""
        await self._someone.wait()

    def add(self, listener: Listener) -> None:
        """Open one.

        Raises:
            Problem: 503, there are as many as can be, or we are about to end.
        """
        if self._is_closed or len(self._open) >= _MOST:
            detail = f"There are {len(self._open)} listeners, as many as can be: try again later."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        self._open.append(listener)
        self._changed()

    def remove(self, listener: Listener) -> None:
        """Forget one that has gone, or has been cut off."""
        if listener in self._open:
            self._open.remove(listener)
            self._changed()

    def put(self, listener: Listener, payload: bytes) -> None:
        """Hand events to one, or cut it off when too many wait for it."""
        if listener.is_ended:
            return
        try:
            listener.queue.put_nowait(payload)
        except asyncio.QueueFull:
            log.warning("listener_cut", reason="it does not keep up")
            self._metrics[LISTENERS_CUT].inc()
            listener.end()
            self.remove(listener)

    def close(self) -> None:
        """End all; none is opened any more."""
        self._is_closed = True
        for listener in self._open:
            listener.end()

    def _changed(self) -> None:
        self._metrics[LISTENERS].set(len(self._open))
        if self._open:
            self._someone.set()
        else:
            self._someone.clear()
