"""Which windows the feed covered: what all producers of a symbol missed is missing.

    producer 1   ────────┐   gap   ┌──────────────
    producer 2   ─────────────┐ gap      ┌────────
    missing                   ├────┤

Times are of receipt, in µs since the epoch; a feed of the present is seconds behind at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.gaps import Gap, end_of
from tapeline.times import to_micros

_EVER: Final = 1 << 62
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ProducerView:
    """A producer's newest status; `is_gone` when it no longer reports."""

    status: FeedStatus
    is_gone: bool


class Coverage:
    """What the live producers of one topic heard.

    Args:
        producers: all that ever reported.
        gaps: all that they ever reported.
    """

    def __init__(self, producers: Iterable[ProducerView], gaps: Iterable[Gap]) -> None:
        by_producer: dict[str, list[Gap]] = {}
        for gap in gaps:
            if gap.kind.marks_bars:
                by_producer.setdefault(gap.producer_id, []).append(gap)
        self._missed: dict[str, list[list[_Span]]] = {}
        for producer in producers:
            if not producer.status.is_live:
                continue
            spans = _missed_by(producer, by_producer.get(producer.status.producer_id, []))
            for symbol in producer.status.symbols:
                self._missed.setdefault(symbol, []).append(spans)

    def is_complete(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Tell whether some producer covers every instant of a window.

        A symbol without a live producer comes from a tape, which has no holes in the present.
        """
        window = (to_micros(start), to_micros(end))
        missed = [window]
        for spans in self._missed.get(symbol, [[]]):
            missed = _intersection(missed, spans)
        return not missed


def _missed_by(producer: ProducerView, gaps: Sequence[Gap]) -> list[_Span]:
    status = producer.status
    if status.started_us is None or status.last_message_us is None:
        return [(0, _EVER)]
    spans = [(0, status.started_us)]
    for gap in gaps:
        ended_us = end_of(gap, gaps)
        spans.append((gap.started_us, _EVER if ended_us is None else ended_us))
    if producer.is_gone:
        spans.append((status.last_message_us, _EVER))
    return spans


def _intersection(first: Sequence[_Span], second: Sequence[_Span]) -> list[_Span]:
    return [(max(a, c), min(b, d)) for a, b in first for c, d in second if max(a, c) < min(b, d)]
