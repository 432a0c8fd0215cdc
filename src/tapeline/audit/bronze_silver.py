"""Bronze against silver: each trade once, and of its copies the one with the lowest rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.difference import Difference, MessageRef, Pair, text_of
from tapeline.audit.engine import query
from tapeline.audit.tables import is_gone, trade_ref, window_key
from tapeline.model.bar import WindowKey
from tapeline.model.times import from_millis

_trade: Final = itemgetter("symbol", "bucket_ms", "event_time_ms", "trade_id")
_TIES: Final = ("price", "volume", "conditions", "received_at_ms", "source")
"""What copies of one trade and one rank may differ in."""

# A trade whose row equals one of its copies of lowest rank in every column is no suspect.
_SUSPECTS: Final = """
    WITH lowest AS (
        SELECT * FROM bronze QUALIFY sequence =
            min(sequence) OVER (PARTITION BY symbol, bucket_ms, event_time_ms, trade_id)
    ),
    same AS (
        SELECT * EXCLUDE (topic_id, kafka_partition, kafka_offset) FROM lowest
        INTERSECT SELECT * FROM silver
    )
    SELECT * FROM lowest ANTI JOIN same USING (symbol, bucket_ms, event_time_ms, trade_id)
    ORDER BY symbol, bucket_ms, event_time_ms, trade_id, topic_id, kafka_partition, kafka_offset
"""
_THEIR_ROWS: Final = """
    SELECT * FROM silver SEMI JOIN suspects USING (symbol, bucket_ms, event_time_ms, trade_id)
"""
_FROM_NOWHERE: Final = """
    SELECT * FROM silver ANTI JOIN bronze USING (symbol, bucket_ms, event_time_ms, trade_id)
    ORDER BY symbol, bucket_ms, event_time_ms, trade_id
"""

Row = dict[str, Any]


@dataclass(slots=True)
class TradesCompared:
    """The differences of some windows, and the windows some of whose rows have expired."""

    differences: list[Difference] = field(default_factory=list)
    without_bronze: set[WindowKey] = field(default_factory=set)
    without_silver: set[WindowKey] = field(default_factory=set)


def compare_trades(
    bronze: pa.Table,
    silver: pa.Table,
    *,
    bronze_gone_ms: int | None = None,
    silver_gone_ms: int | None = None,
) -> TradesCompared:
    """Compare the valid trades of bronze's messages with the rows of silver, both ways.

    Args:
        bronze: every copy of every trade of some windows, columns as COPIES.
        silver: every row of the same windows, columns as TRADES.
        bronze_gone_ms: bronze may have expired what was received until then; None for never.
        silver_gone_ms: the same of silver.
    """
    found = TradesCompared()
    for copies, row in _suspects(bronze, silver):
        key = window_key(copies[0]["symbol"], copies[0]["bucket_ms"])
        if row is None:
            if _may_be_gone(copies, silver_gone_ms):
                found.without_silver.add(key)
            else:
                found.differences.append(_difference(copies[0], "trade", "in silver", "none"))
        elif row["sequence"] is not None and row["sequence"] < copies[0]["sequence"]:
            # The copy that silver kept is not in bronze.
            if _may_be_gone([row], bronze_gone_ms):
                found.without_bronze.add(key)
            else:
                found.differences.append(_rank_difference(copies[0], row))
        elif row["sequence"] != copies[0]["sequence"]:
            found.differences.append(_rank_difference(copies[0], row))
        else:
            found.differences += _value_differences(copies, row)
    for row in query(_FROM_NOWHERE, silver=silver, bronze=bronze).to_pylist():
        if _may_be_gone([row], bronze_gone_ms):
            found.without_bronze.add(window_key(row["symbol"], row["bucket_ms"]))
        else:
            found.differences.append(_difference(row, "trade", "none in bronze", "in silver"))
    return found


def _suspects(bronze: pa.Table, silver: pa.Table) -> Iterator[tuple[list[Row], Row | None]]:
    """Yield the trades to look at closely: their copies of lowest rank, and silver's row."""
    suspects = query(_SUSPECTS, bronze=bronze, silver=silver)
    if not suspects.num_rows:
        return
    rows = query(_THEIR_ROWS, suspects=suspects, silver=silver).to_pylist()
    by_trade = {_trade(row): row for row in rows}
    for trade, copies in groupby(suspects.to_pylist(), _trade):
        yield list(copies), by_trade.get(trade)


def _may_be_gone(rows: Sequence[Row], gone_ms: int | None) -> bool:
    return any(is_gone(row["received_at_ms"], gone_ms) for row in rows)


def _rank_difference(copy: Row, row: Row) -> Difference:
    return _difference(copy, "sequence", text_of(copy["sequence"]), text_of(row["sequence"]))


def _value_differences(copies: Sequence[Row], row: Row) -> Iterator[Difference]:
    """Yield the fields of a row that no copy has: Cassandra may mix copies of equal rank."""
    for name in _TIES:
        allowed = [copy[name] for copy in copies]
        if row[name] not in allowed:
            expected, found = _text(name, allowed[0]), _text(name, row[name])
            yield _difference(copies[0], name.removesuffix("_ms"), expected, found)


def _text(name: str, value: Any) -> str:
    if value is not None and name == "received_at_ms":
        value = from_millis(value)
    if value is not None and name == "conditions":
        value = value.replace("\x1f", "|")
    return text_of(value)


def _difference(row: Row, what: str, expected: str, found: str) -> Difference:
    symbol, window_start = window_key(row["symbol"], row["bucket_ms"])
    return Difference(
        pair=Pair.BRONZE_SILVER,
        what=what,
        expected=expected,
        found=found,
        symbol=symbol,
        window_start=window_start,
        trade=trade_ref(row["event_time_ms"], row["trade_id"]),
        message=MessageRef(
            topic_id=row["topic_id"],
            kafka_partition=row["kafka_partition"],
            kafka_offset=row["kafka_offset"],
        )
        if "kafka_offset" in row
        else None,
    )
