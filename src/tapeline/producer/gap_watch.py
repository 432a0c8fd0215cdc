"""Notice when the feed has a hole: lost, refused, silent, idle, or a frame that was dropped.

A gap begins at the last message before it and not when it is noticed, earlier by what the feed is
late: trades that were under way then are lost too, and belong to windows that were over. It ends at
the first message after it. Time-outs are measured on a clock that never steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final, NamedTuple

from tapeline.feeds.feed import IdHole
from tapeline.model.gap import Gap, GapKind
from tapeline.model.sessions import Session, session_at

_TRADING: Final = frozenset({Session.REGULAR, Session.CONTINUOUS})
"""Trades are expected in these; of a venue whose hours are not known nobody can say."""
_OVERDUE_FACTOR: Final = 20.0
"""Trades are overdue after so many times their usual pause."""
_PAUSE_WEIGHT: Final = 0.05
"""How much the newest pause counts for the usual one."""
_OTHERS_TRADE_S: Final = 60.0
_MOST_SKIPPED: Final = 10_000
_MOST_SILENCES: Final = 100_000
_US_PER_MS: Final = 1000


class GapWatch:
    """Turns what a producer hears, and does not hear, into gaps.

    Each method returns the gaps that have begun or ended, to be reported at once.

    Args:
        blank: a gap with the producer's names and symbols, to be filled in.
        idle_timeout_s: the least time without trades that counts as idle.
        symbol_silence_s: how long a symbol may have no trade while others have.
        last_message_us: when this producer last heard something, in a previous run.
        started_us: when it first did, over all its runs.
        late_us: how late its trades were in a previous run.
    """

    def __init__(
        self,
        blank: Gap,
        idle_timeout_s: float,
        symbol_silence_s: float,
        last_message_us: int | None,
        started_us: int | None = None,
        late_us: int = 0,
    ) -> None:
        self._blank = blank
        self._idle_timeout_s = idle_timeout_s
        self._symbol_silence_s = symbol_silence_s
        self.last_message_us = last_message_us
        """When the newest message came, µs since the epoch."""
        self.started_us = started_us
        """When the first one came, over all runs of this producer."""
        self.late_us = late_us
        """How long after their event time trades come, µs."""
        self._trades: _Activity | None = None
        self._by_symbol: dict[str, _Activity] = {}
        self._outage: Gap | None = None
        self._lasting: list[Gap] = []
        """Those that an earlier life of this producer left open."""
        self._idle: Gap | None = None
        self._silent: dict[str, Gap] = {}
        self._silences: dict[int, int] = {}
        """Beginnings of such gaps, and where to look for the next that is free, µs."""
        self._skipped: dict[int, Gap] = {}

    @property
    def topic_id(self) -> str:
        """The id of the trades' topic."""
        return self._blank.topic_id

    @property
    def is_open(self) -> bool:
        """Whether a gap lasts that marks bars."""
        return self._outage is not None or self._idle is not None

    def goes_on_from(self, lasting: Iterable[Gap], over: Iterable[Gap]) -> None:
        """Take the gaps of earlier lives: what lasts ends with the first message of this one.

        Args:
            lasting: those that were left open.
            over: others; what is skipped in this life may begin with one of them.
        """
        self._lasting = list(lasting)
        skipped = (gap for gap in over if gap.kind is GapKind.SKIPPED)
        self._skipped = {
            gap.started_us: replace(gap, healed=(), healed_us=None, healed_offsets={})
            for gap in skipped
        }

    def started(self, now_us: int) -> list[Gap]:
        """Note that the producer runs, perhaps after a previous run."""
        return [] if self.last_message_us is None else self.on_disconnect(GapKind.STOPPED, now_us)

    def on_disconnect(
        self, kind: GapKind, now_us: int, behind_since_us: int | None = None
    ) -> list[Gap]:
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

    def on_message(self, received_us: int, monotonic_s: float, symbols: Iterable[str]) -> list[Gap]:
        """Note a message, with the symbols of its trades."""
        self.last_message_us = received_us
        self.started_us = received_us if self.started_us is None else self.started_us
        if self._trades is None:
            # From now on trades can be overdue, also of a symbol that never has one.
            self._trades = _Activity(received_us, monotonic_s)
            self._by_symbol = dict.fromkeys(self._blank.symbols, self._trades)
        # Of two lives between which nothing came, the gaps have one key: the newer one counts.
        ended, self._lasting = [*self._lasting, self._outage], []
        self._outage = None
        traded = set(symbols)
        if traded:
            ended.append(self._idle)
            self._idle = None
            is_usual = not any(ended)
            self._trades = self._trades.moved_on(received_us, monotonic_s, is_usual=is_usual)
            for symbol in traded:
                ended.append(self._silent.pop(symbol, None))
                before = self._by_symbol.get(symbol)
                if before is not None:  # else it is no longer asked for
                    self._by_symbol[symbol] = before.moved_on(
                        received_us, monotonic_s, is_usual=is_usual and ended[-1] is None
                    )
        return [
            replace(gap, ended_us=max(received_us, gap.started_us))
            for gap in ended
            if gap is not None
        ]

    def subscribed(self, symbols: tuple[str, ...], now_us: int, monotonic_s: float) -> list[Gap]:
        """Note that these symbols are asked for from now on: others have nothing more to miss."""
        self._blank = replace(self._blank, symbols=symbols)
        if self._trades is not None:
            fresh = _Activity(now_us, monotonic_s)
            self._by_symbol = {s: self._by_symbol.get(s, fresh) for s in symbols}
        gone = [gap for symbol, gap in self._silent.items() if symbol not in symbols]
        self._silent = {s: gap for s, gap in self._silent.items() if s in symbols}
        return [replace(gap, ended_us=max(now_us, gap.started_us)) for gap in gone]

    def skipped(self, hole: IdHole, now_us: int) -> list[Gap]:
        """Note that trades of a symbol are missing between two others.

        Several of one beginning are one gap, since gaps are told apart by it.
        """
        blank = replace(self._blank, symbols=(), ended_us=hole.ended_us)
        known = self._skipped.get(hole.started_us, blank)
        gap = replace(
            known,
            kind=GapKind.SKIPPED,
            symbols=tuple(sorted({*known.symbols, hole.symbol})),
            started_us=hole.started_us,
            ended_us=max(known.ended_us or 0, hole.ended_us),
            detected_us=now_us,
        )
        self._skipped[hole.started_us] = gap
        if len(self._skipped) > _MOST_SKIPPED:
            del self._skipped[next(iter(self._skipped))]
        return [gap]

    def damaged(self, after_us: int, until_us: int) -> list[Gap]:
        """Note that what was received between two times, µs since the epoch, is damaged on disk."""
        gap = self._gap(GapKind.DROPPED, min(after_us, until_us), until_us)
        return [replace(gap, ended_us=until_us)]

    def check(self, now_us: int, monotonic_s: float) -> list[Gap]:
        """Look at what has not come."""
        if self._trades is None or self._outage is not None:
            return []
        if self._idle is not None:
            return self._over_at_close(self._idle, now_us, monotonic_s)
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
            started_us = self._own_beginning(gap.started_us)
            self._silent[symbol] = replace(gap, symbols=(symbol,), started_us=started_us)
            found.append(self._silent[symbol])
        return found

    def _own_beginning(self, started_us: int) -> int:
        """Return the next whole millisecond at which no symbol's silence began.

        Gaps of a kind are told apart by it, and each symbol's silence has an end of its own.
        """
        first_us = free_us = started_us // _US_PER_MS * _US_PER_MS
        while free_us in self._silences:
            free_us = self._silences[free_us]
        self._silences[free_us] = self._silences[first_us] = free_us + _US_PER_MS
        if len(self._silences) > _MOST_SILENCES:
            del self._silences[next(iter(self._silences))]
        return free_us

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

    def _over_at_close(self, idle: Gap, now_us: int, monotonic_s: float) -> list[Gap]:
        """End an idle time once every market is closed: nothing is missed from then on."""
        now = datetime.fromtimestamp(now_us / 1_000_000, timezone.utc)
        if any(session_at(symbol, now) is not Session.CLOSED for symbol in self._by_symbol):
            return []
        self._idle = None
        self._trading_at(now_us, monotonic_s)
        return [replace(idle, ended_us=max(now_us, idle.started_us))]

    def _gap(self, kind: GapKind, started_us: int, now_us: int) -> Gap:
        return replace(
            self._blank, kind=kind, started_us=started_us - self.late_us, detected_us=now_us
        )


class _Activity(NamedTuple):
    """When something last came, on both clocks, and the usual pause between two of them."""

    at_us: int
    at_s: float
    usual_pause_s: float = 0.0

    def is_overdue(self, monotonic_s: float, timeout_s: float) -> bool:
        """Return whether it is later than usual, and than the time-out."""
        return monotonic_s - self.at_s > max(timeout_s, _OVERDUE_FACTOR * self.usual_pause_s)

    def moved_on(self, at_us: int, at_s: float, *, is_usual: bool) -> _Activity:
        """Return the same a message later; a pause that was a gap is no usual one."""
        usual_s = self.usual_pause_s
        if is_usual:
            usual_s += _PAUSE_WEIGHT * (at_s - self.at_s - usual_s)
        return _Activity(at_us, at_s, usual_s)
