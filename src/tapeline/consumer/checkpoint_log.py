"""Spark's own files in a checkpoint: tell whether they can be read, and drop what cannot.

A folder `offsets` holds where each micro-batch ends, `commits` which of them are done, one
numbered file each: `v1`, a line of JSON and, in `offsets`, one more for each source. Where the
first batch began is in `sources/0/0`. What a
crash or a full disk damages is usually the newest of them. Every batch may run again, so the
newest entries may go; a batch that ran and is not known to have run is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

_VERSION: Final = b"v1"
_OFFSETS_LINES: Final = 3
_COMMITS_LINES: Final = 2


class CheckpointLog:
    """The log of one query's checkpoint.

    Args:
        folder: of the query.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = folder / "offsets"
        self._commits = folder / "commits"

    @property
    def is_empty(self) -> bool:
        """Whether no batch was ever begun."""
        return not _numbers(self._offsets) and not _numbers(self._commits)

    def mend(self) -> list[str]:
        """Drop what cannot be read or does not belong; return the names of what went."""
        dropped = []
        if not _is_json(self._folder / "metadata"):
            # The name of the query within Spark; without it Spark makes another.
            dropped += _drop(self._folder / "metadata")
        while (newest := _newest(self._offsets)) is not None and self._batch(newest) is None:
            dropped += _drop(self._offsets / str(newest))
        last = -1 if newest is None else newest
        for number in reversed(_numbers(self._commits)):
            if number > last:
                dropped += _drop(self._commits / str(number))
        while (newest := _newest(self._commits)) is not None and not self._is_commit(newest):
            dropped += _drop(self._commits / str(newest))
        for folder in (self._offsets, self._commits):
            for checksum in folder.glob(".[0-9]*.crc"):
                # The checksum of a file that is gone keeps Spark from writing it again.
                file = folder / checksum.name[1 : -len(".crc")]
                if file.name.isdigit() and not file.exists():
                    dropped += _drop(file)
        return dropped

    @property
    def is_whole(self) -> bool:
        """Whether Spark can go on: it needs the newest batch and the one before."""
        newest = _newest(self._offsets)
        if newest is None:
            return False
        return newest == 0 or self._batch(newest - 1) is not None

    def next_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset of each partition that is read next; empty when unknown.

        A batch that was begun and is not committed is read again from where it began.
        """
        committed = _newest(self._commits)
        batch = None if committed is None else self._batch(committed)
        if batch is None:
            return {}
        return {int(partition): offset for partition, offset in batch.get(topic, {}).items()}

    def has_read(self, topic: str) -> bool:
        """Tell whether a committed batch held any message of the topic.

        Spark commits a batch without any when it is stopped before the first trade has come.
        """
        began = _initial_offsets(self._folder / "sources" / "0" / "0").get(topic, {})
        return any(end > began.get(str(p), 0) for p, end in self.next_offsets(topic).items())

    def _batch(self, number: int) -> Mapping[str, Any] | None:
        """Return where a batch ends: offsets by partition by topic."""
        lines = _lines(self._offsets / str(number), _OFFSETS_LINES)
        return None if lines is None else lines[-1]

    def _is_commit(self, number: int) -> bool:
        return _lines(self._commits / str(number), _COMMITS_LINES) is not None


def _lines(file: Path, count: int) -> list[dict[str, Any]] | None:
    """Return the lines of JSON in a log file; None when it is not what it must be."""
    try:
        version, *lines = file.read_bytes().splitlines()
        parsed = [orjson.loads(line) for line in lines]
    except (FileNotFoundError, ValueError):
        return None
    is_right = version == _VERSION and len(lines) == count - 1
    return parsed if is_right and all(isinstance(line, dict) for line in parsed) else None


def _initial_offsets(file: Path) -> Mapping[str, Mapping[str, int]]:
    """Return where the first batch began, by topic and partition; nothing when it is not known."""
    try:
        # Spark writes a zero byte before the version, for readers of an earlier one.
        version, line = file.read_bytes().lstrip(b"\0").split(b"\n", 1)
        found = orjson.loads(line)
    except (FileNotFoundError, ValueError):
        return {}
    is_right = version == _VERSION and isinstance(found, dict)
    return found if is_right and all(isinstance(o, dict) for o in found.values()) else {}


def _is_json(file: Path) -> bool:
    try:
        return isinstance(orjson.loads(file.read_bytes()), dict)
    except (FileNotFoundError, orjson.JSONDecodeError):
        return False


def _drop(file: Path) -> list[str]:
    """Delete a file with its checksum; return its name if there was one."""
    found = [file, file.with_name(f".{file.name}.crc")]
    existing = [f for f in found if f.exists()]
    for one in existing:
        one.unlink()
    return [f"{file.parent.name}/{file.name}"] if existing else []


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(f.name) for f in folder.iterdir() if f.name.isdigit())


def _newest(folder: Path) -> int | None:
    return max(_numbers(folder), default=None)
