"""How many bars there are of some symbols, and in which state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from tapeline.model.bar import Interval
from tapeline.storage.bar_rows import periods
from tapeline.storage.cassandra_client import CassandraClient

_SYMBOLS_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class BarCounts:
    """Five-minute bars of a time; `symbols` have one at least."""

    symbols: int
    final: int
    provisional: int
    revised: int
    incomplete: int


def count_bars(
    client: CassandraClient, symbols: Iterable[str], start: datetime, end: datetime
) -> BarCounts:
    """Count the five-minute bars with start <= window_start < end, some symbols at a time."""
    months = list(periods(Interval.FIVE_MINUTES, start, end))
    names = iter(symbols)
    found: set[str] = set()
    final = revised = incomplete = every = 0
    while some := list(islice(names, _SYMBOLS_AT_ONCE)):
        answers = client.run(
            "SELECT symbol, is_final, revision, is_complete FROM {keyspace}.trades_gold_5m "
            "WHERE symbol = ? AND period = ? AND window_start >= ? AND window_start < ?",
            [(symbol, month, start, end) for symbol in some for month in months],
        )
        for row in (row for answer in answers for row in answer):
            found.add(row.symbol)
            every += 1
            final += bool(row.is_final)
            revised += (row.revision or 0) > 1
            incomplete += row.is_complete is False
    return BarCounts(len(found), final, every - final, revised, incomplete)
