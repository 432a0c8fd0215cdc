"""Read bars into Arrow: what `tapeline bars` prints and `read_bars` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal
from pathlib import Path
from typing import Final

import pyarrow as pa

from tapeline.local.keyspace import open_keyspace
from tapeline.model.bar import Bar, Interval
from tapeline.model.longer_windows import part_of
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import Gaps, carried, roll_up_bars
from tapeline.model.rules import Rules
from tapeline.model.sessions import whole_day
from tapeline.model.splits import NO_SPLITS, Splits, adjusted
from tapeline.model.threshold import Length, Threshold, parse_length
from tapeline.model.times import within_reach
from tapeline.program.settings import Settings, load_settings
from tapeline.program.split_file import read_splits
from tapeline.read.gaps import gaps_between
from tapeline.read.sources import require_sources, sources_of
from tapeline.read.threshold_bars import threshold_bars
from tapeline.storage.cassandra_client import CassandraClient

_TIME: Final = pa.timestamp("ms", tz="UTC")
_EXACT: Final = pa.decimal128(38, 10)
_QUANTUM: Final = Decimal("1e-10")
_DIGITS: Final = Context(prec=38)
_DAY: Final = timedelta(days=1)


_PRICE: Final = pa.float64()
_COLUMNS: Final = {
    "symbol": pa.string(),
    "window_start": _TIME,
    "window_end": _TIME,
    "open": _PRICE,
    "high": _PRICE,
    "low": _PRICE,
    "close": _PRICE,
    "volume": _EXACT,
    "vwap": _PRICE,
    "trade_count": pa.int64(),
    "is_final": pa.bool_(),
    "revision": pa.int32(),
    "is_complete": pa.bool_(),
    "session": pa.string(),
}
_DETAILS: Final = {
    "notional": _EXACT,
    "unpriced_count": pa.int64(),
    "unpriced_volume": _EXACT,
    "first_trade_time": _TIME,
    "last_trade_time": _TIME,
    "first_received_at": _TIME,
    "asset_class": pa.string(),
    "policy": pa.string(),
    "reason": pa.string(),
    "updated_at": _TIME,
}

StoredBars = Callable[[str, Interval, datetime, datetime], Iterator[Bar]]
"""Yields the stored bars of a symbol and interval with start <= window_start < end."""


def bars_schema(*, exact: bool, detail: bool = False) -> pa.Schema:
    """Return the columns of bars; amounts are decimals when `exact`, else doubles."""
    columns = {**_COLUMNS, **(_DETAILS if detail else {})}
    return pa.schema(
        [(n, pa.float64() if t == _EXACT and not exact else t) for n, t in columns.items()]
    )


def read_bars(
    symbols: str | Sequence[str],
    interval: str,
    start: datetime,
    end: datetime,
    *,
    keyspace: str | None = None,
    exact: bool = False,
    detail: bool = False,
    session: str | None = None,
    splits: str | Path | None = None,
    sources: bool = False,
    settings: Settings | None = None,
) -> pa.Table:
    """Return bars as an Arrow table; `.to_pandas()` or `polars.from_arrow()` go on from there.

    Args:
        symbols: one symbol or several, in the feed's names; one that is repeated counts once.
        interval: `5m` and `1h` are stored; any multiple of five minutes that divides a day is
            made of them, e.g. `15m`, `4h`, or `1d` (a share's regular hours or what the policy
            says, else UTC days).
            `1m` and its other multiples are there when setting `stream.store_1m` is on.
            `1000tick`, `50000volume` and `1000000dollar` are made of silver's trades, while these
            are kept: a bar ends with the trade that fills it, and begins anew with each session and
            UTC day.
        start: first window start, aware.
        end: window starts are below this, aware.
        keyspace: market_data by default.
        exact: volumes and notionals as decimals instead of floats.
        detail: all columns of a bar.
        session: only trades of that session, e.g. `regular`; longer bars are made of those alone.
        splits: a CSV file of splits, for which prices and volumes of the time before are adjusted.
        sources: a column `sources` more: where the trades of a bar came from, e.g. `coinbase=70
            coinbase:backfill=2`, null once silver has begun to lose them. Each bar's trades are
            read for it.
        settings: instead of those from the environment.

    Returns:
        One row a bar, by symbol in the order given and then by time; an empty result keeps
        its columns.

    Raises:
        ValueError: the interval or the session is unknown, no bars can be of both, sources are not
            told of such bars, or a time has no zone.
        UsageError: the file of splits is not valid, or bars by trades are made by a file of rules
            that the settings do not name.
        ExpiredError: silver no longer has the trades of the bars.
        ServiceUnavailableError: Cassandra does not answer.
        SchemaError: the keyspace is not there.
    """
    if start.tzinfo is None or end.tzinfo is None:
        message = "start and end need a time zone, e.g. datetime(…, tzinfo=timezone.utc)."
        raise ValueError(message)
    start, end = within_reach(start), within_reach(end)
    length = parse_length(interval)
    length = length if session is None else length.of_session(session)
    if sources:
        require_sources(length)
    now = datetime.now(timezone.utc)
    known = NO_SPLITS if splits is None else read_splits(splits, now)
    wanted = dict.fromkeys([symbols] if isinstance(symbols, str) else symbols)
    settings = (settings or load_settings()).with_target(keyspace=keyspace)
    with open_keyspace(settings) as client:
        bars = [
            bar
            for symbol in wanted
            for bar in any_bars(client, symbol, length, start, end, settings.stream.policy, known)
        ]
        came_from = [sources_of(client, bar, now) for bar in bars if sources]
    table = bars_table(bars, exact=exact, detail=detail)
    return table.append_column("sources", pa.array(came_from, pa.string())) if sources else table


def any_bars(
    client: CassandraClient,
    symbol: str,
    length: Length,
    start: datetime,
    end: datetime,
    known: Rules,
    splits: Splits = NO_SPLITS,
) -> Iterator[Bar]:
    """Yield bars that begin at start <= time < end, in their order, whatever ends them.

    Arguments and errors as in `threshold_bars`.
    """
    if isinstance(length, Threshold):
        return threshold_bars(client, symbol, length, start, end, known, splits)
    if symbol not in splits.times_of:
        return bars_between(client, symbol, length, start, end)

    def stored_bars(symbol: str, stored: Interval, start: datetime, end: datetime) -> Iterator[Bar]:
        # Splits are at full hours, and so between two stored bars.
        for bar in client.bars(symbol, stored, start, end):
            yield adjusted(bar, splits.factor_at(symbol, bar.window_start))

    return bars_between(client, symbol, length, start, end, stored_bars)


def bars_between(
    client: CassandraClient,
    symbol: str,
    length: ReadInterval,
    start: datetime,
    end: datetime,
    stored_bars: StoredBars | None = None,
) -> Iterator[Bar]:
    """Yield bars of any length with start <= window_start < end, in order of time.

    Args:
        client: of the keyspace.
        symbol: in the feed's name.
        length: of the bars.
        start: aware.
        end: aware.
        stored_bars: reads the stored bars that they are made of, instead of the client.
    """
    before: list[Bar] | None = None
    gaps: Gaps | None = None
    for bar in bars_of_trades(client, symbol, length, start, end, stored_bars):
        if not client.reading_rules(bar.policy).carry_open:
            yield bar
        else:
            if before is None:
                before = bars_before(client, symbol, length, bar.window_start, stored_bars)
            parts = [*before, bar]
            if gaps is None:
                gaps = gaps_between(client, parts[0].window_start, end + length.duration)
            yield carried(parts, length, gaps) if before else bar
        if bar.close is not None:
            before = [bar]
        elif before:
            before.append(bar)


def bars_before(
    client: CassandraClient,
    symbol: str,
    length: ReadInterval,
    end: datetime,
    stored_bars: StoredBars | None = None,
) -> list[Bar]:
    """Return bars as their trades alone give them, up to a time from the last with a close on.

    An empty list if no bar has a close; arguments as in `bars_between`.
    """
    parts = (
        part_of(bar, length, client.reading_rules(bar.policy))
        for bar in length.of_wanted(client.bars_before(symbol, length.stored, end))
    )
    starts = (p[0][0] for p in parts if p and p[1].close is not None and p[0][0] < end)
    # Open bars are of the last hours, and perhaps not stored yet.
    start = next(starts, end - _DAY)
    found = list(bars_of_trades(client, symbol, length, start, end, stored_bars))
    with_close = [number for number, bar in enumerate(found) if bar.close is not None]
    return found[with_close[-1] :] if with_close else []


def bars_of_trades(
    client: CassandraClient,
    symbol: str,
    length: ReadInterval,
    start: datetime,
    end: datetime,
    stored_bars: StoredBars | None = None,
) -> Iterator[Bar]:
    """Yield bars as their trades alone give them: `bars_between` without the close before them."""
    read = stored_bars or client.bars
    if length.is_stored:
        yield from length.of_wanted(read(symbol, length.stored, start, end))
        return
    # A longer bar that starts before the end goes on after it.
    last = end + length.duration
    # Before the bars: one that is finalized meanwhile is not final yet, instead of too early.
    final_until = client.final_until()
    first = _first_part(client, symbol, length, start)
    stored = length.of_wanted(read(symbol, length.stored, first, last))
    gaps = gaps_between(client, first, last)
    for bar in roll_up_bars(stored, length, final_until, gaps, client.reading_rules):
        if start <= bar.window_start < end:
            yield bar


def _first_part(
    client: CassandraClient, symbol: str, length: ReadInterval, start: datetime
) -> datetime:
    """Return when the first trades can be of bars that start at a time, or later."""
    whole = whole_day(symbol, start) if length.is_day and length.session is None else None
    is_wide = whole is not None and client.reads_by_rules().all_day
    return min(start, whole[0]) if whole is not None and is_wide else start


def known_symbols(keyspace: str | None = None, *, settings: Settings | None = None) -> set[str]:
    """Return the symbols that have bars; arguments and errors as in `read_bars`."""
    with open_keyspace((settings or load_settings()).with_target(keyspace=keyspace)) as client:
        return client.symbols()


def bars_table(bars: Sequence[Bar], *, exact: bool, detail: bool = False) -> pa.Table:
    """Return bars as an Arrow table with the columns of `bars_schema`."""
    schema = bars_schema(exact=exact, detail=detail)
    columns = {name: [getattr(b, name) for b in bars] for name in schema.names}
    convert = (lambda v: v.quantize(_QUANTUM, context=_DIGITS)) if exact else float
    for name in columns.keys() & {"volume", "notional", "unpriced_volume"}:
        columns[name] = [convert(v) for v in columns[name]]
    return pa.table(columns, schema=schema)
