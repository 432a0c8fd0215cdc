"""Walk over the windows: bronze's trades against silver, and silver against gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import polars as pl

from tapeline.audit.bronze_silver import compare_trades
from tapeline.audit.context import NO_BRONZE, NO_SILVER, Advance, Context
from tapeline.audit.difference import Pair
from tapeline.audit.frames import (
    TRADE,
    TRADES,
    WINDOW,
    conditions_texts,
    newer_trades,
    window_key,
    windows_frame,
)
from tapeline.audit.silver_gold import compare_bars
from tapeline.audit.spill import Spill
from tapeline.bar import Interval
from tapeline.storage.audit_reads import Rows

_WINDOWS_AT_ONCE: Final = 250
_TRADES_AT_ONCE: Final = 100_000

Window = tuple[str, int]
"""A symbol and the start of its window in ms since the epoch."""


def walk_windows(context: Context, spill: Spill, windows: pl.DataFrame, advance: Advance) -> None:
    """Compare every window of bronze, silver or gold, part by part of the spill."""
    numbered = windows.unique().with_columns(part=spill.part_of())
    for part in spill.parts:
        bronze = spill.read(part)
        known = numbered.filter(pl.col("part") == part).select(WINDOW)
        keys = pl.concat([known, bronze.select(WINDOW)]).unique().sort("bucket_ms", "symbol")
        for some in keys.iter_slices(_WINDOWS_AT_ONCE):
            _compare_windows(context, bronze, some.rows())
        advance(known.height)


def _compare_windows(context: Context, bronze: pl.DataFrame, windows: Sequence[Window]) -> None:
    ground, findings = context.ground, context.findings
    # Bars before trades: what is in a bar is then in silver too.
    stored = context.client.stored_bars(
        Interval.FIVE_MINUTES, [window_key(*window) for window in windows]
    )
    bars = {key: found.bar for key, found in stored.items()}
    for group, silver in _groups(context, windows):
        # What came after the audit had begun has no messages in `bronze`.
        newer = newer_trades(silver, ground.committed)
        copies = bronze.join(windows_frame(group), on=WINDOW, how="semi")
        trades = compare_trades(
            copies.join(newer, on=TRADE, how="anti"),
            silver.join(newer, on=TRADE, how="anti"),
            bronze_gone_ms=ground.gone_ms["trades_bronze"],
            silver_gone_ms=ground.gone_ms["trades_silver"],
        )
        findings.checked(Pair.BRONZE_SILVER, 0, trades.differences)
        for what, keys in ((NO_BRONZE, trades.without_bronze), (NO_SILVER, trades.without_silver)):
            findings.not_auditable(Pair.BRONZE_SILVER, what, (start for _, start in keys))
        names = [window_key(*window) for window in group]
        moving = {window_key(*window) for window in newer.select(WINDOW).unique().rows()}
        compared = compare_bars(names, bars, silver, ground.readiness, moving)
        context.note(Pair.SILVER_GOLD, compared)


def _groups(
    context: Context, windows: Sequence[Window]
) -> Iterator[tuple[list[Window], pl.DataFrame]]:
    """Yield the windows with their trades, several at once but not too many trades."""
    group: list[tuple[Window, Rows]] = []
    trades = 0
    for window, rows in context.reads.silver(windows):
        group.append((window, rows))
        trades += len(rows)
        if trades >= _TRADES_AT_ONCE:
            yield [w for w, _ in group], _frame(group)
            group, trades = [], 0
    if group:
        yield [w for w, _ in group], _frame(group)


def _frame(group: Sequence[tuple[Window, Rows]]) -> pl.DataFrame:
    """Return the rows of silver of some windows with the columns of TRADES."""
    rows = [row for _, some in group for row in some]
    columns = list(zip(*rows, strict=True)) or [()] * (len(TRADES) - len(WINDOW))
    symbols = [symbol for (symbol, _), some in group for _ in some]
    buckets = [bucket_ms for (_, bucket_ms), some in group for _ in some]
    fields: dict[str, Any] = dict(zip(TRADES, (symbols, buckets, *columns), strict=True))
    fields["conditions"] = conditions_texts(fields["conditions"])
    return pl.DataFrame([pl.Series(n, values, TRADES[n]) for n, values in fields.items()])
