"""Trades as Arrow tables, asked in SQL in this process, and on disk where they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.audit.findings import TradeRef
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

BUCKET_MS: Final = Interval.FIVE_MINUTES.ms

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


_SETTINGS: Final[dict[str, str | bool | int]] = {
    # All that is asked for is in the package: nothing is to be looked for on the network.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A name in a query is one of the given tables, never a variable of the caller.
    "python_enable_replacements": False,
    "memory_limit": "1GB",
    # A table here has 100,000 rows or so: sharing that out costs more than it saves.
    "threads": 1,
}


def query(sql: str, **tables: pa.Table) -> pa.Table:
    """Return the rows of a query over tables, in any order unless it names one.

    Args:
        sql: the query, a constant; it calls tables by their names. Values come in tables too.
        tables: what it reads.
    """
    engine = _engine()
    for name, table in tables.items():
        engine.register(name, table)
    try:
        return engine.sql(sql).to_arrow_table()
    finally:
        for name in tables:
            engine.unregister(name)


@lru_cache
def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={**_SETTINGS, "temp_directory": tempfile.gettempdir()})


_ROWS_OF_A_PART: Final = 250_000
_MOST_PARTS: Final = 256
_NUMBERED: Final = """
    SELECT windows.*, CAST(hash(symbol, bucket_ms) % parts AS BIGINT) AS part
    FROM windows, number ORDER BY part
"""


class Spill:
    """Files of trades in a folder; all trades of a window are in the same one.

    They are written first, closed, and read afterwards.

    Args:
        folder: where the files go; whoever made it removes it.
        rows: about how many rows are to come.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.parts = range(min(_MOST_PARTS, rows // _ROWS_OF_A_PART + 1))
        self._folder = folder
        self._writers: dict[int, Any] = {}

    def close(self) -> None:
        """End the files: they can be read now, and written no more."""
        for writer in self._writers.values():
            writer.close()

    def add(self, trades: pa.Table) -> None:
        """Write trades, columns as COPIES."""
        for part, rows in self.split(trades):
            if part not in self._writers:
                self._writers[part] = pa.ipc.new_stream(str(self._path(part)), COPIES)
            self._writers[part].write_table(rows)

    def read(self, part: int) -> pa.Table:
        """Return the trades of one part."""
        path = self._path(part)
        if not path.exists():
            return COPIES.empty_table()
        with pa.ipc.open_stream(str(path)) as reader:
            return reader.read_all()

    def split(self, windows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows of each part that has any, by the columns that name a window."""
        numbered = query(_NUMBERED, windows=windows, number=pa.table({"parts": [len(self.parts)]}))
        rows, start = numbered.drop_columns("part"), 0
        for found in pc.value_counts(numbered["part"]).to_pylist():  # by first appearance
            yield found["values"], rows.slice(start, found["counts"])
            start += found["counts"]

    def _path(self, part: int) -> Path:
        return self._folder / f"trades-{part}.arrow"
