"""Notice trades that never came, by the numbers that an exchange gives to those of each symbol.

What came of a symbol is kept as runs of numbers, each without a hole:

    numbers   4 5 6 7     10 11 12         a hole of 8 and 9: two runs
    received  ├─────┤     ├──────┤         8 and 9 fetched: one run from 4 to 12
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from tapeline.feeds.feed import IdHole
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.validation import WireTrade

_MOST_RUNS: Final = 100
"""Of a symbol; the oldest ones are forgotten, and the holes between them stay."""
_MOST_SKIPS: Final = 10_000


class Point(NamedTuple):
    """A trade: its number, and when it was and when it came, ms and µs since the epoch."""

    trade_id: int
    event_ms: int
    received_us: int


@dataclass(slots=True)
class _Run:
    """Trades without a hole between them."""

    first: Point
    last: Point


class IdWatch:
    """The runs of each symbol, over all connections."""

    def __init__(self) -> None:
        self._symbols: frozenset[str] | None = None
        """Those that are subscribed; None for all that come."""
        self._runs: dict[str, list[_Run]] = {}
        self._skips: dict[tuple[str, int], tuple[int, int]] = {}
        """The numbers around what was left out, by symbol and beginning of its gap, µs."""

    @property
    def runs(self) -> dict[str, list[tuple[Point, Point]]]:
        """The ends of the runs of each symbol, as a later watch takes them."""
        return {s: [(run.first, run.last) for run in runs] for s, runs in self._runs.items()}

    def goes_on_from(self, runs: Mapping[str, Sequence[tuple[Point, Point]]]) -> list[IdHole]:
        """Take the runs of an earlier watch for what came before; return the holes between them."""
        self._runs = {s: [_Run(first, last) for first, last in some] for s, some in runs.items()}
        holes = [
            _hole(symbol, before.last, after.first)
            for symbol, some in self._runs.items()
            for before, after in pairwise(some)
        ]
        for hole in holes:
            self._note_skip(hole)
        return holes

    def note(self, trades: Iterable[WireTrade], received_us: int) -> list[IdHole]:
        """Note the trades of a frame; return the holes before them.

        A number that is not above the newest one is of a trade that came again or late.
        """
        holes = []
        for trade in trades:
            is_known = self._symbols is None or trade.symbol in self._symbols
            if trade.trade_id is None or not is_known:
                continue
            point = Point(trade.trade_id, trade.event_time_ms, received_us)
            runs = self._runs.get(trade.symbol)
            if runs is None:
                self._runs[trade.symbol] = [_Run(point, point)]
                continue
            last = runs[-1].last
            if point.trade_id == last.trade_id + 1:
                runs[-1].last = point
            elif point.trade_id > last.trade_id:
                holes.append(_hole(trade.symbol, last, point))
                self._note_skip(holes[-1])
                runs.append(_Run(point, point))
                del runs[:-_MOST_RUNS]
        return holes

    def subscribed(self, symbols: Iterable[str]) -> None:
        """Take notice of these symbols alone; when another one comes back, nothing was left out."""
        self._symbols = frozenset(symbols)
        self._runs = {s: runs for s, runs in self._runs.items() if s in self._symbols}

    def filled(self, hole: IdHole) -> None:
        """Note that what was left out has come by another way."""
        runs = self._runs.get(hole.symbol, [])
        for before, after in pairwise(runs):
            ends = before.last.trade_id, after.first.trade_id
            if ends == (hole.after_id, hole.before_id):
                before.last = after.last
                runs.remove(after)
                return

    def covers(self, symbol: str, gap: Gap) -> bool:
        """Return whether nothing of a symbol is missing in a gap that has ended."""
        if gap.ended_us is None:
            return False
        runs = self._runs.get(symbol, ())
        if gap.kind is GapKind.SKIPPED:
            ids = self._skips.get((symbol, gap.started_us))
            return ids is not None and any(
                run.first.trade_id <= ids[0] and ids[1] <= run.last.trade_id for run in runs
            )
        return any(
            run.first.received_us <= gap.started_us and gap.ended_us <= run.last.received_us
            for run in runs
        )

    def _note_skip(self, hole: IdHole) -> None:
        """Remember the numbers of a gap; holes of one beginning are one gap."""
        key = hole.symbol, hole.started_us
        after_id, before_id = self._skips.get(key, (hole.after_id, hole.before_id))
        self._skips[key] = min(after_id, hole.after_id), max(before_id, hole.before_id)
        if len(self._skips) > _MOST_SKIPS:
            del self._skips[next(iter(self._skips))]


def _hole(symbol: str, after: Point, before: Point) -> IdHole:
    return IdHole(symbol, after.trade_id, before.trade_id, after.event_ms, before.event_ms)
