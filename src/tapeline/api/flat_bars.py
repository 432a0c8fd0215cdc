"""Flat bars where no trade was made, put between the bars of a page on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any

from tapeline.model.gap import Gap, joined
from tapeline.model.read_interval import ReadInterval
from tapeline.model.sessions import sessions_between
from tapeline.model.times import floor_to, to_micros


class Known:
    """What is known of windows without a trade.

    Args:
        symbol: of the windows.
        final_until: every window that ends by then is finalized, those without a trade too;
            None is unknown.
        gaps: reads the feed's gaps; called once, when a finalized window is asked for.
    """

    def __init__(
        self,
        symbol: str,
        final_until: datetime | None,
        gaps: Callable[[], Iterable[Gap]] = tuple,
    ) -> None:
        self._symbol = symbol
        self._final_until = final_until
        self._gaps = gaps

    def is_final(self, end: datetime) -> bool:
        """Return whether no trade of a window with this end is awaited any more."""
        return self._final_until is not None and end <= self._final_until

    def is_complete(self, start: datetime, end: datetime) -> bool | None:
        """Return False when the feed had a gap in the window, else None.

        Without a trade nobody can say that the feed was there, or that it lost one.
        """
        first_us, last_us = to_micros(start), to_micros(end)
        while self._holes and self._holes[-1][1] <= first_us:
            self._holes.pop()
        return False if self._holes and self._holes[-1][0] < last_us else None

    @cached_property
    def _holes(self) -> list[tuple[int, int]]:
        """The gaps in µs, none within another, the earliest last: windows are asked in order."""
        spans = joined(
            (gap.started_us, gap.ended_us)
            for gap in self._gaps()
            if gap.kind.marks_bars and self._symbol in gap.symbols
        )
        return spans[::-1]


def filled(
    rows: Sequence[dict[str, Any]], length: ReadInterval, limit: int, known: Known
) -> list[dict[str, Any]]:
    """Put flat bars where none is, at the close before them; days are left as they are.

    Where one session is wanted, none where it has no part. Never more than `limit` rows, and the
    last one is never a flat one, so that the next page begins after a bar.
    """
    if length.is_day:
        return list(rows)
    result: list[dict[str, Any]] = []
    close = None
    for row in rows:
        flat = _flat(result[-1], row, length, close, known) if result else ()
        between = list(islice(flat, limit))
        if len(result) + len(between) + 1 > limit:
            break
        result += [*between, row]
        close = close if row["close"] is None else row["close"]
    return result


def _flat(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    length: ReadInterval,
    close: float | None,
    known: Known,
) -> Iterator[dict[str, Any]]:
    """Yield bars at the last known close. Nothing is stored of them, so their revision is 0."""
    for start in _starts(before["symbol"], before["window_end"], after["window_start"], length):
        end = start + length.duration
        is_final = known.is_final(end)
        yield {
            **before,
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "window_start": start,
            "window_end": end,
            "volume": Decimal(0),
            "vwap": None,
            "trade_count": 0,
            "session": None,
            "is_final": is_final,
            "revision": 0,
            "is_filled": True,
            "is_complete": known.is_complete(start, end) if is_final else None,
        }


def _starts(
    symbol: str, start: datetime, end: datetime, length: ReadInterval
) -> Iterator[datetime]:
    """Yield the windows from one to another, or those that hold some of the wanted session."""
    whole = [(start, end, None)]
    spans = whole if length.session is None else sessions_between(symbol, start, end)
    for first, last, session in spans:
        if session is length.session:
            # Windows begin at whole multiples of their length; one may hold two parts.
            start = max(start, floor_to(length.duration, first))
            while start < last:
                yield start
                start += length.duration
