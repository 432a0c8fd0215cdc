"""What was so when an audit began; what came later is not ready to be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tapeline.audit.scope import Scope
from tapeline.audit.silver_gold import Readiness
from tapeline.model.bar import WindowKey
from tapeline.model.times import to_millis
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import Partition

_EXPIRES_WITHIN: Final = timedelta(hours=1)
"""Rows so near their end may be gone before they are read, and clocks differ."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The state of a keyspace at one instant.

    Args:
        started_at: that instant.
        committed: the highest offset of each partition that is in silver.
        due: windows that are to be finalized yet.
        due_hours: the same of hours.
        gone: windows that are due of a topic that no longer exists: no stream reads it.
        gone_hours: the same of hours.
        affected: the buckets of offsets (see `WINDOW_BUCKET_OFFSETS`) that hold trades of the
            audit's scope; None when that is everything.
        gone_ms: for each table, until when what was received may have expired; None for never.
    """

    started_at: datetime
    committed: Mapping[Partition, int]
    due: frozenset[WindowKey]
    due_hours: frozenset[WindowKey]
    gone: frozenset[WindowKey]
    gone_hours: frozenset[WindowKey]
    affected: Mapping[Partition, set[int]] | None
    gone_ms: Mapping[str, int | None]

    @property
    def readiness(self) -> Readiness:
        """Which five-minute bars can be compared."""
        return Readiness(
            due=self.due,
            gone=self.gone,
            silver_gone_ms=self.gone_ms["trades_silver"],
            gold_gone_ms=self.gone_ms["trades_gold_5m"],
        )


def survey(
    client: CassandraClient, scope: Scope, now: datetime, living: Collection[str]
) -> Baseline:
    """Read how far every topic of the keyspace is, and which windows are due.

    Args:
        client: reads windows and progress.
        scope: what is looked at.
        now: the clock.
        living: the ids of the topics that Kafka has.
    """
    committed = client.committed_offsets()
    due: set[WindowKey] = set()
    due_hours: set[WindowKey] = set()
    gone: set[WindowKey] = set()
    gone_hours: set[WindowKey] = set()
    affected: dict[Partition, set[int]] = defaultdict(set)
    for state in client.states_up_to(committed):
        hour = state.window_start.replace(minute=0)
        is_gone = state.topic_id not in living
        if state.affected_offset > state.finalized_offset:
            (gone if is_gone else due).add((state.symbol, state.window_start))
        if state.affected_offset > state.hour_finalized_offset:
            (gone_hours if is_gone else due_hours).add((state.symbol, hour))
        if scope.covers((state.symbol, state.window_start)):
            affected[state.topic_id, state.kafka_partition].add(state.bucket)
    return Baseline(
        now,
        committed,
        frozenset(due),
        frozenset(due_hours),
        frozenset(gone - due),
        frozenset(gone_hours - due_hours),
        None if scope.is_everything else affected,
        {
            table: to_millis(now - lifetime + _EXPIRES_WITHIN) if lifetime else None
            for table, lifetime in client.lifetimes().items()
        },
    )
