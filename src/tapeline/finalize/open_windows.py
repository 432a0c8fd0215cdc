"""The windows of one topic whose bar or hour lacks trades, as a finalizer remembers them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from tapeline.consumer.recently_affected import RecentlyAffected
from tapeline.finalize.horizon import Horizon
from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import floor_to
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState

_LOOK_AGAIN_S: Final = 60.0

_StateKey = tuple[int, int, datetime, str]
_ByStart = dict[datetime, dict[_StateKey, WindowState]]
_Group = dict[WindowKey, list[WindowState]]
_K = TypeVar("_K")
_V = TypeVar("_V")


class OpenWindows:
    """What is still to do: read once, kept in mind until it is finalized.

    Args:
        client: reads states and progress.
        topic_id: of the topic.
        affected: what the stream of this process touches; None when another process writes it.
    """

    def __init__(
        self, client: CassandraClient, topic_id: str, affected: RecentlyAffected | None = None
    ) -> None:
        self._client = client
        self._topic_id = topic_id
        self._affected = affected
        self._reached = Horizon(everything=False, until=None)
        # By start: a round asks for what ends by some time, and most windows are newer.
        self._due: _ByStart = defaultdict(dict)
        self._finalized: _ByStart = defaultdict(dict)
        self._open_in: Counter[tuple[int, int]] = Counter()
        self._has_changed = True
        self._read_from: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int | None, int]] = {}
        self._owed: dict[int, int] = {}
        """Up to which offset windows of a partition were affected that are not taken in yet."""
        self._ours: Mapping[int, int] = {}
        """Up to which offset this process's own stream has committed a partition."""

    def forget(self) -> None:
        """Forget everything; the next look reads all of it again."""
        for remembered in (self._due, self._finalized, self._open_in, self._read_from, self._seen):
            remembered.clear()
        self._has_changed = True

    def one_of_each_start(self) -> list[WindowState]:
        """Return a window of each start that is not done, without its bar where one is."""
        first = {start: next(iter(group.values())) for start, group in self._finalized.items()}
        first |= {start: next(iter(group.values())) for start, group in self._due.items()}
        return list(first.values())

    def read(self, progress: Mapping[int, PartitionProgress]) -> None:
        """Take in what is new where the progress has changed; move each partition's start on.

        A bucket of offsets is read until all of it is committed, and remembered afterwards, so
        that a round reads what is new and not what is open. What this process's own stream has
        affected is not read at all, but once a minute. While a topic is read again, what
        lies above its reader may become open once more.
        """
        owed_before = frozenset(self._owed)
        affected = self._take_affected()
        for p in progress.values():
            # The stream writes windows before the progress that commits them; a rebuild may
            # make some due without any.
            seen = (p.committed_offset, p.read_offset, int(time.monotonic() // _LOOK_AGAIN_S))
            before = self._seen.get(p.kafka_partition)
            added = () if affected is None else affected.get(p.kafka_partition, ())
            is_current = affected is not None and before is not None and before[2] == seen[2]
            if is_current and p.kafka_partition not in owed_before and self._are_new(added, p):
                for s in added:
                    self._take_in(self._with_known(s))
            elif p.kafka_partition in self._owed or before != seen:
                self._read(p)
            self._owed.pop(p.kafka_partition, None)
            self._seen[p.kafka_partition] = seen
        if not self._has_changed:
            return
        oldest: dict[int, int] = {}
        for partition, bucket in self._open_in:
            oldest[partition] = min(bucket, oldest.get(partition, bucket))
        for p in progress.values():
            finalized = min(oldest.get(p.kafka_partition, p.read_bucket), p.read_bucket)
            if finalized != p.finalized_bucket:
                self._client.write_finalized_bucket(self._topic_id, p.kafka_partition, finalized)
        self._has_changed = False

    def late_symbols(self, final_until: datetime | None) -> set[str]:
        """Return the symbols of which a bar that may be final lacks trades, or an hour that may be.

        An hour that is not over is made of all its trades when it is.

        Args:
            final_until: up to when windows were finalized, as far as an earlier run has said.
        """
        known = Horizon(everything=False, until=final_until)
        of_length = {
            Interval.FIVE_MINUTES.duration: self._due,
            Interval.ONE_HOUR.duration: self._finalized,
        }
        return {
            state.symbol
            for length, by_start in of_length.items()
            for start, group in by_start.items()
            if any(r.covers(floor_to(length, start) + length) for r in (self._reached, known))
            for state in group.values()
        }

    def due_windows(self, reach: Horizon) -> _Group:
        """Return the states of the windows whose bar lacks trades, by window.

        The oldest hour comes first, and in it one symbol after the other: the bars of a symbol
        share a partition of gold, so a chunk of them is read and written in few requests.
        """
        length = Interval.FIVE_MINUTES.duration
        self._reached = _further(self._reached, reach)
        found: _Group = defaultdict(list)
        for start, group in self._due.items():
            if reach.covers(start + length):
                for s in group.values():
                    found[s.symbol, start].append(s)
        hour = Interval.ONE_HOUR.duration
        return dict(sorted(found.items(), key=lambda due: (floor_to(hour, due[0][1]), *due[0])))

    def due_hours(self, reach: Horizon) -> _Group:
        """Return the states of the hours whose windows are all finalized, by hour, oldest first."""
        length = Interval.ONE_HOUR.duration
        unfinalized = {
            (s.symbol, floor_to(length, start))
            for start, group in self._due.items()
            if reach.covers(floor_to(length, start) + length)
            for s in group.values()
        }
        due: _Group = defaultdict(list)
        for start in sorted(self._finalized):
            hour = floor_to(length, start)
            if reach.covers(hour + length):
                for s in self._finalized[start].values():
                    if (s.symbol, hour) not in unfinalized:
                        due[s.symbol, hour].append(s)
        return due

    def update(self, states: Iterable[WindowState]) -> None:
        """Take in what has been finalized of some windows."""
        for s in states:
            self._take_in(s)

    def remove(self, states: Iterable[WindowState]) -> None:
        """Forget windows of which nothing is left to do."""
        for s in states:
            self._forget(s)

    def _take_affected(self) -> Mapping[int, Sequence[WindowState]] | None:
        """Return what the stream of this process has affected; None if that must be read."""
        if self._affected is None:
            return None
        taken = self._affected.take()
        for partition, offset in taken.newest_offset.items():
            self._owed[partition] = max(offset, self._owed.get(partition, -1))
        self._ours = taken.committed
        return taken.states

    def _are_new(self, states: Sequence[WindowState], p: PartitionProgress) -> bool:
        """Return whether nothing but these affected a partition, and no window finalized before."""
        reached = self._reached
        if reached.until is None or p.read_offset != p.committed_offset:
            return False
        if p.committed_offset > self._ours.get(p.kafka_partition, -1):
            return False  # the stream of another process is further
        length = Interval.FIVE_MINUTES.duration
        # The table knows what was finalized of a window, and when its first trade came.
        return not any(reached.covers(s.window_start + length) for s in states)

    def _with_known(self, state: WindowState) -> WindowState:
        """Return a state that was affected with what is remembered of it."""
        groups = (self._due, self._finalized)
        known = next(
            (found for g in groups if (found := g.get(state.window_start, {}).get(_key_of(state)))),
            None,
        )
        if known is None:
            return state
        return replace(known, affected_offset=max(known.affected_offset, state.affected_offset))

    def _read(self, p: PartitionProgress) -> None:
        # What is affected is in the table before the progress that commits it.
        newest = max(p.committed_offset, self._owed.get(p.kafka_partition, -1))
        head = newest // WINDOW_BUCKET_OFFSETS
        start = self._read_from.get(p.kafka_partition, p.finalized_bucket)
        if p.read_bucket < start:
            start = 0
        buckets = range(start, head + 1)
        for s in self._client.window_states(self._topic_id, p.kafka_partition, buckets):
            self._take_in(s)
        self._read_from[p.kafka_partition] = p.read_bucket
        self._has_changed = True

    def _take_in(self, state: WindowState) -> None:
        self._forget(state)
        if state.is_open:
            is_due = state.affected_offset > state.finalized_offset
            group = self._due if is_due else self._finalized
            group[state.window_start][_key_of(state)] = state
            self._open_in[state.kafka_partition, state.bucket] += 1

    def _forget(self, state: WindowState) -> None:
        self._has_changed = True
        for groups in (self._due, self._finalized):
            group = groups.get(state.window_start, {})
            if group.pop(_key_of(state), None) is not None:
                if not group:
                    del groups[state.window_start]
                bucket = state.kafka_partition, state.bucket
                self._open_in[bucket] -= 1
                if not self._open_in[bucket]:
                    del self._open_in[bucket]


def in_chunks(groups: Mapping[_K, _V], most: int) -> Iterator[dict[_K, _V]]:
    """Yield the items of a mapping, so many at a time, in their order."""
    items = iter(groups.items())
    while some := dict(islice(items, most)):
        yield some


def _further(first: Horizon, second: Horizon) -> Horizon:
    """Return what two horizons cover together."""
    limits = [until for until in (first.until, second.until) if until is not None]
    return Horizon(first.everything or second.everything, max(limits, default=None))


def _key_of(state: WindowState) -> _StateKey:
    return state.kafka_partition, state.bucket, state.window_start, state.symbol
