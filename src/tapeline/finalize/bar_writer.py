"""Make bars from the layer below them, or take those that are known; write what changes as final.

Finalizing and rebuilding both go this way, so that they cannot disagree on what a bar is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from pyspark.sql import SparkSession

from tapeline.consumer.longer_bars import longer_bars
from tapeline.consumer.silver_bars import bars_from_silver
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.final_bars import (
    first_receipt,
    has_expired,
    is_past_lifetime,
    reconcile,
    shrinks,
)
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.storage.bar_rows import StoredBar
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import WindowState

log = structlog.get_logger()


CountedEmpty = Callable[[Interval, Sequence[Bar]], AbstractSet[WindowKey]]
"""Returns the keys of those first final bars whose window counted as without trades."""

Remembered = Callable[[Sequence[WindowKey]], Mapping[WindowKey, Bar]]
"""Returns the bars of those windows of five minutes of which every trade is known."""


def nothing_remembered(_: Sequence[WindowKey]) -> Mapping[WindowKey, Bar]:
    """Return nothing: every bar is made from silver."""
    return {}


@dataclass(slots=True)
class Written:
    """What happened to some bars."""

    finalized: int = 0
    revised: int = 0
    differs: int = 0
    stream_incomplete: int = 0
    written: list[WindowKey] = field(default_factory=list)
    kept: list[WindowKey] = field(default_factory=list)
    """Final bars of more trades than the layer below them has now."""
    received: dict[WindowKey, datetime] = field(default_factory=dict)
    """When the first trade of each bar came in."""

    def add(self, other: Written) -> None:
        """Add the counts of other bars."""
        self.finalized += other.finalized
        self.revised += other.revised
        self.differs += other.differs
        self.stream_incomplete += other.stream_incomplete

    def count(self, before: StoredBar | None, computed: Bar) -> None:
        """Count a finalized bar, and how the stream's preview compares with it."""
        self.finalized += 1
        if before is not None and before.bar.is_final:
            self.revised += not before.bar.same_values(computed)
        elif before is None or before.bar.trade_count != computed.trade_count:
            self.stream_incomplete += 1
        elif not before.bar.same_values(computed):
            self.differs += 1
            log.error("preview_differs", **_named(computed))


@dataclass(frozen=True, slots=True)
class Computed:
    """Bars computed again, and what stood in gold before their trades were read."""

    interval: Interval
    bars: Sequence[Bar]
    stored: Mapping[WindowKey, StoredBar]
    expired: Sequence[WindowKey]
    """Windows of which silver has a fragment at most; they were not computed."""
    at: datetime

    def is_final(self, key: WindowKey) -> bool:
        """Return whether a final bar stood there."""
        return key in self.stored and self.stored[key].bar.is_final

    def without(self, keys: Collection[WindowKey]) -> Computed:
        """Return the same without some windows."""
        return replace(self, bars=[b for b in self.bars if _key(b) not in keys])


