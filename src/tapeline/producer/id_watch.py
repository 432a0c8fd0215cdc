"""Notice trades that never came, by the numbers that an exchange gives to those of each symbol.

What came of a symbol is kept as runs of numbers, each without a hole:

    numbers   4 5 6 7     10 11 12         a hole of 8 and 9: two runs
    received  ├─────┤     ├──────┤         8 and 9 fetched: one run from 4 to 12
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from tapeline.feeds.feed import IdHole
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.validation import WireTrade

_MOST_RUNS: Final = 100
"""Of a symbol; the oldest ones are forgotten, and the holes between them stay."""


class _Point(NamedTuple):
    """A trade: its number, and when it was and when it came, ms and µs since the epoch."""

    trade_id: int
    event_ms: int
    received_us: int


@dataclass(slots=True)
class _Run:
    """Trades without a hole between them."""

    first: _Point
    last: _Point

    def covers(self, gap: Gap) -> bool:
        """Return whether nothing is missing in a gap that has ended."""
        if gap.kind is GapKind.SKIPPED:
            since_us, until_us = self.first.event_ms * 1000, self.last.event_ms * 1000
        else:
            since_us, until_us = self.first.received_us, self.last.received_us
        return since_us <= gap.started_us and gap.ended_us is not None and until_us >= gap.ended_us


class IdWatch:
    """The runs of each symbol, over all connections."""

    def __init__(self) -> None:
        self._runs: dict[str, list[_Run]] = {}

    @property
    def newest(self) -> dict[str, tuple[int, ...]]:
        """The newest run of each symbol, as a later watch takes it."""
        return {symbol: (*runs[-1].first, *runs[-1].last) for symbol, runs in self._runs.items()}

    def goes_on_from(self, newest: Mapping[str, tuple[int, ...]]) -> None:
        """Take the runs of an earlier watch for what came before."""
        for symbol, run in newest.items():
            self._runs[symbol] = [_Run(_Point(*run[:3]), _Point(*run[3:]))]

    def note(self, trades: Iterable[WireTrade], received_us: int) -> list[IdHole]:
        """Note the trades of a frame; return the holes before them.

        A number that is not above the newest one is of a trade that came again or late.
        """
        holes = []
        for trade in trades:
            if trade.trade_id is None:
                continue
            point = _Point(trade.trade_id, trade.event_time_ms, received_us)
            runs = self._runs.get(trade.symbol)
            if runs is None:
                self._runs[trade.symbol] = [_Run(point, point)]
                continue
            last = runs[-1].last
            if point.trade_id == last.trade_id + 1:
                runs[-1].last = point
            elif point.trade_id > last.trade_id:
                ids, times = (last.trade_id, point.trade_id), (last.event_ms, point.event_ms)
                holes.append(IdHole(trade.symbol, *ids, *times))
                runs.append(_Run(point, point))
                del runs[:-_MOST_RUNS]
        return holes

    def filled(self, hole: IdHole) -> None:
        """Note that what was left out has come by another way."""
        runs = self._runs[hole.symbol]
        for before, after in pairwise(runs):
            ends = before.last.trade_id, after.first.trade_id
            if ends == (hole.after_id, hole.before_id):
                before.last = after.last
                runs.remove(after)
                return

    def covers(self, symbol: str, gap: Gap) -> bool:
        """Return whether nothing of a symbol is missing in a gap that has ended."""
        return any(run.covers(gap) for run in self._runs.get(symbol, ()))
