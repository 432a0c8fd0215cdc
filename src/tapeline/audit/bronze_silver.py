"""Bronze against silver: each trade once, and of its copies the one with the lowest rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from tapeline.audit.difference import Difference, MessageRef, Pair, text_of
from tapeline.audit.frames import TRADE, TRADES, is_gone, trade_ref, window_key
from tapeline.bar import WindowKey
from tapeline.times import from_millis

_FIELDS: Final = tuple(name for name in TRADES if name not in TRADE)
_TIES: Final = tuple(name for name in _FIELDS if name != "sequence")

Row = dict[str, Any]


@dataclass(slots=True)
class TradesCompared:
    """The differences of some windows, and the windows some of whose rows have expired."""

    differences: list[Difference] = field(default_factory=list)
    without_bronze: set[WindowKey] = field(default_factory=set)
    without_silver: set[WindowKey] = field(default_factory=set)


def compare_trades(
    bronze: pl.DataFrame,
    silver: pl.DataFrame,
    *,
    bronze_gone_ms: int | None = None,
    silver_gone_ms: int | None = None,
) -> TradesCompared:
    """Compare the valid trades of bronze's messages with the rows of silver, both ways.

    Args:
        bronze: every copy of every trade of some windows, columns as TRADES.
        silver: every row of the same windows.
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
    for row in silver.join(bronze.select(TRADE).unique(), on=TRADE, how="anti").rows(named=True):
        if _may_be_gone([row], bronze_gone_ms):
            found.without_bronze.add(window_key(row["symbol"], row["bucket_ms"]))
        else:
            found.differences.append(_difference(row, "trade", "none in bronze", "in silver"))
    return found


def _suspects(bronze: pl.DataFrame, silver: pl.DataFrame) -> Iterator[tuple[list[Row], Row | None]]:
    """Yield the trades to look at closely: their copies of lowest rank, and silver's row.

    A trade whose row equals one of those copies in every field is no suspect.
    """
    lowest = bronze.filter(pl.col("sequence") == pl.col("sequence").min().over(TRADE))
    both = lowest.join(
        silver.with_columns(in_silver=pl.lit(value=True)), on=TRADE, how="left", suffix="_silver"
    )
    is_same = pl.all_horizontal(pl.col(f).eq_missing(pl.col(f"{f}_silver")) for f in _FIELDS)
    suspects = both.filter(~is_same.any().over(TRADE))
    for _, group in suspects.group_by(TRADE, maintain_order=True):
        copies = group.rows(named=True)
        first = copies[0]
        row = {f: first[f] for f in TRADE} | {f: first[f"{f}_silver"] for f in _FIELDS}
        yield copies, row if first["in_silver"] else None


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
    has_message = row["kafka_offset"] is not None
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
        if has_message
        else None,
    )
