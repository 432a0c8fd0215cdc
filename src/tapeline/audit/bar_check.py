"""Check gold: hours against five minutes, a vendor's bars against ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa

from tapeline.audit.against import compare_vendor, read_vendor_bars
from tapeline.audit.context import NO_SILVER, Context
from tapeline.audit.difference import Pair
from tapeline.audit.engine import query
from tapeline.audit.hours import compare_hours
from tapeline.audit.silver_gold import received_ms
from tapeline.audit.tables import is_gone, window_rows, windows_table
from tapeline.model.bar import Bar, Interval
from tapeline.model.errors import UsageError
from tapeline.model.times import from_millis, to_millis

_BARS_AT_ONCE: Final = 500
_WITHOUT: Final = "SELECT * FROM windows ANTI JOIN others USING (symbol, bucket_ms)"


def silver_windows(context: Context) -> pa.Table:
    """Return the windows in scope of which silver has trades."""
    scope = context.scope
    if scope.symbols is not None and scope.start is not None and scope.end is not None:
        # Few enough to name: a window without trades costs one look.
        length = Interval.FIVE_MINUTES.duration // timedelta(milliseconds=1)
        starts = range(to_millis(scope.start), to_millis(scope.end), length)
        return windows_table((symbol, start) for symbol in scope.symbols for start in starts)
    return scope.only(windows_table(context.client.silver_windows()))


def check_gold(context: Context, silver: pa.Table) -> pa.Table:
    """Compare hour bars with their parts; return the windows of gold that silver may explain.

    A bar whose trades have expired from silver is not among them: it is counted.
    """
    baseline = context.baseline
    windows = [windows_table([])]
    for symbol, start, end in _months(context):
        parts = list(context.client.bars(symbol, Interval.FIVE_MINUTES, start, end))
        hours = context.client.bars(symbol, Interval.ONE_HOUR, start, end)
        compared = compare_hours(
            parts,
            hours,
            baseline.due_hours,
            baseline.started_at,
            baseline.gone_ms["trades_gold_5m"],
            baseline.gone_hours,
        )
        context.note(Pair.GOLD_HOURS, compared)
        gone_ms = baseline.gone_ms["trades_silver"]
        old = windows_table(_window(bar) for bar in parts if is_gone(received_ms(bar), gone_ms))
        lost = window_rows(query(_WITHOUT, windows=old, others=silver))
        starts = (from_millis(bucket_ms) for _, bucket_ms in lost)
        context.findings.not_auditable(Pair.SILVER_GOLD, NO_SILVER, starts)
        windows.append(windows_table({_window(bar) for bar in parts}.difference(lost)))
    return pa.concat_tables(windows)


def check_vendor(context: Context, path: Path) -> None:
    """Compare a vendor's bars in scope with the stored ones.

    Raises:
        UsageError: the file has none.
    """
    in_scope = (bar for bar in read_vendor_bars(path) if context.scope.covers(bar.key))
    total = 0
    while some := list(islice(in_scope, _BARS_AT_ONCE)):
        total += len(some)
        stored = context.client.stored_bars(Interval.FIVE_MINUTES, [bar.key for bar in some])
        bars = {key: found.bar for key, found in stored.items()}
        context.note(Pair.VENDOR, compare_vendor(some, bars, context.baseline.due))
    if not total:
        message = f"{path} has no bar to compare in the times and symbols that are audited."
        raise UsageError(message)


def _window(bar: Bar) -> tuple[str, int]:
    return bar.symbol, to_millis(bar.window_start)


def _months(context: Context) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield each symbol with the spans of time, a month at most, of which gold has bars."""
    spans = {
        (symbol, *span)
        for interval in Interval
        for symbol, period in context.client.gold_periods(interval)
        if context.scope.symbols is None or symbol in context.scope.symbols
        for span in context.scope.months(period, interval)
    }
    yield from sorted(spans)
