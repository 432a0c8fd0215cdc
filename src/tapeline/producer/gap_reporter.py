"""Report the gaps of a live feed to Kafka, as soon as they are known and when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from tapeline.feeds.known import feed_of
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind, ends_of
from tapeline.producer.clock import FeedClock
from tapeline.producer.gap_watch import GapWatch
from tapeline.producer.holes import Hole
from tapeline.producer.id_file import KEPT_US
from tapeline.producer.origin import Origin
from tapeline.program.settings import Settings

log = structlog.get_logger()

_MOST_OVER: Final = 1_000
"""Gaps that are kept in mind for what may still come."""


def _nowhere(_gap: Gap) -> None:
    """Take a report before there is a feed."""


@dataclass(slots=True)
class GapReporter:
    """Hands on what a watch finds.

    Args:
        watch: tells gaps.
        topic: where their reports go.
        clock: tells their times.
        earlier_us: until when Kafka had everything of its last life.
        others: what producers of other names last reported, by their names.
        source: the feed's.
    """

    watch: GapWatch
    topic: str
    clock: FeedClock
    earlier_us: int | None = None
    others: Mapping[str, FeedStatus] = field(default_factory=dict)
    source: str = ""
    send: Callable[[Gap], None] = _nowhere
    """Takes a report; set by the feed."""
    _over: dict[str, Gap] = field(default_factory=dict)
    """Those of which trades may still be had, by their keys."""

    def report(self, gaps: Iterable[Gap]) -> None:
        """Send the gaps, and log them."""
        for gap in gaps:
            self.send(gap)
            if gap.ended_us is not None and gap.kind.marks_bars:
                self._keep(gap)
            ended_us = gap.ended_us
            log.warning(
                "feed_gap",
                kind=gap.kind.value,
                is_over=ended_us is not None,
                seconds=round(((ended_us or gap.detected_us) - gap.started_us) / 1e6, 1),
                symbols=len(gap.symbols),
            )

    @property
    def topic_id(self) -> str:
        """The id of the trades' topic."""
        return self.watch.topic_id

    def came_by_another_feed(self, symbol: str, since_us: int) -> bool:
        """Return whether another feed brought a symbol after a time, µs since the epoch."""
        return any(
            symbol in other.symbols
            and (other.last_message_us or 0) > since_us
            and feed_of(other.source) is not feed_of(self.source)
            for other in self.others.values()
        )

    def goes_on_from(self, gaps: Iterable[Gap]) -> None:
        """Take the gaps of earlier lives: what lasts ends with this one, the others may be healed.

        Not those of frames that were dropped: some are of what had come and was damaged on disk.
        """
        ends = ends_of(list(gaps))
        lasting = [gap for gap, ended_us in ends if ended_us is None]
        oldest_us = self.clock.now_us() - KEPT_US
        for gap, ended_us in reversed(ends):
            is_recent = ended_us is not None and max(ended_us, gap.detected_us) > oldest_us
            may_be_healed = gap.symbols and gap.kind.marks_bars and gap.kind is not GapKind.DROPPED
            if is_recent and may_be_healed:
                self._keep(replace(gap, ended_us=ended_us))
        self.watch.goes_on_from(lasting, self._over.values())

    def _keep(self, gap: Gap) -> None:
        self._over[gap.key] = gap
        if len(self._over) > _MOST_OVER:
            del self._over[next(iter(self._over))]

    def heal(self, covers: Callable[[str, Gap], bool], offsets: Mapping[int, int]) -> None:
        """Report those gaps anew of which nothing of some symbols is missing any more.

        Args:
            covers: tells whether all trades of a symbol in a gap have come.
            offsets: the newest that Kafka has acknowledged, by partition.
        """
        for key, gap in list(self._over.items()):
            found = [symbol for symbol in gap.symbols if covers(symbol, gap)]
            if not found:
                continue
            healed = gap.healed_of(found, self.clock.now_us(), offsets)
            self.send(healed)
            if healed.symbols:
                self._over[key] = healed
            else:
                del self._over[key]
                log.info("gap_healed", kind=gap.kind.value, symbols=len(healed.healed))

    def damaged(self, hole: Hole) -> None:
        """Note what the spool has lost; where that begins is not known, Kafka had all before."""
        after_us = hole.after_us or self.earlier_us or self.watch.started_us or hole.until_us
        self._report_for_good(self.watch.damaged(after_us, hole.until_us))

    def damaged_of(self, producer_id: str, hole: Hole) -> None:
        """Note what a spool has lost that another producer had left: it is a gap of that one.

        It is of that one's symbols; of ours if it has reported nothing that would tell.
        """
        other = self.others.get(producer_id)
        known_us = other.last_message_us if other else None
        for gap in self.watch.damaged(hole.after_us or known_us or hole.until_us, hole.until_us):
            symbols = other.symbols if other else gap.symbols
            self._report_for_good([replace(gap, producer_id=producer_id, symbols=symbols)])

    def _report_for_good(self, gaps: Iterable[Gap]) -> None:
        """Report gaps of what had come, so that no number tells of it any more."""
        some = list(gaps)
        self.report(some)
        for gap in some:
            self._over.pop(gap.key, None)


def gap_reporter(
    settings: Settings,
    origin: Origin,
    symbols: tuple[str, ...],
    reported: Mapping[str, FeedStatus],
    durable_us: int | None = None,
    missed: Iterable[Gap] = (),
    clock: FeedClock | None = None,
) -> GapReporter:
    """Return the reporter of a live feed, going on from a previous run of its producer.

    Args:
        settings: time-outs and topics.
        origin: names the producer and the trades' topic.
        symbols: what is subscribed.
        reported: what all producers last reported, by their names.
        durable_us: the newest receipt in its spool, µs since the epoch.
        missed: what all producers of the topic have reported of gaps.
        clock: another one than the host's.
    """
    finnhub, kafka, producer_id = settings.finnhub, settings.kafka, origin.producer_id
    blank = Gap(
        producer_id, kafka.topic, origin.topic_id, GapKind.DISCONNECTED, symbols, 0, None, 0
    )
    earlier = reported.get(producer_id)
    earlier_us = earlier.last_message_us if earlier else None
    started_us = earlier.started_us if earlier else None
    late_us = earlier.late_us if earlier else 0
    # From its start on, what it does not report as a gap counts as heard.
    known = [us for us in (started_us, earlier_us, durable_us) if us is not None]
    # What a life left open that received nothing has to end with this one.
    last_us = max(known, default=earlier.made_us if earlier else None)
    watch = GapWatch(
        blank, finnhub.idle_timeout_s, finnhub.symbol_silence_s, last_us, started_us, late_us
    )
    reporter = GapReporter(
        watch, kafka.gaps_topic, clock or FeedClock(), earlier_us, reported, origin.source
    )
    own = (gap for gap in missed if gap.producer_id == producer_id)
    reporter.goes_on_from(gap for gap in own if gap.kind is not GapKind.UNKNOWN)
    return reporter
