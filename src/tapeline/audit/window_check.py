"""Check the windows: bronze's trades against silver, and silver against gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.bronze_silver import TradesCompared, compare_trades
from tapeline.audit.context import NO_BRONZE, NO_SILVER, Advance, Context
from tapeline.audit.difference import Pair
from tapeline.audit.engine import query
from tapeline.audit.silver_gold import BarsCompared, compare_bars
from tapeline.audit.spill import Spill
from tapeline.audit.tables import (
    TRADES,
    WINDOWS,
    conditions_texts,
    table_of,
    window_key,
    window_rows,
)
from tapeline.model.bar import Bar, Interval, WindowKey
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
    findings = context.findings
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
        findings.checked(Pair.BRONZE_SILVER, 0, trades.differences)
        for what, keys in ((NO_BRONZE, trades.without_bronze), (NO_SILVER, trades.without_silver)):
            findings.not_auditable(Pair.BRONZE_SILVER, what, (start for _, start in keys))
        context.note(Pair.SILVER_GOLD, compared)


def _compared(
    context: Context,
    windows: Sequence[WindowKey],
    bars: Mapping[WindowKey, Bar],
    bronze: pa.Table,
    silver: pa.Table,
    newer: pa.Table | None = None,
) -> tuple[TradesCompared, BarsCompared]:
    """Compare some windows, but for the trades in `newer` and the bars that these are in."""
    baseline = context.baseline
    trades = compare_trades(
        _without(bronze, newer),
        _without(silver, newer),
        bronze_gone_ms=baseline.gone_ms["trades_bronze"],
        silver_gone_ms=baseline.gone_ms["trades_silver"],
    )
    moving = set() if newer is None else {window_key(*window) for window in window_rows(newer)}
    return trades, compare_bars(windows, bars, silver, baseline.readiness, moving)


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
