"""What the stream of this process has affected, so that its finalizer need not read it again."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tapeline.storage.windows import PartitionProgress, WindowState

_MOST: Final = 200_000
"""States that wait for the finalizer; what is beyond it reads from the table."""


class Affected(NamedTuple):
    """What was affected, by Kafka partition: the states, None if they were too many, and how far.

    `committed` is up to where this process has brought a partition; beyond it another one has.
    """

    states: Mapping[int, Sequence[WindowState]] | None
    newest_offset: Mapping[int, int]
    committed: Mapping[int, int]


class RecentlyAffected:
    """Hands the states of windows from the stream's thread to the finalizer's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: list[WindowState] | None = []
        self._newest: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def add(self, states: Iterable[WindowState], progress: Iterable[PartitionProgress]) -> None:
        """Add what a batch affected, once it is written and before its progress is."""
        with self._lock:
            self._committed.update((p.kafka_partition, p.committed_offset) for p in progress)
            for state in states:
                partition, offset = state.kafka_partition, state.affected_offset
                self._newest[partition] = max(offset, self._newest.get(partition, -1))
                if self._states is not None:
                    self._states.append(state)
            if self._states is not None and len(self._states) > _MOST:
                self._states = None

    def take(self) -> Affected:
        """Return all that was added since the last time."""
        with self._lock:
            states, self._states = self._states, []
            newest, self._newest = self._newest, {}
            committed = dict(self._committed)
        if states is None:
            return Affected(None, newest, committed)
        found: defaultdict[int, list[WindowState]] = defaultdict(list)
        for state in states:
            found[state.kafka_partition].append(state)
        return Affected(found, newest, committed)