class BarWriter:
    """Final bars of one keyspace: computed, reconciled, written by the client.

    Args:
        session: recomputes bars.
        client: reads and writes bars.
        rules: which trades make a bar, and how long silver has them.
        is_complete: whether the feed covered a bar's window, given what is stored of it.
        now: the wall clock, UTC.
        counted_empty: which of some first final bars lie in windows that counted as without
            trades, so that longer bars were final without them.
        incomplete_reason: of a first final bar that is incomplete.
    """

    def __init__(
        self,
        session: SparkSession,
        client: CassandraClient,
        rules: BarRules,
        *,
        is_complete: Callable[[Bar, StoredBar | None], bool | None],
        now: Callable[[], datetime],
        counted_empty: CountedEmpty = lambda *_: frozenset(),
        incomplete_reason: str | None = None,
    ) -> None:
        self._session = session
        self._client = client
        self._rules = rules
        self._is_complete = is_complete
        self._now = now
        self._counted_empty = counted_empty
        self._incomplete_reason = incomplete_reason

    def write(
        self,
        interval: Interval,
        keys: Sequence[WindowKey],
        received: Mapping[WindowKey, datetime] | None = None,
        remembered: Remembered = nothing_remembered,
    ) -> Written:
        """Compute bars, as `compute`, and write those that change."""
        return self.store(self.compute(interval, keys, received, remembered)) if keys else Written()

    def compute(
        self,
        interval: Interval,
        keys: Sequence[WindowKey],
        received: Mapping[WindowKey, datetime] | None = None,
        remembered: Remembered = nothing_remembered,
    ) -> Computed:
        """Compute bars: minutes from silver, hours from the stored five minutes.

        A bar that is final already is always made from silver, which may have been repaired.

        Args:
            interval: of the bars.
            keys: which bars; for those of one minute, the five minutes that they are in.
            received: when the first trade of a window was received, where that is known from
                elsewhere than its bar.
            remembered: the bars of those windows of five minutes of which every trade is known.
        """
        # Read before the trades are: of two writers, the one that read less writes earlier.
        at = self._now()
        stored = self._client.stored_bars(interval, _parts_of(keys, interval))
        expired: list[WindowKey] = []
        if interval is not Interval.ONE_HOUR:
            expired = [
                key
                for key in keys
                if any(
                    self._has_expired(part, stored, received or {}, at)
                    for part in _parts_of([key], interval)
                )
            ]
        gone = set(expired)
        keys = [k for k in keys if k not in gone]
        new = [k for k in keys if k not in stored or not stored[k].bar.is_final]
        known = remembered(new)
        made = self._bars(interval, [k for k in keys if k not in known])
        bars = [self._judged(bar, stored.get(_key(bar))) for bar in (*known.values(), *made)]
        return Computed(interval, bars, stored, expired, at)

    def store(self, computed: Computed, *, allow_shrink: bool = False) -> Written:
        """Write the bars that differ from what stood there."""
        outcome = Written()
        new = [b for b in computed.bars if not computed.is_final(_key(b))]
        late = self._counted_empty(computed.interval, new) if new else frozenset()
        writes = []
        for bar in computed.bars:
            before = computed.stored.get(_key(bar))
            outcome.count(before, bar)
            received = first_receipt(before.bar if before else None, bar)
            if received is not None:
                outcome.received[_key(bar)] = received
            if shrinks(before, bar) and not allow_shrink:
                outcome.kept.append(_key(bar))
                log.error(
                    "bar_kept", reason="silver holds fewer trades than the bar", **_named(bar)
                )
                continue
            write = reconcile(
                before,
                bar,
                computed.at,
                allow_shrink=allow_shrink,
                first_revision=2 if _key(bar) in late else 1,
            )
            if write is not None:
                outcome.written.append(_key(bar))
                writes.append(write)
        self._client.write_final_bars(computed.interval, writes)
        return outcome

    def _judged(self, bar: Bar, stored: StoredBar | None) -> Bar:
        """Return a bar with whether it is complete, and why not where that is known."""
        is_complete = self._is_complete(bar, stored)
        reason = self._incomplete_reason if is_complete is False else None
        return replace(bar, is_complete=is_complete, reason=reason)

    def _has_expired(
        self,
        key: WindowKey,
        stored: Mapping[WindowKey, StoredBar],
        received: Mapping[WindowKey, datetime],
        now: datetime,
    ) -> bool:
        lifetime = self._rules.silver_ttl
        expired = has_expired(stored.get(key), lifetime, now) or is_past_lifetime(
            received.get(key), lifetime, now
        )
        if expired:
            log.error("window_expired", symbol=key[0], window_start=key[1].isoformat())
        return expired

    def _bars(self, interval: Interval, keys: Sequence[WindowKey]) -> list[Bar]:
        if not keys:
            return []
        if interval is Interval.ONE_HOUR:
            return longer_bars(self._client, interval, keys)
        keyspace = self._client.keyspace
        return bars_from_silver(self._session, keyspace, interval, keys, self._rules.policy)


def first_receipts(states: Iterable[WindowState]) -> dict[WindowKey, datetime]:
    """Return when the first trade of each window was received, where a state says so."""
    first: dict[WindowKey, datetime] = {}
    for s in states:
        if s.first_received_at is not None:
            key = s.symbol, s.window_start
            first[key] = min(s.first_received_at, first.get(key, s.first_received_at))
    return first


def _parts_of(keys: Sequence[WindowKey], interval: Interval) -> list[WindowKey]:
    """Return the keys of the bars themselves."""
    if interval is not Interval.ONE_MINUTE:
        return list(keys)
    minutes = Interval.FIVE_MINUTES.duration // Interval.ONE_MINUTE.duration
    return [
        (s, start + n * Interval.ONE_MINUTE.duration) for s, start in keys for n in range(minutes)
    ]


def _key(bar: Bar) -> WindowKey:
    return bar.symbol, bar.window_start


def _named(bar: Bar) -> dict[str, str]:
    return {"symbol": bar.symbol, "window_start": bar.window_start.isoformat()}
