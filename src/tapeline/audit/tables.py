"""Trades as Arrow tables, with the columns that bronze's messages and silver's rows share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.difference import TradeRef
from tapeline.audit.engine import query
from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import from_millis

TRADES: Final = pa.schema(
    {
        "symbol": pa.string(),
        "bucket_ms": pa.int64(),
        "event_time_ms": pa.int64(),
        "trade_id": pa.int64(),
        "price": pa.float64(),
        "volume": pa.float64(),
        "conditions": pa.string(),
        "sequence": pa.int64(),
        "received_at_ms": pa.int64(),
        "source": pa.string(),
    }
)
"""A trade, as a row of silver. Times are ms since the Unix epoch; `bucket_ms` is the start of its
5-minute window; `conditions` is one text (see `conditions_texts`), null where there are none."""

COPIES: Final = pa.schema(
    [
        *TRADES,
        ("topic_id", pa.string()),
        ("kafka_partition", pa.int64()),
        ("kafka_offset", pa.int64()),
    ]
)
"""A trade that a message of bronze holds: one of its copies, with where Kafka had it."""

TRADE_KEYS: Final = pa.schema(
    [TRADES.field(name) for name in ("symbol", "bucket_ms", "event_time_ms", "trade_id")]
)
"""What names a trade: the primary key of silver."""

WINDOWS: Final = pa.schema([TRADES.field("symbol"), TRADES.field("bucket_ms")])
"""What names a window."""

BUCKET_MS: Final = Interval.FIVE_MINUTES.duration // timedelta(milliseconds=1)

_SEPARATOR: Final = "\x1f"


def table_of(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return rows, each with the columns of a schema in their order, as a table."""
    return pa.table(list(zip(*rows, strict=True)) or [()] * len(schema), schema=schema)


def windows_table(windows: Iterable[tuple[str, int]]) -> pa.Table:
    """Return (symbol, bucket_ms) pairs as a table, each of them once."""
    return query("SELECT DISTINCT * FROM windows", windows=table_of(WINDOWS, list(windows)))


def window_rows(windows: pa.Table) -> list[tuple[str, int]]:
    """Return the (symbol, bucket_ms) pairs of a table."""
    columns = (windows[name].to_pylist() for name in WINDOWS.names)
    return list(zip(*columns, strict=True))


def conditions_texts(lists: Iterable[Sequence[str] | None]) -> list[str | None]:
    """Return lists of condition ids as one text each; none and an empty list are the same."""
    return [_SEPARATOR.join(ids) if ids else None for ids in lists]


def conditions_of(text: str | None) -> list[str]:
    """Return the ids in such a text."""
    return [] if text is None else text.split(_SEPARATOR)


def window_key(symbol: str, bucket_ms: int) -> WindowKey:
    """Return a window as readers of bars name it."""
    return symbol, from_millis(bucket_ms)


def trade_ref(event_time_ms: int, trade_id: int) -> TradeRef:
    """Return a trade as a difference names it."""
    return TradeRef(event_time=from_millis(event_time_ms), trade_id=trade_id)


def is_gone(received_ms: int | None, gone_ms: int | None) -> bool:
    """Return whether a row may have expired: what was received until `gone_ms` may have."""
    return received_ms is not None and gone_ms is not None and received_ms <= gone_ms
