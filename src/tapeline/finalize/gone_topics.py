"""Finalize what is left of topics that no longer exist, or that all producers have left.

A topic that is deleted and made again has another id. What silver has of the old one is all that
there will ever be; nobody reads the old one, so its windows would stay provisional for good.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog
from pyspark.sql import SparkSession

from tapeline.finalize.bar_writer import BarWriter
from tapeline.finalize.counted_empty import counted_empty
from tapeline.finalize.due_bars import DueBars
from tapeline.finalize.final_bars import TOPIC_GONE
from tapeline.finalize.horizon import Horizon, newest_receipt
from tapeline.finalize.open_windows import OpenWindows, in_chunks
from tapeline.model.bar import Bar
from tapeline.model.coverage import Coverage
from tapeline.model.rules import Rules
from tapeline.program.settings import Settings
from tapeline.storage.bar_rows import StoredBar
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.topics import TopicStanding, TopicState, final_until

log = structlog.get_logger()

IsComplete = Callable[[Bar, StoredBar | None], bool | None]

_NEVER: Final = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class GoneTopics:
    """Finalizes windows of topics that Kafka no longer has.

    A bar that becomes final here is incomplete, for the reason `topic_gone`, as what was not read
    is lost; unless the topic's tape had ended and all of it was in silver. A bar that was final
    before keeps what was said of it.

    Args:
        session: computes bars.
        client: of the keyspace.
        policy: which trades set prices.
        silver_ttl: how long trades stay in silver; 0 is forever.
        delay: how late a trade may be; what was read or ended so lately is left alone.
        max_windows: how many are finalized at once.
        stores_1m: keep bars of one minute too.
    """

    session: SparkSession
    client: CassandraClient
    policy: Rules
    silver_ttl: timedelta
    delay: timedelta
    max_windows: int
    stores_1m: bool

    @classmethod
    def of(cls, session: SparkSession, client: CassandraClient, settings: Settings) -> GoneTopics:
        """Return what finalizes by a keyspace's settings."""
        stream = settings.stream
        return cls(
            session,
            client,
            stream.policy,
            timedelta(seconds=settings.cassandra.silver_ttl_s),
            timedelta(seconds=stream.watermark_s),
            stream.finalize_max_windows,
            stores_1m=stream.store_1m,
        )

    def finalize(self, living: Collection[str], now: datetime) -> int:
        """Finalize what can be finalized; return how many bars that were.

        Args:
            living: the ids of all topics that Kafka has.
            now: the clock.
        """
        standings = self.client.topic_standings()
        gone = [t for t in standings if t.topic_id not in living and t.state is not TopicState.OVER]
        if not gone:
            return 0
        others = [t for t in standings if t.topic_id in living]
        return sum(
            self._finalize(topic, self._reach(others, now), now, self._after_its_end(topic))
            for topic in gone
        )

    def finalize_left(self, topic_id: str, coverage: Coverage, now: datetime) -> int:
        """Finalize a topic that all producers have left and that is read, as its stream would.

        Args:
            topic_id: of the topic.
            coverage: what its producers heard.
            now: the clock.
        """
        standings = {t.topic_id: t for t in self.client.topic_standings()}
        topic = standings.pop(topic_id)

        def is_complete(bar: Bar, _: StoredBar | None) -> bool | None:
            return coverage.is_complete(bar.symbol, bar.window_start, bar.window_end)

        return self._finalize(topic, self._reach(standings.values(), now), now, is_complete)

    def _reach(self, others: Collection[TopicStanding], now: datetime) -> Horizon:
        """Return how far the others have passed: they may still bring trades to a window."""
        until = now - self.delay
        if any(t.state is not TopicState.OVER for t in others):
            until = min(until, final_until(others) or _NEVER)
        return Horizon(everything=False, until=until)

    def _finalize(
        self, topic: TopicStanding, reach: Horizon, now: datetime, is_complete: IsComplete
    ) -> int:
        progress = self.client.progress(topic.topic_id)
        received = newest_receipt(progress)
        if received is not None and received > now - self.delay:
            # It has gone this minute, or lives in a Kafka that is not ours.
            return 0
        states = OpenWindows(self.client, topic.topic_id)
        states.read(progress)
        writer = BarWriter(
            self.session,
            self.client,
            keyspace=self.client.keyspace,
            policy=self.policy,
            silver_ttl=self.silver_ttl,
            is_complete=is_complete,
            now=lambda: now,
            counted_empty=lambda interval, bars: counted_empty(self.client, topic, interval, bars),
            incomplete_reason=TOPIC_GONE,
        )
        bars = DueBars(self.client, writer, states, stores_1m=self.stores_1m)
        finalized = 0
        for some in in_chunks(states.due_windows(reach), self.max_windows):
            finalized += bars.finalize_windows(some).finalized
        for some in in_chunks(states.due_hours(reach), self.max_windows):
            finalized += bars.finalize_hours(some).finalized
        states.read(progress)
        if not states.one_of_each_start():
            self.client.write_topic_state(topic.topic_id, TopicState.OVER, now)
        log.info("left_topic_finalized", topic_id=topic.topic_id, bars=finalized)
        return finalized

    def _after_its_end(self, topic: TopicStanding) -> IsComplete:
        """Return what tells whether a bar of a topic that no longer exists is complete."""

        def is_complete(bar: Bar, stored: StoredBar | None) -> bool | None:
            if stored is not None and stored.bar.is_final:
                return stored.bar.is_complete
            if topic.state is not TopicState.ENDED:
                return False
            gaps = self.client.gaps(bar.window_start, bar.window_end)
            return not any(g.touches(bar.symbol, bar.window_start, bar.window_end) for g in gaps)

        return is_complete
