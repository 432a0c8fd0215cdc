"""Spark's own files in a checkpoint: how far a topic was read, and what is wrong with them.

A folder `offsets` holds where each micro-batch ends, `commits` which of them are done, one
numbered file each: `v1`, a line of JSON and, in `offsets`, one more for each source. Where the
first batch began is in `sources/0/0`. Nothing here is ever repaired: what a power cut or a full
disk has damaged is set aside as a whole, since another run over the topic costs time only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tapeline.consumer.checkpoint_place import Place, names_in, numbers_in

_VERSION: Final = b"v1"
_OFFSETS_LINES: Final = 3
_COMMITS_LINES: Final = 2
_CHECKSUM: Final = re.compile(r"\.(\d+)\.crc")


class CheckpointLog:
    """The log of one query's checkpoint.

    Args:
        folder: of the query.
    """

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._offsets = folder / "offsets"
        self._commits = folder / "commits"
        self._began = folder / "sources" / "0" / "0"

    @property
    def is_empty(self) -> bool:
        """Whether no batch was ever begun."""
        return not numbers_in(self._offsets) and not numbers_in(self._commits)

    def damage(self) -> str | None:
        """Return what keeps Spark from going on or from telling where; None if nothing does.

        The commit of the newest batch may be missing: Spark runs that one again, but none before.
        """
        return self._unreadable() or self._missing() or self._orphan()

    def _unreadable(self) -> str | None:
        metadata, began = self._folder / "metadata", self._began
        if metadata.exists() and not _is_json(metadata):
            return "metadata cannot be read"
        # Spark reads it as long as there is no second batch.
        if not _newest(self._offsets) and began.exists() and not _initial_offsets(began):
            return "sources/0/0 cannot be read"
        commits = _newest(self._commits)
        if commits is not None and not self._is_commit(commits):
            return f"commits/{commits} cannot be read"
        return None

    def _missing(self) -> str | None:
        """Return which file is missing; Spark reads the newest batch and the one before."""
        offsets, commits = _newest(self._offsets), _newest(self._commits)
        done = -1 if commits is None else commits
        if offsets is None:
            return None if commits is None else f"offsets/{commits} is missing"
        for number in range(max(0, offsets - 1), offsets + 1):
            if self._batch(number) is None:
                return f"offsets/{number} is missing or cannot be read"
        if done > offsets:
            return f"offsets/{done} is missing"
        return f"commits/{offsets - 1} is missing" if done < offsets - 1 else None

    def _orphan(self) -> str | None:
        """Return which next file has a checksum already, so that Spark could not write it."""
        for folder in (self._offsets, self._commits):
            newest = _newest(folder)
            for number in map(int, filter(None, map(_checksum_of, names_in(folder)))):
                if newest is None or number > newest:
                    return f"{folder.name}/{number} is missing beside its checksum"
        return None

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
        """Return whether a committed batch held any message of the topic.

        Spark commits a batch without any when it is stopped before the first trade has come.
        """
        began = _initial_offsets(self._began).get(topic, {})
        return any(end > began.get(str(p), 0) for p, end in self.next_offsets(topic).items())

    def _batch(self, number: int) -> Mapping[str, Any] | None:
        """Return where a batch ends: offsets by partition by topic."""
        lines = _lines(self._offsets / str(number), _OFFSETS_LINES)
        return None if lines is None else lines[-1]

    def _is_commit(self, number: int) -> bool:
        return _lines(self._commits / str(number), _COMMITS_LINES) is not None


def _lines(file: Place, count: int) -> list[dict[str, Any]] | None:
    """Return the lines of JSON in a log file; None when it is not what it must be."""
    try:
        version, *lines = file.read_bytes().splitlines()
        parsed = [orjson.loads(line) for line in lines]
    except (FileNotFoundError, ValueError):
        return None
    is_right = version == _VERSION and len(lines) == count - 1
    return parsed if is_right and all(isinstance(line, dict) for line in parsed) else None


def _initial_offsets(file: Place) -> Mapping[str, Mapping[str, int]]:
    """Return where the first batch began, by topic and partition; nothing when it is not known."""
    try:
        # Spark writes a zero byte before the version, for readers of an earlier one.
        version, line = file.read_bytes().lstrip(b"\0").split(b"\n", 1)
        found = orjson.loads(line)
    except (FileNotFoundError, ValueError):
        return {}
    is_right = version == _VERSION and isinstance(found, dict)
    return found if is_right and all(isinstance(o, dict) for o in found.values()) else {}


def _is_json(file: Place) -> bool:
    try:
        return isinstance(orjson.loads(file.read_bytes()), dict)
    except (FileNotFoundError, orjson.JSONDecodeError):
        return False


def _checksum_of(name: str) -> str | None:
    found = _CHECKSUM.fullmatch(name)
    return None if found is None else found[1]


def _newest(folder: Place) -> int | None:
    return max(numbers_in(folder), default=None)
