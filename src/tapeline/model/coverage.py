"""Which windows the feed covered: what all producers of a symbol missed is missing.

    producer 1   ────────┐   gap   ┌──────────────
    producer 2   ─────────────┐ gap      ┌────────
    missing                   ├────┤

Times are of receipt, in µs since the epoch. A feed may be up to a minute behind; gaps begin earlier
by what it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import EVER, Gap, ends_of_all, joined
from tapeline.model.times import from_micros, to_micros

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ProducerView:
    """A producer's newest status, which came to Kafka at `reported_at`.

    It `is_gone` when it has not reported for half a minute. It `is_lost`, and nothing is expected
    of it any more, when it has not for ten minutes, though Kafka has answered us for a minute.
    """

    status: FeedStatus
    is_gone: bool
    reported_at: datetime
    is_lost: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it reads a live feed now."""
        status = self.status
        return status.is_live and not (self.is_gone or status.has_stopped)

    @property
    def vouches_until(self) -> datetime | None:
        """Up to which event time Kafka has all of its trades; None if no more will come of it."""
        status = self.status
        if self.is_lost or ((status.has_stopped or status.end_of_tape) and not status.pending):
            return None
        known_us = [us for us in (status.made_us, status.oldest_unsent_us) if us is not None]
        return min([self.reported_at, *map(from_micros, known_us)])


class Coverage:
    """What the live producers of one topic heard; worked out when it is first asked.

    Args:
        producers: all that ever reported.
        gaps: all that they reported of the time since `known_from_us`.
        known_from_us: in µs since the epoch; what live producers heard before is not known.
        is_readable: whether every report could be read; if not, nothing is known to be complete.
    """

    def __init__(
        self,
        producers: Iterable[ProducerView],
        gaps: Sequence[Gap],
        known_from_us: int = 0,
        *,
        is_readable: bool = True,
    ) -> None:
        self._producers = tuple(producers)
        self._gaps = gaps
        self._known_from_us = known_from_us
        self._is_readable = is_readable

    def renewed(
        self,
        producers: Iterable[ProducerView],
        gaps: Sequence[Gap],
        known_from_us: int = 0,
        *,
        is_readable: bool = True,
    ) -> Coverage:
        """Return what is known now; the same sequence of gaps is not worked out again."""
        coverage = Coverage(producers, gaps, known_from_us, is_readable=is_readable)
        if gaps is self._gaps and "_holes" in vars(self):
            coverage._holes = self._holes
        return coverage

    def is_complete(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Return whether some producer covers every instant of a window.

        A symbol without a live producer comes from a tape, which has no holes in the present.
        """
        if not self._is_readable:
            return False
        window = (to_micros(start), to_micros(end))
        missed = [window]
        for producer in self._producers_of.get(symbol, [None]):
            missed = _intersection(missed, self._missed_by(producer, symbol, window))
        return not missed

    @cached_property
    def _producers_of(self) -> dict[str, list[ProducerView | None]]:
        """The live producers of each symbol."""
        found: dict[str, list[ProducerView | None]] = defaultdict(list)
        for producer in self._producers:
            if producer.status.is_live:
                for symbol in producer.status.symbols:
                    found[symbol].append(producer)
        return dict(found)

    @cached_property
    def _holes(self) -> dict[tuple[str, str], list[_Holes]]:
        """The gaps of each producer and symbol; what several symbols share is kept once."""
        marks = (gap for gap in self._gaps if gap.kind.marks_bars)
        spans: dict[tuple[str, tuple[str, ...]], list[tuple[int, int | None]]] = defaultdict(list)
        for gap, end in ends_of_all(marks):
            spans[gap.producer_id, gap.symbols].append((gap.started_us, end))
        found: dict[tuple[str, str], list[_Holes]] = defaultdict(list)
        for (producer_id, symbols), some in spans.items():
            holes = _Holes(some)
            for symbol in symbols:
                found[producer_id, symbol].append(holes)
        return dict(found)

    def _missed_by(self, producer: ProducerView | None, symbol: str, window: _Span) -> list[_Span]:
        """Return what a producer missed of a window, and perhaps times beside it."""
        if producer is None:
            return []
        status = producer.status
        if status.started_us is None or status.last_message_us is None:
            return [(0, EVER)]
        spans = [(0, max(status.started_us, self._known_from_us))]
        for since_us, until_us in status.without_slot.get(symbol, ()):
            spans.append((since_us, EVER if until_us is None else until_us))
        for holes in self._holes.get((status.producer_id, symbol), ()):
            spans += holes.within(window)
        if producer.is_gone or (status.has_stopped and not status.end_of_tape):
            spans.append((status.last_message_us - status.late_us, EVER))
        return spans


class _Holes:
    """Gaps of one producer, as spans that neither touch nor overlap."""

    def __init__(self, gaps: Iterable[tuple[int, int | None]]) -> None:
        spans = joined(gaps)
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def within(self, window: _Span) -> Iterator[_Span]:
        """Yield the spans that overlap a window."""
        for place in range(bisect_right(self._ends, window[0]), len(self._starts)):
            if self._starts[place] >= window[1]:
                return
            yield self._starts[place], self._ends[place]


def _intersection(first: Sequence[_Span], second: Sequence[_Span]) -> list[_Span]:
    return [(max(a, c), min(b, d)) for a, b in first for c, d in second if max(a, c) < min(b, d)]
