"""The groups that a spool has and Kafka's client has not: from memory, or read from disk again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from tapeline.model.errors import SpoolError
from tapeline.producer.disk_thread import DiskThread
from tapeline.producer.holes import Hole, holes_in
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import Group

log = structlog.get_logger()

_MOST_IN_MEMORY: Final = 20_000
"""Messages kept beside the spool's copy; what is further behind is read from disk again."""
_READ_BYTES: Final = 1024 * 1024


def _play_again(_hole: Hole) -> None:
    """Stop at a hole: without a gap to tell of it, what follows would look complete."""
    text = "The spool's files are damaged. Look at the disk, and play the tape again."
    raise SpoolError(text)


class WrittenGroups:
    """Groups in the order in which they were written, each handed on once.

    Args:
        spool: what has them.
        disk: reads it.
        on_end: called when after a hole everything is handed on.
    """

    def __init__(self, spool: Spool, disk: DiskThread, on_end: Callable[[], None]) -> None:
        self._spool = spool
        self._disk = disk
        self._on_end = on_end
        self.on_hole: Callable[[Hole], None] = _play_again
        """Called when groups cannot be read again that could when the spool was opened."""
        self._recent: deque[Group] = deque()
        self._in_recent = 0
        self._written = spool.last_number
        self._has_written = asyncio.Event()
        self._next = spool.acknowledged + 1
        self._handed_us = 0
        self._again: deque[Group] = deque()
        self._known = {hole[:2] for hole in spool.holes}
        self._has_lost = False

    @property
    def are_handed_on(self) -> bool:
        """Whether everything that was written is handed on."""
        return self._next > self._written

    def add(self, group: Group) -> None:
        """Take one that has been written."""
        self._written = group.number
        if self._in_recent + len(group.messages) <= _MOST_IN_MEMORY:
            self._recent.append(group)
            self._in_recent += len(group.messages)
        self._has_written.set()

    def handed_on(self, group: Group) -> None:
        """Note that Kafka's client has one."""
        self._handed_us = group.receipt_us
        self._next = group.number + 1

    async def next(self) -> Group:
        """Wait for the next one.

        Raises:
            SpoolError: the disk fails, or what it has of a tape is damaged.
        """
        while True:
            if self._again:
                return self._again.popleft()
            last = self._recent[0].number - 1 if self._recent else self._written
            if self._next <= last:
                await self._read_again(last)
                continue
            if self._recent:
                group = self._recent.popleft()
                self._in_recent -= len(group.messages)
                return group
            if self._has_lost:
                self._has_lost = False
                self._on_end()
            self._has_written.clear()
            await self._has_written.wait()

    async def _read_again(self, last: int) -> None:
        """Read what follows, up to a group's number; what is damaged is told and passed over."""
        first = self._next
        groups = await self._disk.do(lambda: self._spool.read(first, last, _READ_BYTES))
        self._again.extend(groups)
        if not groups:
            following = self._recent[0].receipt_us if self._recent else self._spool.last_receipt_us
            groups = [Group(last + 1, following or 0, ())]
            self._next = last + 1
        for hole in holes_in(groups, first - 1, self._handed_us):
            if hole[:2] not in self._known:
                self._has_lost = True
                log.error("spool_damaged", first=hole.first, last=hole.last)
                self.on_hole(hole)
