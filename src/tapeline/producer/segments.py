"""The files of a spool: only appended to, and deleted from the front."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from tapeline.producer.found_groups import FoundGroups
from tapeline.producer.spool_file import Damage, GroupHead, scan

log = structlog.get_logger()

_SUFFIX: Final = ".spool"
_OWNER_ONLY: Final = 0o600
_OWNER_ONLY_FOLDER: Final = 0o700


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int = 0
    last_number: int = 0


class Segments:
    """The files of one folder, each named after its first group; the newest one is written.

    Only one thread may use it at a time. Whatever the system refuses raises OSError.

    Args:
        folder: its own, made when missing.
        segment_bytes: from what size on a file is followed by another one.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._file: int | None = None
        self._reading: tuple[Path, bytes, list[GroupHead]] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_OWNER_ONLY_FOLDER)

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return sum(segment.size for segment in self._segments)

    def recover(self) -> FoundGroups:
        """Return the groups that a previous run has left, and cut off what is none."""
        groups = FoundGroups()
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        for path in paths:
            found = list(scan(path.read_bytes()))
            good = [part for part in found if isinstance(part, GroupHead)]
            for part in found:
                if isinstance(part, Damage):
                    _report_damage(path, part, is_last=path is paths[-1])
            if not good:
                path.unlink()
                continue
            groups.add(good)
            self._segments.append(_Segment(path, good[-1].end, good[-1].number))
        if self._segments:
            _know_of_deleted(groups, paths[0])
        return groups

    def append(self, number: int, data: bytes) -> None:
        """Write the bytes of the next group; all of them are there, or none."""
        if self._file is None or self._segments[-1].size >= self._segment_bytes:
            self._begin(number)
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
        segment.last_number = number

    def read(self, first: int, last: int) -> Iterator[tuple[bytes, GroupHead]]:
        """Yield the readable groups with these numbers, each with the bytes of its file."""
        for segment in self._segments:
            if segment.last_number < first:
                continue
            data, heads = self._contents(segment)
            yield from ((data, head) for head in heads if first <= head.number <= last)
            if segment.last_number >= last:
                return

    def forget(self, acknowledged: int) -> None:
        """Delete the files with nothing above a group's number, the newest one excepted."""
        while len(self._segments) > 1 and self._segments[0].last_number <= acknowledged:
            self._segments.pop(0).path.unlink(missing_ok=True)

    def sync(self, safe: int) -> None:
        """Bring what follows a group's number to the disk itself."""
        for segment in self._segments:
            if segment.last_number > safe:
                _sync(segment.path)
        _sync(self._folder)

    def close(self) -> None:
        """Let go of the newest file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self, number: int) -> None:
        path = self._folder / f"{number:020d}{_SUFFIX}"
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        file = os.open(path, flags, _OWNER_ONLY)
        self.close()
        self._file = file
        self._segments.append(_Segment(path))

    def _contents(self, segment: _Segment) -> tuple[bytes, list[GroupHead]]:
        """Return a file's bytes and groups; that of a finished one is kept for the next read."""
        if self._reading is not None and self._reading[0] == segment.path:
            return self._reading[1:]
        data = segment.path.read_bytes()[: segment.size]
        heads = [head for head in scan(data) if isinstance(head, GroupHead)]
        is_finished = segment is not self._segments[-1]
        self._reading = (segment.path, data, heads) if is_finished else None
        return data, heads


def unsent_in(folder: Path) -> int:
    """Count the messages in the files of a folder that Kafka had not acknowledged; only reads.

    What is damaged or still being written is left out. A folder that is gone has none.
    """
    groups = FoundGroups()
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    for path in paths:
        heads = [part for part in scan(path.read_bytes()) if isinstance(part, GroupHead)]
        if heads:
            groups.add(heads)
    if paths:
        _know_of_deleted(groups, paths[0])
    return sum(g.messages for g in groups.groups() if g.number > groups.acknowledged)


def _know_of_deleted(groups: FoundGroups, first: Path) -> None:
    """Count as acknowledged what was in files before the first one that is left.

    They were deleted since Kafka had them, which those that are left may have been written too
    early to know.
    """
    groups.acknowledged = max(int(first.stem) - 1, groups.acknowledged)


def _report_damage(path: Path, damage: Damage, *, is_last: bool) -> None:
    size = damage.end - damage.start
    if damage.is_tail and is_last:
        log.warning("spool_tail_cut", file=path.name, at=damage.start, bytes=size)
    else:
        log.error("spool_damaged", file=path.name, at=damage.start, bytes=size)
    if damage.is_tail:
        os.truncate(path, damage.start)


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk itself."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
