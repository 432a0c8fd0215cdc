"""Read bars into Arrow: what `tapeline bars` prints and `read_bars` returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Context, Decimal
from typing import Final

import pyarrow as pa

from tapeline.bar import Bar, Interval
from tapeline.local.discovery import find_endpoints
from tapeline.settings import Settings, load_settings
from tapeline.storage.cassandra_client import CassandraClient

_TIME: Final = pa.timestamp("ms", tz="UTC")
_EXACT: Final = pa.decimal128(38, 10)
_QUANTUM: Final = Decimal("1e-10")
_DIGITS: Final = Context(prec=38)


def bars_schema(*, exact: bool) -> pa.Schema:
    """Return the columns of bars; the volume is a decimal when `exact`, else a double."""
    price = pa.float64()
    return pa.schema(
        [
            ("symbol", pa.string()),
            ("window_start", _TIME),
            ("window_end", _TIME),
            ("open", price),
            ("high", price),
            ("low", price),
            ("close", price),
            ("volume", _EXACT if exact else pa.float64()),
            ("vwap", price),
            ("trade_count", pa.int64()),
            ("is_final", pa.bool_()),
            ("revision", pa.int32()),
        ]
    )


def read_bars(
    symbols: str | Sequence[str],
    interval: str,
    start: datetime,
    end: datetime,
    *,
    keyspace: str | None = None,
    exact: bool = False,
    settings: Settings | None = None,
) -> pa.Table:
    """Return bars as an Arrow table; `.to_pandas()` or `polars.from_arrow()` go on from there.

    Args:
        symbols: one symbol or several, in the feed's names.
        interval: `5m` or `1h`.
        start: first window start, aware.
        end: window starts are below this, aware.
        keyspace: market_data by default.
        exact: volumes as decimals instead of floats.
        settings: instead of those from the environment.

    Returns:
        One row a bar, by symbol in the order given and then by time; an empty result keeps
        its columns.

    Raises:
        ValueError: the interval is unknown, or a time has no zone.
        ServiceUnavailableError: Cassandra does not answer.
        SchemaError: the keyspace is not there.
    """
    if start.tzinfo is None or end.tzinfo is None:
        message = "start and end need a time zone, e.g. datetime(…, tzinfo=timezone.utc)."
        raise ValueError(message)
    length = Interval(interval)
    wanted = [symbols] if isinstance(symbols, str) else symbols
    with _reader(settings, keyspace) as client:
        bars = [b for s in wanted for b in client.bars(s, length, start, end)]
    return bars_table(bars, exact=exact)


def known_symbols(keyspace: str | None = None, *, settings: Settings | None = None) -> set[str]:
    """Return the symbols that have bars; arguments and errors as in `read_bars`."""
    with _reader(settings, keyspace) as client:
        return client.symbols()


@contextmanager
def _reader(settings: Settings | None, keyspace: str | None) -> Iterator[CassandraClient]:
    settings = (settings or load_settings()).with_target(keyspace=keyspace)
    endpoints = find_endpoints(settings)
    with closing(
        CassandraClient(settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    ) as client:
        client.require_schema()
        yield client


def bars_table(bars: Sequence[Bar], *, exact: bool) -> pa.Table:
    """Return bars as an Arrow table with the columns of `bars_schema`."""
    schema = bars_schema(exact=exact)
    columns = {name: [getattr(b, name) for b in bars] for name in schema.names}
    convert = (lambda v: v.quantize(_QUANTUM, context=_DIGITS)) if exact else float
    columns["volume"] = [convert(v) for v in columns["volume"]]
    return pa.table(columns, schema=schema)
