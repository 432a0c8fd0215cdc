"""Trades as Polars frames: the columns that bronze's messages and silver's rows share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import polars as pl

from tapeline.audit.difference import TradeRef
from tapeline.bar import Interval, WindowKey
from tapeline.times import from_millis

TRADES: Final[dict[str, pl.DataType]] = {
    "symbol": pl.String(),
    "bucket_ms": pl.Int64(),
    "event_time_ms": pl.Int64(),
    "trade_id": pl.Int64(),
    "price": pl.Float64(),
    "volume": pl.Float64(),
    "conditions": pl.String(),
    "sequence": pl.Int64(),
    "received_at_ms": pl.Int64(),
    "source": pl.String(),
    "topic_id": pl.String(),
    "kafka_partition": pl.Int64(),
    "kafka_offset": pl.Int64(),
}
"""A trade. Times are ms since the Unix epoch; `bucket_ms` is the start of its 5-minute window;
`conditions` is one text (see `conditions_texts`), null where there are none."""

WINDOW: Final = ("symbol", "bucket_ms")
"""What names a window."""
TRADE: Final = (*WINDOW, "event_time_ms", "trade_id")
"""What names a trade: the primary key of silver."""

BUCKET_MS: Final = Interval.FIVE_MINUTES.duration // timedelta(milliseconds=1)

_SEPARATOR: Final = "\x1f"


def trades_frame(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Return rows, each with the columns of TRADES in their order, as a frame."""
    columns = list(zip(*rows, strict=True)) or [() for _ in TRADES]
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype)
            for (name, dtype), values in zip(TRADES.items(), columns, strict=True)
        ]
    )


def windows_frame(windows: Iterable[tuple[str, int]]) -> pl.DataFrame:
    """Return (symbol, bucket_ms) pairs as a frame."""
    return pl.DataFrame(
        list(windows), {name: TRADES[name] for name in WINDOW}, orient="row"
    ).unique()


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
    """Tell whether a row may have expired: what was received until `gone_ms` may have."""
    return received_ms is not None and gone_ms is not None and received_ms <= gone_ms


def newer_trades(silver: pl.DataFrame, committed: Mapping[tuple[str, int], int]) -> pl.DataFrame:
    """Return the rows of silver above the committed offset of their (topic_id, partition)."""
    ends = pl.DataFrame(
        [(topic_id, partition, offset) for (topic_id, partition), offset in committed.items()],
        {"topic_id": pl.String, "kafka_partition": pl.Int64, "committed": pl.Int64},
        orient="row",
    )
    known = silver.join(ends, on=["topic_id", "kafka_partition"])
    return known.filter(pl.col("kafka_offset") > pl.col("committed")).drop("committed")
