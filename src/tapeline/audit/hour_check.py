"""Check gold: hour bars against the twelve five-minute bars that they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.context import Baseline, Context
from tapeline.audit.findings import NO_GOLD, NO_SILVER, NO_TOPIC, Compared, Difference, Pair
from tapeline.audit.recompute import AMOUNT
from tapeline.audit.silver_gold import differing_values, missing_or_provisional, received_ms
from tapeline.audit.tables import is_gone, query, window_rows, windows_table
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.sessions import asset_class_of
from tapeline.model.times import from_millis, to_millis

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


def check_hours(context: Context, silver: pa.Table) -> pa.Table:
    """Compare hour bars with their parts; return the windows of gold that silver may explain.

    A bar whose trades have expired from silver is not among them: it is counted.
    """
    baseline = context.baseline
    windows = [windows_table([])]
    for symbol, start, end in _months(context):
        parts = list(context.client.bars(symbol, Interval.FIVE_MINUTES, start, end))
        hours = context.client.bars(symbol, Interval.ONE_HOUR, start, end)
        context.findings.add(Pair.GOLD_HOURS, compare_hours(parts, hours, baseline))
        gone_ms = baseline.gone_ms["trades_silver"]
        old = windows_table(_window(bar) for bar in parts if is_gone(received_ms(bar), gone_ms))
        lost = window_rows(query(_WITHOUT, windows=old, others=silver))
        starts = (from_millis(bucket_ms) for _, bucket_ms in lost)
        context.findings.not_auditable(Pair.SILVER_GOLD, NO_SILVER, starts)
        windows.append(windows_table({_window(bar) for bar in parts}.difference(lost)))
    return pa.concat_tables(windows)


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


_PARTS: Final = pa.schema(
    {
        "symbol": pa.string(),
        "window_start": pa.timestamp("us"),
        **dict.fromkeys(("open", "high", "low", "close", "vwap"), pa.float64()),
        **dict.fromkeys(("volume", "notional", "unpriced_volume"), AMOUNT),
        **dict.fromkeys(("trade_count", "unpriced_count"), pa.int64()),
        **dict.fromkeys(("first_trade_time", "last_trade_time"), pa.timestamp("us")),
        **dict.fromkeys(("session", "asset_class", "policy"), pa.string()),
    }
)
_HOURS: Final = """
    SELECT
        symbol,
        date_trunc('hour', window_start) AS hour,
        first(open ORDER BY window_start) FILTER (WHERE open IS NOT NULL) AS open,
        max(high) AS high,
        min(low) AS low,
        last(close ORDER BY window_start) FILTER (WHERE close IS NOT NULL) AS close,
        sum(volume) AS volume,
        sum(notional) AS notional,
        CAST(sum(trade_count) AS BIGINT) AS trade_count,
        CAST(sum(unpriced_count) AS BIGINT) AS unpriced_count,
        sum(unpriced_volume) AS unpriced_volume,
        min(first_trade_time) AS first_trade_time,
        max(last_trade_time) AS last_trade_time,
        CASE count(DISTINCT policy) WHEN 0 THEN NULL WHEN 1 THEN min(policy) ELSE 'mixed' END
            AS policy,
        if(count(DISTINCT session) = 1, min(session), 'mixed') AS session
    FROM parts GROUP BY ALL
"""


def compare_hours(parts: Sequence[Bar], hours: Iterable[Bar], baseline: Baseline) -> Compared:
    """Compare the hour bars of one symbol with its five-minute bars of the same hours.

    Args:
        parts: the five-minute bars, in order of time.
        hours: the hour bars.
        baseline: says which hours can be compared, and when the audit began: bars written later
            were perhaps not read together.
    """
    found = Compared()
    gone_ms = baseline.gone_ms["trades_gold_5m"]
    rolled_up = _rolled_up(parts)
    by_hour: dict[WindowKey, list[Bar]] = defaultdict(list)
    for part in parts:
        by_hour[part.symbol, part.window_start.replace(minute=0)].append(part)
    stored = {(bar.symbol, bar.window_start): bar for bar in hours}
    for key in sorted(by_hour.keys() | stored.keys()):
        group, hour = by_hour.get(key, []), stored.get(key)
        bars = [*group, hour] if hour else group
        if key in baseline.gone_hours and key not in baseline.due_hours:
            found.unaudited[NO_TOPIC].add(key)
        elif key in baseline.due_hours or not all(part.is_final for part in group):
            found.not_yet += 1
        elif any(is_gone(received_ms(bar), gone_ms) for bar in bars):
            found.unaudited[NO_GOLD].add(key)
        else:
            differences = _differences(key, group, hour, rolled_up)
            if differences and any(_is_newer(bar, baseline.started_at) for bar in bars):
                found.not_yet += 1
            else:
                found.checked += 1
                found.differences += differences
    return found


def _differences(
    key: WindowKey,
    parts: Sequence[Bar],
    hour: Bar | None,
    rolled_up: Mapping[WindowKey, dict[str, Any]],
) -> list[Difference]:
    difference = missing_or_provisional(Pair.GOLD_HOURS, key, hour, Interval.ONE_HOUR)
    if difference is not None or hour is None:
        return [] if difference is None else [difference]
    if not parts:
        return [
            Difference(
                pair=Pair.GOLD_HOURS,
                what="bar",
                expected="none: the hour has no five-minute bar",
                found="in gold",
                symbol=key[0],
                window_start=key[1],
                interval=Interval.ONE_HOUR,
            )
        ]
    return list(differing_values(Pair.GOLD_HOURS, hour, rolled_up[key], Interval.ONE_HOUR))


def _rolled_up(parts: Sequence[Bar]) -> dict[WindowKey, dict[str, Any]]:
    """Work hours out in SQL, not by the code that made them."""
    rows = [{name: getattr(part, name) for name in _PARTS.names} for part in parts]
    hours = query(_HOURS, parts=pa.Table.from_pylist(rows, _PARTS))
    found = {}
    for row in hours.to_pylist():
        key = row.pop("symbol"), row.pop("hour").replace(tzinfo=timezone.utc)
        for name in ("first_trade_time", "last_trade_time"):
            row[name] = row[name] and row[name].replace(tzinfo=timezone.utc)
        row["vwap"] = float(row["notional"]) / float(row["volume"]) if row["volume"] else None
        row["asset_class"] = asset_class_of(key[0]).value
        found[key] = row
    return found


def _is_newer(bar: Bar, started_at: datetime) -> bool:
    return bar.updated_at is not None and bar.updated_at > started_at
