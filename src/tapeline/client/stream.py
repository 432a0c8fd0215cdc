"""An endless stream that outlives the API's restarts, to be read by `for` or `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final, Generic, Self, TypeVar, cast
from weakref import finalize

from tapeline.client.api import Api, Events
from tapeline.model.errors import ServiceUnavailableError

T = TypeVar("T")

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class Stream(Generic[T]):
    """What `follow` yields from one connection after the other.

    The first connection that fails is an error, later ones are tried again forever. It ends with
    `close`, or with a `with` block around it. Iterating raises ServiceUnavailableError when nothing
    answers at first, and UsageError when the API refuses what is asked for.

    Args:
        api: what to connect to.
        follow: yields what comes by one connection, until that ends with an error.
    """

    def __init__(self, api: Api, follow: Callable[[Events], Iterator[T]]) -> None:
        self._line = _Line()
        # It knows nothing of this object, so that a loop that is left by `break` drops and ends it.
        self._items = _all(api, follow, self._line)
        # A program that ends amid the loop: after this, no thread can hang up any more.
        finalize(self._items, self._line.close)

    def __iter__(self) -> Iterator[T]:
        """Yield what comes, waiting for it."""
        return self._items

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the same to a coroutine; a thread waits."""
        loop, end = asyncio.get_running_loop(), object()
        thread = ThreadPoolExecutor(1, "tapeline-stream")
        try:
            while (item := await loop.run_in_executor(thread, self._next, end)) is not end:
                yield cast("T", item)
        finally:
            self.close()
            thread.shutdown(wait=False)

    def _next(self, end: object) -> T | object:
        return next(self._items, end)

    def __enter__(self) -> Self:
        """Return the stream, which the block's end closes."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the stream, also while another thread waits for it."""
        self._line.close()


class _Line:
    """The connection of the moment, which any thread may end for good."""

    def __init__(self) -> None:
        self.is_closed = Event()
        self.events: Events | None = None

    def close(self) -> None:
        self.is_closed.set()
        if self.events is not None:
            self.events.close()


def _all(api: Api, follow: Callable[[Events], Iterator[T]], line: _Line) -> Iterator[T]:
    was_there, failed = False, 0
    while not line.is_closed.is_set():
        try:
            with api.listen() as line.events:
                was_there = True
                for item in follow(line.events):
                    failed = 0
                    yield item
                    if line.is_closed.is_set():
                        return
        except ServiceUnavailableError:
            if not was_there and not line.is_closed.is_set():
                raise
        line.is_closed.wait(_PAUSES_S[min(failed, len(_PAUSES_S) - 1)])
        failed += 1
