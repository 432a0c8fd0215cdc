"""The plain consumer's tables: their columns, and which of them are times."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

Row = list[Any]
"""Values in the order of the table's columns; times in ms."""
Groups = list[list[Row]]
"""Rows by partition: each inner list shares a partition key."""

_GOLD: Final = (
    *("symbol", "period", "window_start", "window_end", "open", "high", "low", "close"),
    *("volume", "notional", "vwap", "trade_count", "unpriced_count", "unpriced_volume"),
    *("first_trade_time", "last_trade_time", "first_received_at", "is_final", "updated_at"),
)
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "trades_bronze": (
        *("kafka_partition", "bucket", "kafka_offset", "kafka_timestamp", "message"),
    ),
    "trades_silver": (
        *("symbol", "bucket", "event_time", "trade_id", "price", "volume", "conditions"),
        *("sequence", "received_at", "source"),
    ),
    "trades_gold_5m": _GOLD,
    "trades_gold_1h": _GOLD,
    "ingest_progress": ("topic_id", "kafka_partition", "committed_offset"),
}
_TIMES: Final = {
    *("kafka_timestamp", "bucket", "event_time", "received_at", "window_start", "window_end"),
    *("first_trade_time", "last_trade_time", "first_received_at", "updated_at"),
}


def times_of(table: str) -> tuple[int, ...]:
    """Return the places of the columns that are times."""
    return tuple(
        place
        for place, name in enumerate(COLUMNS[table])
        if name in _TIMES and (table, name) != ("trades_bronze", "bucket")
    )


def insert_into(keyspace: str, table: str) -> str:
    """Return the statement that upserts a row."""
    names = COLUMNS[table]
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {keyspace}.{table} ({', '.join(names)}) VALUES ({marks})"


def schema(keyspace: str) -> list[str]:
    """Return the statements that make the keyspace and its tables."""
    text = Path(__file__).with_name("tables.cql").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("--"))
    statements = "\n".join(lines).format(keyspace=keyspace).split(";")
    return [statement.strip() for statement in statements if statement.strip()]
