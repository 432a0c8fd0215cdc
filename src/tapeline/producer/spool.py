"""What is on disk before it goes to Kafka, so that a crash or a long outage loses nothing.

A folder of files (segments) that are only appended to. Kafka's acknowledgements are written
along with the next group, and a file goes when Kafka has everything in it, so a quiet spool is
one small file. Nobody but the owner can read it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from tapeline.model.errors import SpoolError
from tapeline.producer.found_groups import FoundGroup, FoundGroups
from tapeline.producer.spool_file import (
    Damage,
    GroupHead,
    SpooledMessage,
    encode_group,
    messages_of,
    scan,
)
from tapeline.producer.unsent_times import NO_TIME, UnsentTimes

log = structlog.get_logger()

_SEGMENT_BYTES: Final = 8 * 1024 * 1024
_SUFFIX: Final = ".spool"
_OWNER_ONLY: Final = 0o600
_OWNER_ONLY_FOLDER: Final = 0o700


class Group(NamedTuple):
    """Messages that were written together; numbers rise by one, times are as in `GroupHead`."""

    number: int
    receipt_us: int
    messages: Sequence[SpooledMessage]
    oldest_us: int = NO_TIME


class Hole(NamedTuple):
    """Groups, by their numbers, that were damaged before they were sent.

    The others stand between receipts `after_us` and `until_us`, µs since the epoch; `after_us` is
    0 when what stood before is gone too.
    """

    first: int
    last: int
    after_us: int
    until_us: int


def holes_in(groups: Iterable[Group | FoundGroup], after: int, after_us: int) -> list[Hole]:
    """Return where groups are missing in what was read of a spool.

    Args:
        groups: what was readable, in its order.
        after: the number of the last group before.
        after_us: its receipt, µs since the epoch, 0 when it is not known.
    """
    holes = []
    for group in groups:
        if group.number > after + 1:
            holes.append(Hole(after + 1, group.number - 1, after_us, group.receipt_us))
        after, after_us = max(after, group.number), group.receipt_us
    return holes


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk itself."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int = 0
    last_number: int = 0


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
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._file: int | None = None
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
        self._reading: tuple[Path, bytes, list[GroupHead]] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_OWNER_ONLY_FOLDER)
            self._recover()
        except OSError as error:
            raise self._failure(error) from error

    @property
    def size(self) -> int:
        """How many bytes of disk it takes."""
        return sum(segment.size for segment in self._segments)

    @property
    def fill(self) -> float:
        """How much of what it may take it takes, from 0 to 1."""
        return self.size / self._max_bytes

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
        self._forget_acknowledged()
        receipt = receipt_us or self.last_receipt_us or 0
        number = self.last_number + 1
        data = encode_group(number, self.acknowledged, receipt, oldest_us, messages)
        if self.size + len(data) > self._max_bytes:
            text = (
                f"The spool is full: {self._folder} holds {self.size / 2**20:.0f} MB that Kafka "
                "has not taken. Mend Kafka and start again, or raise TAPELINE_SPOOL__MAX_MB."
            )
            raise SpoolError(text)
        try:
            self._write(data)
        except OSError as error:
            raise self._failure(error) from error
        self._segments[-1].last_number = self.last_number = number
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
        for segment in self._segments:
            if segment.last_number < first:
                continue
            data, heads = self._contents(segment)
            for head in heads:
                if first <= head.number <= last:
                    messages = messages_of(data, head)
                    found.append(Group(head.number, head.receipt_us, messages, head.oldest_us))
                    taken += head.end - head.start
                    if taken >= max_bytes:
                        return found
            if segment.last_number >= last:
                break
        return found

    def sync(self, older_than_s: float) -> None:
        """Bring all to the disk itself if some has waited so long for Kafka; delete what it has.

        What waits is noted at one call and looked for at a later one, so that while Kafka keeps
        up, nothing is synced though something is always on its way.

        Raises:
            SpoolError: the disk fails.
        """
        try:
            self._forget_acknowledged()
            safe = max(self.acknowledged, self._synced)
            if self.last_number <= safe:
                return
            if self._seen <= safe:
                self._seen, self._seen_s = self.last_number, time.monotonic()
            if time.monotonic() - self._seen_s < older_than_s:
                return
            for segment in self._segments:
                if segment.last_number > safe:
                    _sync(segment.path)
            _sync(self._folder)
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
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None or self._segments[-1].size >= self._segment_bytes:
            self._begin_segment()
        assert self._file is not None  # noqa: S101 - for the type checker
        segment = self._segments[-1]
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, segment.size)
            raise
        segment.size += len(data)

    def _begin_segment(self) -> None:
        path = self._folder / f"{self.last_number + 1:020d}{_SUFFIX}"
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        file = os.open(path, flags, _OWNER_ONLY)
        if self._file is not None:
            os.close(self._file)
        self._file = file
        self._segments.append(_Segment(path))

    def _contents(self, segment: _Segment) -> tuple[bytes, list[GroupHead]]:
        """Return a file's bytes and groups; that of a finished one is kept for the next read."""
        if self._reading is not None and self._reading[0] == segment.path:
            return self._reading[1:]
        try:
            data = segment.path.read_bytes()[: segment.size]
        except OSError as error:
            raise self._failure(error) from error
        heads = [head for head in scan(data) if isinstance(head, GroupHead)]
        is_finished = segment is not self._segments[-1]
        self._reading = (segment.path, data, heads) if is_finished else None
        return data, heads

    def _forget_acknowledged(self) -> None:
        """Delete the files that hold nothing but what Kafka has, the newest one excepted."""
        while len(self._segments) > 1 and self._segments[0].last_number <= self.acknowledged:
            self._segments.pop(0).path.unlink(missing_ok=True)

    def _recover(self) -> None:
        """Read what a previous run has left."""
        groups = FoundGroups()
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        for path in paths:
            data = path.read_bytes()
            found = list(scan(data))
            good = [part for part in found if isinstance(part, GroupHead)]
            for part in found:
                if isinstance(part, Damage):
                    self._report_damage(path, part, is_last=path is paths[-1])
            if not good:
                path.unlink()
                continue
            groups.add(good)
            self._segments.append(_Segment(path, good[-1].end, good[-1].number))
        if not self._segments:
            return
        # Files before the first one were deleted since Kafka had them, which those that are left
        # may have been written too early to know.
        deleted = int(paths[0].stem) - 1
        self.acknowledged = max(deleted, groups.acknowledged)
        self._noted = self.acknowledged
        for group in groups.groups():
            if group.number > self.acknowledged:
                self.unsent += group.messages
                self.unsent_times.add(group.number, group.oldest_us if group.messages else NO_TIME)
            self.last_number, self.last_receipt_us = group.number, group.receipt_us or None
        self.holes = holes_in(groups.groups(), self.acknowledged, 0)
        self._forget_acknowledged()

    def _report_damage(self, path: Path, damage: Damage, *, is_last: bool) -> None:
        size = damage.end - damage.start
        if damage.is_tail and is_last:
            log.warning("spool_tail_cut", file=path.name, at=damage.start, bytes=size)
        else:
            log.error("spool_damaged", file=path.name, at=damage.start, bytes=size)
        if damage.is_tail:
            os.truncate(path, damage.start)

    def _failure(self, error: OSError) -> SpoolError:
        where = f"The spool in {self._folder} cannot be written"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return SpoolError(f"{where}: the disk is full. Make room and start again.")
        return SpoolError(f"{where}: {error.strerror}. Mend the disk or the folder's rights.")
