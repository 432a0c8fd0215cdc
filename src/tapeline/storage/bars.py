"""`trades_gold_*`: bars, of which many are read by few queries and written in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timezone
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeVar

from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.times import as_utc
from tapeline.storage.bar_rows import (
    BAR_FIELDS,
    GOLD_TABLES,
    StoredBar,
    StoredStart,
    bar_of,
    periods,
)
from tapeline.storage.connection import SMALL_AHEAD, Connection

_BAR_COLUMNS: Final = ", ".join(BAR_FIELDS)
_FIELDS_OF: Final = attrgetter(*BAR_FIELDS)
_PARTITIONS_A_QUERY: Final = 25
"""Partitions that one query reads; their node answers for all of them together."""
_STARTS_A_QUERY: Final = 100
_BACK_AT_ONCE: Final = 50
FIRST_BARS: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""No trade is of an earlier time."""
_PERIODS_UNASKED: Final = 36
"""Partitions of one symbol that are read whether or not they are there."""

_Range = tuple[str, datetime, datetime]


class BarTables(Connection):
    """Reads and writes bars."""

    def bars(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> Iterator[Bar]:
        """Yield the bars of a symbol with start <= window_start < end, in order of time."""
        start, end = start.astimezone(timezone.utc), end.astimezone(timezone.utc)
        query = _bars_between(interval)
        for period in self._periods_of(symbol, interval, start, end):
            for row in self.rows(query, (symbol, period, start, end)):
                yield bar_of(row)

    def bars_before(self, symbol: str, interval: Interval, end: datetime) -> Iterator[Bar]:
        """Yield the bars of a symbol with window_start < end, the newest first."""
        query = f"{_bars_between(interval)} ORDER BY window_start DESC LIMIT {_BACK_AT_ONCE}"
        end = end.astimezone(timezone.utc)
        months = list(reversed(list(periods(interval, FIRST_BARS, end))))
        asked = ((symbol, month, FIRST_BARS, end) for month in months)
        for month, rows in zip(months, self.tuples(query, asked, SMALL_AHEAD), strict=True):
            found = list(map(bar_of, rows))
            yield from found
            while len(found) == _BACK_AT_ONCE:
                before = (symbol, month, FIRST_BARS, found[-1].window_start)
                found = list(map(bar_of, self.rows(query, before)))
                yield from found

    def _periods_of(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> Sequence[date]:
        """Return the partitions to read for some time; of a long one, those that are stored."""
        found = list(islice(periods(interval, start, end), _PERIODS_UNASKED + 1))
        if len(found) <= _PERIODS_UNASKED:
            return found
        stored = (period for name, period in self.gold_periods(interval) if name == symbol)
        return sorted(p for p in stored if found[0] <= p <= interval.period_of(end))

    def newest_bars(
        self, symbols: Iterable[str], interval: Interval, start: datetime, end: datetime
    ) -> list[Bar]:
        """Return the newest bar of each symbol that has one with start <= window_start < end."""
        query = _bars_between(interval) + " ORDER BY window_start DESC LIMIT 1"
        found: dict[str, Bar | None] = dict.fromkeys(symbols)
        for period in reversed(list(periods(interval, start, end))):
            lacking = [symbol for symbol, bar in found.items() if bar is None]
            arguments = [(symbol, period, start, end) for symbol in lacking]
            answers = self.tuples(query, arguments, SMALL_AHEAD)
            for symbol, rows in zip(lacking, answers, strict=True):
                found[symbol] = next(map(bar_of, rows), None)
        return [bar for bar in found.values() if bar is not None]

    def bars_of_ranges(self, interval: Interval, ranges: Sequence[_Range]) -> list[list[Bar]]:
        """Return the bars of each (symbol, start, end) that lies in one period, by time."""
        symbols: dict[tuple[datetime, datetime], list[str]] = defaultdict(list)
        for symbol, start, end in ranges:
            symbols[start, end].append(symbol)
        asked = [
            (some, [interval.period_of(start)], start, end)
            for (start, end), names in symbols.items()
            for some in _in_parts(names, _PARTITIONS_A_QUERY)
        ]
        found: dict[_Range, list[Bar]] = {r: [] for r in ranges}
        answers = self.tuples(_bars_of_many(interval), asked)
        for (_, _, start, end), rows in zip(asked, answers, strict=True):
            for row in rows:
                bar = bar_of(row)
                found[bar.symbol, start, end].append(bar)
        return [found[r] for r in ranges]

    def bars_of_symbols(
        self, symbols: Iterable[str], interval: Interval, start: datetime, end: datetime
    ) -> Iterator[Bar]:
        """Yield the bars of many symbols with start <= window_start < end, in few queries."""
        months = list(periods(interval, start, end))
        most = max(1, _PARTITIONS_A_QUERY // len(months))
        asked = ((some, months, start, end) for some in _in_parts(sorted(symbols), most))
        for rows in self.tuples(_bars_of_many(interval), asked, ahead=1):
            yield from map(bar_of, rows)

    def gold_periods(self, interval: Interval) -> Iterator[tuple[str, date]]:
        """Yield (symbol, period) of each partition of gold."""
        for row in self.rows(f"SELECT DISTINCT symbol, period FROM {_table(interval)}"):
            yield row.symbol, row.period.date()

    def symbols(self) -> set[str]:
        """Return every symbol that has a bar; a look at each partition of the table."""
        return {symbol for symbol, _ in self.gold_periods(Interval.FIVE_MINUTES)}

    def stored_starts(self) -> Iterator[StoredStart]:
        """Yield every stored five-minute bar, without its values."""
        interval = Interval.FIVE_MINUTES
        query = (
            f"SELECT symbol, window_start, is_final, policy FROM {_table(interval)} "
            "WHERE symbol = ? AND period = ?"
        )
        for rows in self.tuples(query, self.gold_periods(interval), ahead=1):
            for symbol, start, is_final, policy in rows:
                yield StoredStart(symbol, as_utc(start), bool(is_final), policy)

    def states_of_bars(
        self, symbols: Iterable[str], start: datetime, end: datetime
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (symbol, is_final, revision, is_complete) of bars of five minutes."""
        interval = Interval.FIVE_MINUTES
        query = (
            f"SELECT symbol, is_final, revision, is_complete FROM {_table(interval)} "
            "WHERE symbol = ? AND period = ? AND window_start >= ? AND window_start < ?"
        )
        months = list(periods(interval, start, end))
        keys = ((symbol, month, start, end) for symbol in symbols for month in months)
        for rows in self.tuples(query, keys, SMALL_AHEAD):
            yield from rows

    def stored_bars(
        self, interval: Interval, keys: Sequence[WindowKey]
    ) -> dict[WindowKey, StoredBar]:
        """Return the rows of the given (symbol, window_start) that exist, with write times."""
        query = (
            f"SELECT {_BAR_COLUMNS}, WRITETIME(trade_count) FROM {_table(interval)} "
            "WHERE symbol IN ? AND period = ? AND window_start IN ?"
        )
        wanted = set(keys)
        found: dict[WindowKey, StoredBar] = {}
        for rows in self.tuples(query, list(_in_few_queries(interval, wanted))):
            for row in rows:
                bar = bar_of(row)
                if (bar.symbol, bar.window_start) in wanted:
                    found[bar.symbol, bar.window_start] = StoredBar(bar, row[-1])
        return found

    def write_bars(self, interval: Interval, bars: Iterable[tuple[Bar, int]]) -> None:
        """Upsert whole bars, each with its write time in µs; a null clears what stood there."""
        marks = ", ".join("?" for _ in (*BAR_FIELDS, "period"))
        ttl_s = self._settings.gold_ttl_s
        self.write(
            f"INSERT INTO {_table(interval)} ({_BAR_COLUMNS}, period) "
            f"VALUES ({marks}) USING TIMESTAMP ? AND TTL ?",
            (
                (*_FIELDS_OF(bar), interval.period_of(bar.window_start), write_time_us, ttl_s)
                for bar, write_time_us in bars
            ),
        )


def _in_few_queries(
    interval: Interval, keys: Iterable[WindowKey]
) -> Iterator[tuple[list[str], date, list[datetime]]]:
    """Yield symbols, period and window starts, whose products hold the given keys.

    They may hold others too, so symbols with much the same windows are asked for together.
    """
    by_period: dict[date, dict[str, list[datetime]]] = defaultdict(lambda: defaultdict(list))
    for symbol, start in keys:
        by_period[interval.period_of(start)][symbol].append(start)
    for period, starts_of in by_period.items():
        alike = sorted(starts_of, key=lambda symbol: sorted(starts_of[symbol]))
        for symbols in _in_parts(alike, _PARTITIONS_A_QUERY):
            starts = {start for symbol in symbols for start in starts_of[symbol]}
            for some in _in_parts(sorted(starts), _STARTS_A_QUERY):
                yield symbols, period, some


_T = TypeVar("_T")


def _in_parts(values: Sequence[_T], most: int) -> Iterator[list[_T]]:
    for start in range(0, len(values), most):
        yield list(values[start : start + most])


def _bars_between(interval: Interval) -> str:
    return (
        f"SELECT {_BAR_COLUMNS} FROM {_table(interval)} "
        "WHERE symbol = ? AND period = ? AND window_start >= ? AND window_start < ?"
    )


def _bars_of_many(interval: Interval) -> str:
    return (
        f"SELECT {_BAR_COLUMNS} FROM {_table(interval)} "
        "WHERE symbol IN ? AND period IN ? AND window_start >= ? AND window_start < ?"
    )


def _table(interval: Interval) -> str:
    return f"{{keyspace}}.{GOLD_TABLES[interval]}"
