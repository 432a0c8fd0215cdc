"""Report the gaps of a live feed to Kafka, as soon as they are known and when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import now_us
from tapeline.producer.gap_watch import GapWatch
from tapeline.producer.spool import Hole
from tapeline.producer.steady import steady_s
from tapeline.program.settings import Settings

log = structlog.get_logger()


def _nowhere(_gap: Gap) -> None:
    """Take a report before there is a pipeline."""


@dataclass(slots=True)
class GapReporter:
    """Feeds a watch with what happens and hands on what it finds.

    Args:
        watch: tells gaps.
        started_us: when this producer first heard anything, over all its runs.
        earlier_us: until when Kafka had everything of its last life.
        others: what producers of other names last reported, by their names.
    """

    watch: GapWatch
    started_us: int | None
    earlier_us: int | None = None
    others: Mapping[str, FeedStatus] = field(default_factory=dict)
    send: Callable[[Gap], None] = _nowhere
    """Takes a report; set by the pipeline, as the clock is."""
    now_us: Callable[[], int] = now_us

    def on_disconnect(self, kind: GapKind, behind_since_us: int | None = None) -> None:
        """Note that the connection is gone, and since when we may have been behind it."""
        self._report(self.watch.on_disconnect(kind, self.now_us(), behind_since_us))

    def on_message(self, received_us: int, monotonic_s: float, symbols: Iterable[str]) -> None:
        """Note a message, with the symbols of its trades."""
        if self.started_us is None:
            self.started_us = received_us
        self._report(self.watch.on_message(received_us, monotonic_s, symbols))

    def dropped(self, received_us: int, behind_since_us: int | None = None) -> None:
        """Note a frame that could not be read, and since when we may have been behind it."""
        self._report(self.watch.dropped(received_us, behind_since_us))

    def started(self, holes: Iterable[Hole] = ()) -> None:
        """Note that the producer runs, and what its spool has lost."""
        for hole in holes:
            self.damaged(hole)
        self._report(self.watch.started(self.now_us()))

    def damaged(self, hole: Hole) -> None:
        """Note what the spool has lost; where that begins is not known, Kafka had all before."""
        after_us = hole.after_us or self.earlier_us or self.started_us or hole.until_us
        self._report(self.watch.damaged(after_us, hole.until_us))

    def damaged_of(self, producer_id: str, hole: Hole) -> None:
        """Note what a spool has lost that another producer had left: it is a gap of that one.

        It is of that one's symbols; of ours if it has reported nothing that would tell.
        """
        other = self.others.get(producer_id)
        known_us = other.last_message_us if other else None
        for gap in self.watch.damaged(hole.after_us or known_us or hole.until_us, hole.until_us):
            symbols = other.symbols if other else gap.symbols
            self._report([replace(gap, producer_id=producer_id, symbols=symbols)])

    def check(self) -> None:
        """Look for silence."""
        self._report(self.watch.check(self.now_us(), steady_s()))

    def _report(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self.send(gap)
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
    *,
    symbols: tuple[str, ...],
    topic_id: str,
    producer_id: str,
    earlier: FeedStatus | None,
    others: Mapping[str, FeedStatus] | None = None,
    durable_us: int | None = None,
) -> GapReporter:
    """Return the reporter of a live feed, going on from a previous run of its producer.

    Args:
        settings: time-outs and topics.
        symbols: what is subscribed.
        topic_id: of the trades' topic.
        producer_id: the producer's name.
        earlier: what it last reported.
        others: what producers of other names last reported, by their names.
        durable_us: the newest receipt in its spool, µs since the epoch.
    """
    finnhub, kafka = settings.finnhub, settings.kafka
    blank = Gap(producer_id, kafka.topic, topic_id, GapKind.DISCONNECTED, symbols, 0, None, 0)
    earlier_us = earlier.last_message_us if earlier else None
    started_us = earlier.started_us if earlier else None
    # From its start on, what it does not report as a gap counts as heard.
    known = [us for us in (started_us, earlier_us, durable_us) if us is not None]
    last_us = max(known, default=None)
    watch = GapWatch(blank, finnhub.idle_timeout_s, finnhub.symbol_silence_s, last_us)
    return GapReporter(watch, started_us, earlier_us, others or {})
