"""Check the windows: bronze's trades against silver, and silver against gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.context import Advance, Context
from tapeline.audit.findings import (
    NO_BRONZE,
    NO_SILVER,
    Compared,
    Difference,
    MessageRef,
    Pair,
    text_of,
)
from tapeline.audit.silver_gold import compare_bars
from tapeline.audit.tables import (
    TRADES,
    WINDOWS,
    Spill,
    conditions_texts,
    is_gone,
    query,
    table_of,
    trade_ref,
    window_key,
    window_rows,
)
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.times import from_millis
from tapeline.storage.trades import Rows, Window

_WINDOWS_AT_ONCE: Final = 2_000
_TRADES_AT_ONCE: Final = 100_000
_WINDOWS_OF_BOTH: Final = """
    SELECT symbol, bucket_ms FROM known UNION SELECT symbol, bucket_ms FROM bronze
    ORDER BY bucket_ms, symbol
"""
_OF_WINDOWS: Final = "SELECT * FROM trades SEMI JOIN windows USING (symbol, bucket_ms)"
_WITHOUT: Final = """
    SELECT * FROM trades ANTI JOIN others USING (symbol, bucket_ms, event_time_ms, trade_id)
"""


def check_windows(context: Context, spill: Spill, windows: pa.Table, advance: Advance) -> None:
    """Compare every window of bronze, silver or gold, part by part of the spill."""
    known = dict(spill.split(windows))
    for part in spill.parts:
        bronze = spill.read(part)
        some = known.get(part, WINDOWS.empty_table())
        keys = window_rows(query(_WINDOWS_OF_BOTH, known=some, bronze=bronze))
        for first in range(0, len(keys), _WINDOWS_AT_ONCE):
            _compare_windows(context, bronze, keys[first : first + _WINDOWS_AT_ONCE])
        advance(some.num_rows)


def _compare_windows(context: Context, bronze: pa.Table, windows: Sequence[Window]) -> None:
    # Bars before trades: what is in a bar is then in silver too.
    stored = context.client.stored_bars(
        Interval.FIVE_MINUTES, [window_key(*window) for window in windows]
    )
    bars = {key: found.bar for key, found in stored.items()}
    for group, silver in _groups(context, windows):
        names = [window_key(*window) for window in group]
        copies = query(_OF_WINDOWS, trades=bronze, windows=table_of(WINDOWS, group))
        trades, compared = _compared(context, names, bars, copies, silver)
        if trades.differences or compared.differences:
            # What came after the audit had begun has no messages in `bronze`.
            newer = context.meanwhile.rows_of(silver)
            trades, compared = _compared(context, names, bars, copies, silver, newer)
        context.findings.add(Pair.BRONZE_SILVER, trades)
        context.findings.add(Pair.SILVER_GOLD, compared)


def _compared(
    context: Context,
    windows: Sequence[WindowKey],
    bars: Mapping[WindowKey, Bar],
    bronze: pa.Table,
    silver: pa.Table,
    newer: pa.Table | None = None,
) -> tuple[Compared, Compared]:
    """Compare some windows, but for the trades in `newer` and the bars that these are in."""
    baseline = context.baseline
    trades = compare_trades(
        _without(bronze, newer),
        _without(silver, newer),
        bronze_gone_ms=baseline.gone_ms["trades_bronze"],
        silver_gone_ms=baseline.gone_ms["trades_silver"],
    )
    moving = set() if newer is None else {window_key(*window) for window in window_rows(newer)}
    return trades, compare_bars(windows, bars, silver, baseline, moving, context.rules)


def _without(trades: pa.Table, others: pa.Table | None) -> pa.Table:
    return trades if others is None else query(_WITHOUT, trades=trades, others=others)


def _groups(context: Context, windows: Sequence[Window]) -> Iterator[tuple[list[Window], pa.Table]]:
    """Yield the windows with their trades, several at once but not too many trades."""
    group: list[tuple[Window, Rows]] = []
    trades = 0
    for window, rows in context.client.silver(windows):
        group.append((window, rows))
        trades += len(rows)
        if trades >= _TRADES_AT_ONCE:
            yield [window for window, _ in group], _table(group)
            group, trades = [], 0
    if group:
        yield [window for window, _ in group], _table(group)


def _table(group: Sequence[tuple[Window, Rows]]) -> pa.Table:
    """Return the rows of silver of some windows with the columns of TRADES."""
    rows = [(*window, *row) for window, some in group for row in some]
    columns: list[Any] = list(zip(*rows, strict=True)) or [()] * len(TRADES)
    conditions = TRADES.get_field_index("conditions")
    columns[conditions] = conditions_texts(columns[conditions])
    return pa.table(columns, schema=TRADES)


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


def compare_trades(
    bronze: pa.Table,
    silver: pa.Table,
    *,
    bronze_gone_ms: int | None = None,
    silver_gone_ms: int | None = None,
) -> Compared:
    """Compare the valid trades of bronze's messages with the rows of silver, both ways.

    Args:
        bronze: every copy of every trade of some windows, columns as COPIES.
        silver: every row of the same windows, columns as TRADES.
        bronze_gone_ms: bronze may have expired what was received until then; None for never.
        silver_gone_ms: the same of silver.
    """
    found = Compared()
    for copies, row in _suspects(bronze, silver):
        key = window_key(copies[0]["symbol"], copies[0]["bucket_ms"])
        if row is None:
            if _may_be_gone(copies, silver_gone_ms):
                found.unaudited[NO_SILVER].add(key)
            else:
                found.differences.append(_difference(copies[0], "trade", "in silver", "none"))
        elif row["sequence"] is not None and row["sequence"] < copies[0]["sequence"]:
            # The copy that silver kept is not in bronze.
            if _may_be_gone([row], bronze_gone_ms):
                found.unaudited[NO_BRONZE].add(key)
            else:
                found.differences.append(_rank_difference(copies[0], row))
        elif row["sequence"] != copies[0]["sequence"]:
            found.differences.append(_rank_difference(copies[0], row))
        else:
            found.differences += _value_differences(copies, row)
    for row in query(_FROM_NOWHERE, silver=silver, bronze=bronze).to_pylist():
        if _may_be_gone([row], bronze_gone_ms):
            found.unaudited[NO_BRONZE].add(window_key(row["symbol"], row["bucket_ms"]))
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
