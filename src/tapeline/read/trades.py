"""Read trades into Arrow: what `read_trades` returns and `tapeline export trades` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

import pyarrow as pa

from tapeline.local.keyspace import open_keyspace
from tapeline.model.times import within_reach
from tapeline.program.settings import Settings, load_settings
from tapeline.storage.cassandra_client import CassandraClient

_TIME: Final = pa.timestamp("ms", tz="UTC")
_EXACT: Final = pa.decimal128(38, 10)
_QUANTUM: Final = Decimal("1e-10")
_DIGITS: Final = Context(prec=38)

_COLUMNS: Final = {
    "symbol": pa.string(),
    "event_time": _TIME,
    "price": pa.float64(),
    "volume": _EXACT,
    "conditions": pa.list_(pa.string()),
    "trade_id": pa.int64(),
    "sequence": pa.int32(),
    "source": pa.string(),
    "received_at": _TIME,
}
_BATCH_ROWS: Final = 50_000


def trades_schema(*, exact: bool) -> pa.Schema:
    """Return the columns of trades; volumes are decimals when `exact`, else doubles."""
    return pa.schema(
        [(n, pa.float64() if t == _EXACT and not exact else t) for n, t in _COLUMNS.items()]
    )


def read_trades(
    symbols: str | Sequence[str],
    start: datetime,
    end: datetime,
    *,
    keyspace: str | None = None,
    exact: bool = False,
    settings: Settings | None = None,
) -> pa.Table:
    """Return trades as an Arrow table; `.to_pandas()` or `polars.from_arrow()` go on from there.

    All of them are held in memory; `tapeline export trades` writes more than fits.

    Args:
        symbols: one symbol or several, in the feed's names; one that is repeated counts once.
        start: first event time, aware.
        end: event times are below this, aware.
        keyspace: market_data by default.
        exact: volumes as decimals, whose sum is the bar's volume, instead of floats.
        settings: instead of those from the environment.

    Returns:
        One row a trade, by symbol in the order given, then by time, then by rank within the
        millisecond; an empty result keeps its columns.

    Raises:
        ValueError: a time has no zone.
        ServiceUnavailableError: Cassandra does not answer.
        SchemaError: the keyspace is not there.
    """
    if start.tzinfo is None or end.tzinfo is None:
        message = "start and end need a time zone, e.g. datetime(…, tzinfo=timezone.utc)."
        raise ValueError(message)
    start, end = within_reach(start), within_reach(end)
    wanted = dict.fromkeys([symbols] if isinstance(symbols, str) else symbols)
    with open_keyspace((settings or load_settings()).with_target(keyspace=keyspace)) as client:
        batches = [b for s in wanted for b in trade_batches(client, s, start, end, exact=exact)]
    return pa.Table.from_batches(batches, trades_schema(exact=exact))


def trade_batches(
    client: CassandraClient, symbol: str, start: datetime, end: datetime, *, exact: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the trades of a symbol with start <= event_time < end, in the order of `read_trades`.

    A batch has some 50,000 rows; no more than a few windows are held beside it.
    """
    rows: list[tuple[Any, ...]] = []
    for found in client.trades_between(symbol, start, end):
        rows += sorted(found, key=_by_time_and_rank)
        if len(rows) >= _BATCH_ROWS:
            yield _batch(symbol, rows, exact=exact)
            rows = []
    if rows:
        yield _batch(symbol, rows, exact=exact)


def _batch(symbol: str, rows: Sequence[tuple[Any, ...]], *, exact: bool) -> pa.RecordBatch:
    times, ids, prices, volumes, conditions, ranks, receipts, sources = list(
        zip(*rows, strict=True)
    )[:8]
    if exact:
        volumes = tuple(
            Decimal(repr(v)).quantize(_QUANTUM, ROUND_HALF_UP, _DIGITS) for v in volumes
        )
    columns = {
        "symbol": [symbol] * len(rows),
        "event_time": times,
        "price": prices,
        "volume": volumes,
        "conditions": conditions,
        "trade_id": ids,
        "sequence": ranks,
        "source": sources,
        "received_at": receipts,
    }
    return pa.RecordBatch.from_pydict(columns, schema=trades_schema(exact=exact))


def _by_time_and_rank(row: tuple[Any, ...]) -> tuple[int, int, int]:
    return row[0], row[5], row[1]
