"""Pages of bars: no more is read than is sent, whatever range is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from tapeline.api.formats import IS_FINAL, MAY_CHANGE
from tapeline.api.open_bars import Open, OpenBars
from tapeline.api.parameters import TimeSpan
from tapeline.api.store import LONGEST_READ_S
from tapeline.model.bar import Bar
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import floor_to
from tapeline.read.bars import StoredBars, bars_between, bars_schema
from tapeline.storage.bars import FIRST_BARS
from tapeline.storage.cassandra_client import CassandraClient

SCHEMA: Final = bars_schema(exact=True).append(pa.field("is_filled", pa.bool_()))
"""The columns of bars in CSV and Arrow."""

_DAY: Final = timedelta(days=1)
_LONGEST_READ: Final = timedelta(days=366)
_MOST_STORED: Final = 20_000
"""Stored bars that one page is made of, at most."""
_QUANTUM: Final = Decimal("1e-10")
_EXACT: Final = Context(prec=60)
"""The usual 28 digits do not hold a volume of 1e18 with ten places, which the sum may be."""
_FIELDS: Final = tuple(name for name in SCHEMA.names if name != "is_filled")


def bars_of(
    client: CassandraClient,
    symbol: str,
    length: ReadInterval,
    span: TimeSpan,
    limit: int,
    deadline_s: float,
    stored_bars: StoredBars,
) -> Iterator[Bar]:
    """Yield bars in order of time, of which the caller takes `limit` at most.

    Days are read as they are wanted: no length of bars crosses midnight UTC. The first read
    is for as many bars as are wanted; where bars are rare, later ones reach further.

    Raises:
        TimeoutError: the monotonic clock has passed `deadline_s`: nobody waits any more.
    """
    start = max(span.start, FIRST_BARS)
    end = min(span.end, datetime.now(timezone.utc) + _DAY)
    longest = min(_LONGEST_READ, length.stored.duration * _MOST_STORED)
    step = max(_DAY, min(length.duration * limit, longest))
    while start < end:
        if time.monotonic() > deadline_s:
            raise TimeoutError
        until = min(end, floor_to(_DAY, start + step))
        # Bars end with their day, so a read to midnight holds the last one whole.
        yield from bars_between(client, symbol, length, start, until, stored_bars)
        start, step = until, min(step * 2, longest)


def most_bars(length: ReadInterval, limit: int) -> int:
    """Return how many bars a page may hold: longer ones are made of many that are stored."""
    return min(limit, _MOST_STORED * length.stored.duration // length.duration)


def newest(
    client: CassandraClient, symbols: Sequence[str], length: ReadInterval, open_bars: Open
) -> list[Bar]:
    """Return the newest bar of the last week of each symbol that has one."""
    end = datetime.now(timezone.utc) + timedelta(minutes=1)
    bars = OpenBars(client, open_bars)
    if not length.is_stored:
        made = (_newest_made(client, symbol, length, end, bars) for symbol in symbols)
        return [bar for some in made for bar in some]
    start = floor_to(_DAY, end - 7 * _DAY)
    found = {b.symbol: b for b in client.newest_bars(symbols, length.stored, start, end)}
    for symbol in symbols:
        first = bars.newest_of(symbol, length.stored)
        stored = found.get(symbol)
        if first is not None and (stored is None or stored.window_start <= first):
            *_, found[symbol] = bars.read(symbol, length.stored, first, end)
        if symbol in found and client.reading_rules(found[symbol].policy).carry_open:
            at = found[symbol].window_start
            opened = list(bars_between(client, symbol, length, at, end, bars.read))
            found[symbol] = opened[-1] if opened else found[symbol]
    return [found[symbol] for symbol in symbols if symbol in found]


def _newest_made(
    client: CassandraClient, symbol: str, length: ReadInterval, end: datetime, bars: OpenBars
) -> list[Bar]:
    """Return the newest bar that is made of stored ones, looking at the newest day first."""
    for days in (1, 3, 7):
        start = floor_to(_DAY, end - days * _DAY)
        found = list(bars_between(client, symbol, length, start, end, bars.read))
        if found:
            return found[-1:]
    return []


@dataclass(frozen=True, slots=True)
class Page:
    """Bars in their order, the first of those that follow, and up to when all are finalized.

    None is unknown.
    """

    bars: list[Bar]
    following: Bar | None
    final_until: datetime | None


def page_of_symbols(
    client: CassandraClient,
    symbols: Sequence[str],
    length: ReadInterval,
    span: TimeSpan,
    first: tuple[str, datetime] | None,
    limit: int,
    open_bars: Open,
    *,
    tells_finalized: bool = False,
) -> Page:
    """Return up to `limit` bars of several symbols, from (symbol, window start) `first` on.

    Up to when all are finalized is known if the span is closed, or if `tells_finalized`.
    """
    stored_bars = OpenBars(client, open_bars).read
    # Before the bars, so that it is never ahead of them.
    final_until = client.final_until() if span.is_closed or tells_finalized else None
    if final_until is not None and length.is_day and client.reads_by_rules().all_day:
        final_until -= _DAY  # trades made after midnight UTC may count towards a share's day
    deadline_s = time.monotonic() + LONGEST_READ_S
    found: list[Bar] = []
    most = limit + 1
    rest = symbols if first is None else symbols[symbols.index(first[0]) :]
    for symbol in rest:
        wanted = span
        if first is not None and symbol == first[0]:
            wanted = replace(span, start=max(span.start, first[1]))
        lacking = most - len(found)
        bars = bars_of(client, symbol, length, wanted, lacking, deadline_s, stored_bars)
        found += islice(bars, lacking)
        if len(found) == most:
            break
    return Page(found[:limit], found[limit] if len(found) == most else None, final_until)


def row_of(bar: Bar) -> dict[str, Any]:
    """Return a bar as it is sent."""
    row = {name: getattr(bar, name) for name in _FIELDS}
    row["volume"] = bar.volume.quantize(_QUANTUM, context=_EXACT)
    row["is_filled"] = False
    return row


def cache_of(page: Page, length: ReadInterval, span: TimeSpan) -> str:
    """Return how long an answer holds: final bars long, where no new one can come among them."""
    last = floor_to(length.duration, span.end - timedelta(microseconds=1)) + length.duration
    is_finalized = page.final_until is not None and last <= page.final_until
    is_lasting = span.is_closed and is_finalized and all(bar.is_final for bar in page.bars)
    return IS_FINAL if page.bars and is_lasting else MAY_CHANGE
