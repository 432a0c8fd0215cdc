"""Notice when the feed has a hole: lost, refused, silent, idle, or a frame that was dropped.

A gap begins at the last message before it and not when it is noticed; it ends at the first
message after it. Time-outs are measured on a clock that never steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from itertools import groupby
from typing import Final, NamedTuple

import orjson

from tapeline.producer.reports import UnreadableReportError, read_report
from tapeline.sessions import Session, session_at
from tapeline.times import to_micros

_TRADING: Final = frozenset({Session.REGULAR, Session.CONTINUOUS})
_OVERDUE_FACTOR: Final = 20.0
"""Trades are overdue after so many times their usual pause."""
_PAUSE_WEIGHT: Final = 0.05
"""How much the newest pause counts for the usual one."""
_OTHERS_TRADE_S: Final = 60.0
EVER: Final = 1 << 62
"""Later than any time, in µs since the epoch."""


class GapKind(str, Enum):
    """Why trades may be missing."""

    DISCONNECTED = "disconnected"
    """The connection was lost or could not be made."""
    REFUSED = "refused"
    """The feed answered the handshake with an error."""
    SILENT = "silent"
    """The connection stood and nothing came, not even pings."""
    IDLE = "idle"
    """Pings came and no trade, far longer than usual, while a market was open."""
    DROPPED = "dropped"
    """A frame could not be read, and what it held is not known."""
    STOPPED = "stopped"
    """The producer did not run."""
    SYMBOL_SILENT = "symbol_silent"
    """One symbol had no trade while others did. Reported only: it may have had none."""

    UNKNOWN = "unknown"
    """Of a producer newer than the reader; taken for a hole."""

    @classmethod
    def _missing_(cls, value: object) -> GapKind | None:
        return cls.UNKNOWN if isinstance(value, str) else None

    @property
    def marks_bars(self) -> bool:
        """Whether bars in it are incomplete."""
        return self is not GapKind.SYMBOL_SILENT


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without the trades of some symbols, µs since the epoch by receipt.

    `ended_us` is None while it lasts.
    """

    producer_id: str
    topic: str
    topic_id: str
    kind: GapKind
    symbols: tuple[str, ...]
    started_us: int
    ended_us: int | None
    detected_us: int

    @property
    def key(self) -> str:
        """The message key: one gap, while it lasts and when it has ended."""
        return f"{self.topic_id}|{self.producer_id}|{self.kind.value}|{self.started_us}"

    def touches(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Tell whether it marks the bars of a symbol in [start, end)."""
        return (
            self.kind.marks_bars
            and symbol in self.symbols
            and self.started_us < to_micros(end)
            and (self.ended_us is None or self.ended_us > to_micros(start))
        )

    def to_bytes(self) -> bytes:
        """Encode for Kafka."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes) -> Gap:
        """Decode from Kafka; fields of a newer producer are ignored.

        A kind that is not known here is `UNKNOWN`, which marks bars.

        Raises:
            UnreadableReportError: the bytes are no gap.
        """
        fields = read_report(cls, value)
        try:
            fields["kind"] = GapKind(fields["kind"])
            fields["symbols"] = tuple(fields["symbols"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableReportError from error


class GapWatch:
    """Turns what a producer hears, and does not hear, into gaps.

    Each method returns the gaps that have begun or ended, to be reported at once.

    Args:
        blank: a gap with the producer's names and symbols, to be filled in.
        idle_timeout_s: the least time without trades that counts as idle.
        symbol_silence_s: how long a symbol may have no trade while others have.
        last_message_us: when this producer last heard something, in an earlier life.
    """

    def __init__(
        self,
        blank: Gap,
        idle_timeout_s: float,
        symbol_silence_s: float,
        last_message_us: int | None,
    ) -> None:
        self._blank = blank
        self._idle_timeout_s = idle_timeout_s
        self._symbol_silence_s = symbol_silence_s
        self.last_message_us = last_message_us
        """When the newest message came, µs since the epoch."""
        self._trades: _Activity | None = None
        self._by_symbol: dict[str, _Activity] = {}
        self._outage: Gap | None = None
        self._idle: Gap | None = None
        self._silent: dict[str, Gap] = {}

    def started(self, now_us: int) -> list[Gap]:
        """Note that the producer runs, perhaps after an earlier life."""
        return [] if self.last_message_us is None else self.lost(GapKind.STOPPED, now_us)

    def lost(self, kind: GapKind, now_us: int, behind_since_us: int | None = None) -> list[Gap]:
        """Note that the connection is gone; the first reason stands until a message comes.

        Args:
            kind: how it went.
            now_us: when that was noticed.
            behind_since_us: when messages were last read as soon as they came, if not lately.
        """
        if self._outage is not None:
            return []
        started_us = now_us if self.last_message_us is None else self.last_message_us
        if behind_since_us is not None:
            started_us = min(started_us, behind_since_us)
        self._outage = self._gap(kind, started_us, now_us)
        return [self._outage]

    def dropped(self, received_us: int, behind_since_us: int | None = None) -> list[Gap]:
        """Note a frame that could not be read: a gap since the message before it.

        Args:
            received_us: when it was read.
            behind_since_us: when messages were last read as soon as they came, if not lately.
        """
        started_us = received_us if self.last_message_us is None else self.last_message_us
        if behind_since_us is not None:
            started_us = min(started_us, behind_since_us)
        gap = self._gap(GapKind.DROPPED, started_us, received_us)
        return [replace(gap, ended_us=received_us)]

    def heard(self, received_us: int, monotonic_s: float, symbols: Iterable[str]) -> list[Gap]:
        """Note a message, with the symbols of its trades."""
        self.last_message_us = received_us
        if self._trades is None:
            # From now on trades can be overdue, also of a symbol that never has one.
            self._trades = _Activity(received_us, monotonic_s)
            self._by_symbol = dict.fromkeys(self._blank.symbols, self._trades)
        ended, self._outage = [self._outage], None
        traded = set(symbols)
        if traded:
            ended.append(self._idle)
            self._idle = None
            is_usual = not any(ended)
            self._trades = self._trades.moved_on(received_us, monotonic_s, is_usual=is_usual)
            for symbol in traded:
                ended.append(self._silent.pop(symbol, None))
                before = self._by_symbol.get(symbol, _Activity(received_us, monotonic_s))
                self._by_symbol[symbol] = before.moved_on(
                    received_us, monotonic_s, is_usual=is_usual and ended[-1] is None
                )
        return [
            replace(gap, ended_us=max(received_us, gap.started_us))
            for gap in ended
            if gap is not None
        ]

    def damaged(self, after_us: int, until_us: int) -> list[Gap]:
        """Note that what was received between two times, µs since the epoch, is damaged on disk."""
        gap = self._gap(GapKind.DROPPED, min(after_us, until_us), until_us)
        return [replace(gap, ended_us=until_us)]

    def check(self, now_us: int, monotonic_s: float) -> list[Gap]:
        """Look at what has not come."""
        if self._trades is None or self._outage is not None or self._idle is not None:
            return []
        trading = self._trading_at(now_us, monotonic_s)
        if trading and self._trades.is_overdue(monotonic_s, self._idle_timeout_s):
            self._idle = self._gap(GapKind.IDLE, self._trades.at_us, now_us)
            return [self._idle]
        if monotonic_s - self._trades.at_s > _OTHERS_TRADE_S:
            return []
        found = []
        for symbol in trading:
            activity = self._by_symbol[symbol]
            if symbol in self._silent or not activity.is_overdue(
                monotonic_s, self._symbol_silence_s
            ):
                continue
            gap = self._gap(GapKind.SYMBOL_SILENT, activity.at_us, now_us)
            self._silent[symbol] = replace(gap, symbols=(symbol,))
            found.append(self._silent[symbol])
        return found

    def _trading_at(self, now_us: int, monotonic_s: float) -> list[str]:
        """Return the symbols whose market is open; while one is closed it misses nothing."""
        now = datetime.fromtimestamp(now_us / 1_000_000, timezone.utc)
        trading = []
        for symbol, activity in self._by_symbol.items():
            if session_at(symbol, now) in _TRADING:
                trading.append(symbol)
            else:
                self._by_symbol[symbol] = activity._replace(at_us=now_us, at_s=monotonic_s)
        if not trading and self._trades is not None:
            self._trades = self._trades._replace(at_us=now_us, at_s=monotonic_s)
        return trading

    def _gap(self, kind: GapKind, started_us: int, now_us: int) -> Gap:
        return replace(self._blank, kind=kind, started_us=started_us, detected_us=now_us)


class _Activity(NamedTuple):
    """When something last came, on both clocks, and the usual pause between two of them."""

    at_us: int
    at_s: float
    usual_pause_s: float = 0.0

    def is_overdue(self, monotonic_s: float, timeout_s: float) -> bool:
        """Tell whether it is later than usual, and than the time-out."""
        return monotonic_s - self.at_s > max(timeout_s, _OVERDUE_FACTOR * self.usual_pause_s)

    def moved_on(self, at_us: int, at_s: float, *, is_usual: bool) -> _Activity:
        """Return the same a message later; a pause that was a gap is no usual one."""
        usual_s = self.usual_pause_s
        if is_usual:
            usual_s += _PAUSE_WEIGHT * (at_s - self.at_s - usual_s)
        return _Activity(at_us, at_s, usual_s)


def end_of(gap: Gap, gaps: Iterable[Gap]) -> int | None:
    """Return a gap's end; one that a stopped producer left open ends with its next life's gap.

    Args:
        gap: of one producer.
        gaps: all of the same producer.
    """
    if gap.ended_us is not None:
        return gap.ended_us
    later = (g.ended_us for g in gaps if g.started_us >= gap.started_us and g.ended_us is not None)
    return min(later, default=None)


def ends_of(gaps: Sequence[Gap]) -> list[tuple[Gap, int | None]]:
    """Return the gaps of one producer, each with its end as `end_of` tells it."""
    found: list[tuple[Gap, int | None]] = []
    next_end: int | None = None
    newest_first = sorted(gaps, key=lambda gap: gap.started_us, reverse=True)
    for _, together in groupby(newest_first, key=lambda gap: gap.started_us):
        some = list(together)
        ends = [e for e in (next_end, *(gap.ended_us for gap in some)) if e is not None]
        next_end = min(ends, default=None)
        found += [(gap, next_end if gap.ended_us is None else gap.ended_us) for gap in some]
    return found


def ends_of_all(gaps: Iterable[Gap]) -> Iterator[tuple[Gap, int | None]]:
    """Yield the gaps of several producers, each with its end as `end_of` tells it."""
    by_producer: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        by_producer[gap.producer_id].append(gap)
    for some in by_producer.values():
        yield from ends_of(some)


def joined(spans: Iterable[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """Return spans of time in their order, those that touch or overlap as one.

    Args:
        spans: start and end of each; None is `EVER`.
    """
    found: list[tuple[int, int]] = []
    for start, end in sorted((start, EVER if end is None else end) for start, end in spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found
