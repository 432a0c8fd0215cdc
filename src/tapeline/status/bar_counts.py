"""How many bars there are of some symbols, and in which state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tapeline.storage.cassandra_client import CassandraClient


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
    """Count the five-minute bars with start <= window_start < end."""
    found: set[str] = set()
    final = revised = incomplete = every = 0
    for symbol, is_final, revision, is_complete in client.states_of_bars(symbols, start, end):
        found.add(symbol)
        every += 1
        final += bool(is_final)
        revised += (revision or 0) > 1
        incomplete += is_complete is False
    return BarCounts(len(found), final, every - final, revised, incomplete)
