"""Report the gaps of a live feed to Kafka, as soon as they are known and when they end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.gaps import Gap, GapKind, GapWatch
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.settings import Settings

log = structlog.get_logger()


@dataclass(slots=True)
class GapReporter:
    """Feeds a watch with what happens and sends what it finds.

    Args:
        watch: tells gaps.
        producer: sends them.
        topic: where to.
        started_us: when this producer first heard anything, over all its lives.
    """

    watch: GapWatch
    producer: KafkaProducer
    topic: str
    started_us: int | None
    _unsent: list[Gap] = field(default_factory=list)

    def lost(self, kind: GapKind) -> None:
        """Note that the connection is gone."""
        self._note(self.watch.lost(kind, _now_us()))

    def heard(self, received_us: int, monotonic_s: float, symbols: Iterable[str]) -> None:
        """Note a message, with the symbols of its trades."""
        if self.started_us is None:
            self.started_us = received_us
        self._note(self.watch.heard(received_us, monotonic_s, symbols))

    def dropped(self, received_us: int) -> None:
        """Note a frame that could not be read."""
        self._note(self.watch.dropped(received_us))

    def started(self) -> None:
        """Note that the producer runs."""
        self._note(self.watch.started(_now_us()))

    async def report(self) -> None:
        """Look for silence, and send what is known."""
        self._note(self.watch.check(_now_us(), time.monotonic()))
        while self._unsent:
            gap = self._unsent[0]
            await self.producer.send_to(self.topic, gap.key, gap.to_bytes())
            self._unsent.pop(0)

    def _note(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self._unsent.append(gap)
            ended_us = gap.ended_us
            log.warning(
                "feed_gap",
                kind=gap.kind.value,
                is_over=ended_us is not None,
                seconds=round(((ended_us or gap.detected_us) - gap.started_us) / 1e6, 1),
                symbols=len(gap.symbols),
            )


def gap_reporter(
    settings: Settings,
    producer: KafkaProducer,
    *,
    symbols: tuple[str, ...],
    topic_id: str,
    producer_id: str,
    earlier: FeedStatus | None,
) -> GapReporter:
    """Return the reporter of a live feed, going on from an earlier life of its producer."""
    finnhub, kafka = settings.finnhub, settings.kafka
    blank = Gap(producer_id, kafka.topic, topic_id, GapKind.DISCONNECTED, symbols, 0, None, 0)
    last_message_us = earlier.last_message_us if earlier else None
    watch = GapWatch(blank, finnhub.idle_timeout_s, finnhub.symbol_silence_s, last_message_us)
    return GapReporter(watch, producer, kafka.gaps_topic, earlier.started_us if earlier else None)


def _now_us() -> int:
    return time.time_ns() // 1000
