"""What is on disk before it goes to Kafka, so that a crash or a long outage loses nothing.

A folder of files (segments) that are only appended to. Kafka's acknowledgements are written
along with the next group, and a file goes when Kafka has everything in it, so a quiet spool is
one small file. Nobody but the owner can read it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from tapeline.model.errors import SpoolError
from tapeline.producer.holes import Hole, holes_in
from tapeline.producer.segments import Segments
from tapeline.producer.spool_file import Group, SpooledMessage, encode_group, messages_of
from tapeline.producer.unsent_times import NO_TIME, UnsentTimes

log = structlog.get_logger()

_SEGMENT_BYTES: Final = 8 * 1024 * 1024


class Spool:
    """Groups of messages on disk, in their order, until Kafka has them.

    Only one thread may use it at a time. What `append` has returned survives the end of this
    process, however it comes; what `sync` has returned, that of the machine.

    Args:
        folder: its own, made when missing.
        max_bytes: how much disk it may take.
        segment_bytes: from what size on a file is followed by another one.

    Raises:
        SpoolError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        """How much disk it may take."""
        self._synced = 0
        self._seen, self._seen_s = 0, 0.0
        self.acknowledged = 0
        """The highest number of a group that Kafka has with all before it."""
        self._noted = 0
        self.last_number = 0
        """The number of the newest group."""
        self.last_receipt_us: int | None = None
        """The newest receipt that is on disk, µs since the epoch."""
        self.unsent = 0
        """Messages that Kafka had not acknowledged when the spool was opened."""
        self.unsent_times = UnsentTimes()
        """Of those messages."""
        self.holes: list[Hole] = []
        """What was found damaged when it was opened."""
        try:
            self._segments = Segments(folder, segment_bytes)
            self._recover()
        except OSError as error:
            raise self._failure(error) from error

    @property
    def size(self) -> int:
        """How many bytes of disk it takes."""
        return self._segments.size

    @property
    def fill(self) -> float:
        """How much of what it may take it takes, from 0 to 1."""
        return self.size / self.max_bytes

    def append(
        self,
        messages: Sequence[SpooledMessage],
        receipt_us: int | None,
        oldest_us: int = NO_TIME,
    ) -> Group:
        """Write a group and return it; all of it is there, or nothing.

        Args:
            messages: in their order; none for a receipt alone.
            receipt_us: the newest receipt, of a message or of a ping.
            oldest_us: a time that no message is older than, µs since the epoch.

        Raises:
            SpoolError: the spool or the disk is full, or the disk fails.
        """
        self._segments.forget(self.acknowledged)
        receipt = receipt_us or self.last_receipt_us or 0
        number = self.last_number + 1
        data = encode_group(number, self.acknowledged, receipt, oldest_us, messages)
        if self.size + len(data) > self.max_bytes:
            text = (
                f"The spool is full: {self._folder} holds {self.size / 2**20:.0f} MB that Kafka "
                "has not taken. Mend Kafka and start again, or raise TAPELINE_SPOOL__MAX_MB."
            )
            raise SpoolError(text)
        try:
            self._segments.append(number, data)
        except OSError as error:
            raise self._failure(error) from error
        self.last_number = number
        self._noted = self.acknowledged
        self.last_receipt_us = receipt or None
        return Group(number, receipt, messages, oldest_us)

    def read(self, first: int, last: int, max_bytes: int) -> list[Group]:
        """Return groups from number `first` to `last` that are readable, about `max_bytes` of them.

        Raises:
            SpoolError: the disk fails.
        """
        found: list[Group] = []
        taken = 0
        try:
            for data, head in self._segments.read(first, last):
                messages = messages_of(data, head)
                found.append(Group(head.number, head.receipt_us, messages, head.oldest_us))
                taken += head.end - head.start
                if taken >= max_bytes:
                    break
        except OSError as error:
            raise self._failure(error) from error
        return found

    def sync(self, older_than_s: float) -> None:
        """Bring all to the disk itself if some has waited so long for Kafka; delete what it has.

        What waits is noted at one call and looked for at a later one, so that while Kafka keeps
        up, nothing is synced though something is always on its way.

        Raises:
            SpoolError: the disk fails.
        """
        try:
            self._segments.forget(self.acknowledged)
            safe = max(self.acknowledged, self._synced)
            if self.last_number <= safe:
                return
            if self._seen <= safe:
                self._seen, self._seen_s = self.last_number, time.monotonic()
            if time.monotonic() - self._seen_s < older_than_s:
                return
            self._segments.sync(safe)
            self._synced = self.last_number
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Note what Kafka has acknowledged, and let go of the file."""
        try:
            if self.acknowledged > self._noted:
                self.append((), self.last_receipt_us)
        except SpoolError as error:
            log.warning("spool_not_closed", reason=str(error))
        self._segments.close()

    def _recover(self) -> None:
        """Take up what a previous run has left."""
        groups = self._segments.recover()
        self.acknowledged = self._noted = groups.acknowledged
        for group in groups.groups():
            if group.number > self.acknowledged:
                self.unsent += group.messages
                self.unsent_times.add(group.number, group.oldest_us if group.messages else NO_TIME)
            self.last_number, self.last_receipt_us = group.number, group.receipt_us or None
        self.holes = holes_in(groups.groups(), self.acknowledged, 0)
        self._segments.forget(self.acknowledged)

    def _failure(self, error: OSError) -> SpoolError:
        where = f"The spool in {self._folder} cannot be written"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return SpoolError(f"{where}: the disk is full. Make room and start again.")
        return SpoolError(f"{where}: {error.strerror}. Mend the disk or the folder's rights.")
