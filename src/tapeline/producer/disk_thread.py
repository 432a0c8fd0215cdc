"""Work on a disk, beside the event loop; a disk that hangs holds up nobody who does not wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_Work = tuple[Callable[[], Any], "Future[Any]"]


class DiskThread:
    """One thread that does what it is given, in that order.

    Python's own pools wait for their threads when the process ends, and a thread that hangs in a
    call to the system ends never; this one is left behind.
    """

    def __init__(self) -> None:
        self._work: Final[SimpleQueue[_Work | None]] = SimpleQueue()
        threading.Thread(target=self._run, name="spool", daemon=True).start()

    async def do(self, work: Callable[[], _T]) -> _T:
        """Wait for some work; whoever stops waiting does not stop it once it has begun."""
        future: Future[_T] = Future()
        self._work.put((work, future))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """End after what was given."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(error)
