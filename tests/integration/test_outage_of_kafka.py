"""Nothing is final that a producer's spool may still change, on the real parts.

Kafka is away from minute 10 to minute 55, and the producer keeps what it hears meanwhile. It made
its last report before, and Kafka dates that by when the test runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest

from tapeline.consumer.spark_processor import ALL_LAYERS
from tapeline.model.times import floor_to, to_micros
from tapeline.model.trade import Trade, encode_trade
from tests.pipeline import Pipeline
from tests.statuses import send_status

FIVE = timedelta(minutes=5)


@dataclass
class Feed:
    """A live producer and what it hears; Kafka's clock is at minute 35 to 40 when a test begins."""

    pipeline: Pipeline
    start: datetime

    def at(self, minute: float) -> datetime:
        return self.start + timedelta(minutes=minute)

    def hears(self, minutes: Sequence[float]) -> None:
        """Send a trade of each minute, received at once; its id is its millisecond."""
        messages = []
        for minute in minutes:
            us = to_micros(self.at(minute))
            trade = Trade("LIVE", 10.0, 1.0, us // 1000, None, us // 1000, us, 0, "finnhub")
            messages.append(("LIVE", encode_trade(trade)))
        self.pipeline.send_messages(messages)
        self.pipeline.ingest(ALL_LAYERS)

    def reports(self, minute: float, **changes: object) -> None:
        """Report that all was heard so far."""
        send_status(
            self.pipeline,
            "live",
            made_us=to_micros(self.at(minute)),
            symbols=("LIVE",),
            is_live=True,
            started_us=to_micros(self.at(-60)),
            last_message_us=to_micros(self.at(minute)),
            **changes,
        )

    def final(self) -> dict[int, tuple[int, int, bool | None]]:
        """Return trades, revision and completeness of each final bar by its minute."""
        return {
            (start - self.start) // timedelta(minutes=1): (
                bar.trade_count,
                bar.revision,
                bar.is_complete,
            )
            for (_, start), bar in self.pipeline.bars().items()
            if bar.is_final
        }


@pytest.fixture
def feed(pipeline: Pipeline) -> Feed:
    return Feed(pipeline, floor_to(FIVE, datetime.now(timezone.utc)) - 7 * FIVE)


def test_after_an_outage_windows_wait_until_the_spool_has_drained(feed: Feed) -> None:
    feed.hears([1, 6, 10])
    feed.reports(10)
    pipeline = feed.pipeline
    with pipeline.finalizer() as finalizer:
        pipeline.now = feed.at(55)  # Kafka is back, and the producer has not noticed yet
        finalizer.round()
        at_once = feed.final()
        feed.reports(55.1, pending=2, oldest_unsent_us=to_micros(feed.at(11)))
        pipeline.now = feed.at(55.2)
        finalizer.round()
        waiting = feed.final()
        feed.hears([11, 14])
        feed.reports(55.3)
        pipeline.now = feed.at(55.4)
        finalizer.round()
        drained = feed.final()

    assert at_once == {}
    assert waiting == {}
    assert drained == {0: (1, 1, True), 5: (1, 1, True), 10: (3, 1, True)}


def test_a_producer_that_died_for_good_is_waited_for_while_kafka_answers_for_a_minute(
    feed: Feed,
) -> None:
    feed.hears([1, 6, 10])
    feed.reports(10)
    pipeline = feed.pipeline
    found = []
    with pipeline.finalizer() as finalizer:
        for second in (0, 20, 40, 59, 61):
            pipeline.now = feed.at(55) + timedelta(seconds=second)
            finalizer.round()
            found.append(set(feed.final()))

    assert found == [set(), set(), set(), set(), {0, 5, 10}]
    # What it would have heard after its last report is not known.
    assert feed.final() == {0: (1, 1, True), 5: (1, 1, True), 10: (1, 1, False)}
