"""The windows of one topic whose bar or hour lacks trades, as a settler remembers them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from tapeline.bar import Interval, WindowKey
from tapeline.consumer.horizon import Horizon
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState

_LOOK_AGAIN_S: Final = 60.0

_StateKey = tuple[int, int, datetime, str]
_Group = dict[WindowKey, list[WindowState]]
_K = TypeVar("_K")
_V = TypeVar("_V")


class OpenWindows:
    """What is still to do: read once, kept in mind until it is settled.

    Args:
        client: reads states and progress.
        topic_id: of the topic.
    """

    def __init__(self, client: CassandraClient, topic_id: str) -> None:
        self._client = client
        self._topic_id = topic_id
        self._open: dict[_StateKey, WindowState] = {}
        self._read_from: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int | None, int]] = {}

    @property
    def states(self) -> Collection[WindowState]:
        """All of them."""
        return self._open.values()

    def read(self, progress: Mapping[int, PartitionProgress]) -> None:
        """Take in what is new where the progress has changed; move each partition's start on.

        A bucket of offsets is read until all of it is committed, and remembered afterwards, so
        that a round reads what is new and not what is open. While a topic is read again, what
        lies above its reader may become open once more.
        """
        for p in progress.values():
            # The stream writes windows before the progress that commits them; a rebuild may
            # make some due without any.
            seen = (p.committed_offset, p.read_offset, int(time.monotonic() // _LOOK_AGAIN_S))
            if self._seen.get(p.kafka_partition) != seen:
                self._read(p)
                self._seen[p.kafka_partition] = seen
        oldest: dict[int, int] = {}
        for partition, bucket, _, _ in self._open:
            if bucket < oldest.get(partition, bucket + 1):
                oldest[partition] = bucket
        for p in progress.values():
            settled = min(oldest.get(p.kafka_partition, p.read_bucket), p.read_bucket)
            if settled != p.settled_bucket:
                self._client.write_settled_bucket(self._topic_id, p.kafka_partition, settled)

    def due_windows(self, reach: Horizon) -> _Group:
        """Return the states of the windows whose bar lacks trades, by window, oldest first."""
        length = Interval.FIVE_MINUTES.duration
        due: _Group = defaultdict(list)
        for s in self._open.values():
            start = s.window_start
            is_dirty = s.dirty_offset > s.settled_offset
            if is_dirty and reach.reaches(start) and reach.covers(start + length):
                due[s.symbol, start].append(s)
        return _oldest_first(due)

    def due_hours(self, reach: Horizon) -> _Group:
        """Return the states of the hours whose windows are all settled, by hour, oldest first."""
        length = Interval.ONE_HOUR.duration
        by_hour: _Group = defaultdict(list)
        unsettled = set()
        for s in self._open.values():
            if reach.reaches(s.window_start):
                hour = s.window_start.replace(minute=0)
                if reach.covers(hour + length):
                    by_hour[s.symbol, hour].append(s)
                    if s.dirty_offset > s.settled_offset:
                        unsettled.add((s.symbol, hour))
        return _oldest_first({k: group for k, group in by_hour.items() if k not in unsettled})

    def update(self, states: Iterable[WindowState]) -> None:
        """Take in what has been settled of some windows."""
        for s in states:
            self._take_in(s)

    def remove(self, states: Iterable[WindowState]) -> None:
        """Forget windows of which nothing is left to do."""
        for s in states:
            self._open.pop(_key_of(s), None)

    def _read(self, p: PartitionProgress) -> None:
        head = p.committed_offset // WINDOW_BUCKET_OFFSETS
        start = self._read_from.get(p.kafka_partition, p.settled_bucket)
        if p.read_bucket < start:
            start = 0
        buckets = range(start, head + 1)
        for s in self._client.window_states(self._topic_id, p.kafka_partition, buckets):
            self._take_in(s)
        self._read_from[p.kafka_partition] = p.read_bucket

    def _take_in(self, state: WindowState) -> None:
        if state.is_open:
            self._open[_key_of(state)] = state
        else:
            self._open.pop(_key_of(state), None)


def in_chunks(groups: Mapping[_K, _V], most: int) -> Iterator[dict[_K, _V]]:
    """Yield the items of a mapping, so many at a time, in their order."""
    items = iter(groups.items())
    while some := dict(islice(items, most)):
        yield some


def _oldest_first(due: _Group) -> _Group:
    return dict(sorted(due.items(), key=lambda item: item[0][1]))


def _key_of(state: WindowState) -> _StateKey:
    return state.kafka_partition, state.bucket, state.window_start, state.symbol
