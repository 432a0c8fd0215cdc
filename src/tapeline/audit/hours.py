"""Hour bars against the twelve five-minute bars that they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.difference import Difference, Pair
from tapeline.audit.engine import query
from tapeline.audit.recompute import AMOUNT
from tapeline.audit.silver_gold import (
    BarsCompared,
    differing_values,
    missing_or_provisional,
    received_ms,
)
from tapeline.audit.tables import is_gone
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.sessions import asset_class_of

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
        first(policy ORDER BY window_start) AS policy,
        if(count(DISTINCT session) = 1, min(session), 'mixed') AS session
    FROM parts GROUP BY ALL
"""


def compare_hours(
    parts: Iterable[Bar],
    hours: Iterable[Bar],
    due: Collection[WindowKey],
    started_at: datetime,
    gold_gone_ms: int | None = None,
    gone: Collection[WindowKey] = frozenset(),
) -> BarsCompared:
    """Compare the hour bars of one symbol with its five-minute bars of the same hours.

    Args:
        parts: the five-minute bars, in order of time.
        hours: the hour bars.
        due: hours that are to be finalized yet.
        started_at: when the audit began; bars written later were perhaps not read together.
        gone: hours that are due of topics that no longer exist.
        gold_gone_ms: bars received until then may have expired; None for never.
    """
    found, parts = BarsCompared(), list(parts)
    rolled_up = _rolled_up(parts)
    by_hour: dict[WindowKey, list[Bar]] = defaultdict(list)
    for part in parts:
        by_hour[part.symbol, part.window_start.replace(minute=0)].append(part)
    stored = {(bar.symbol, bar.window_start): bar for bar in hours}
    for key in sorted(by_hour.keys() | stored.keys()):
        group, hour = by_hour.get(key, []), stored.get(key)
        if key in gone and key not in due:
            found.without_topic.add(key)
            continue
        if key in due or not all(part.is_final for part in group):
            found.not_yet += 1
            continue
        if any(is_gone(received_ms(bar), gold_gone_ms) for bar in (*group, hour) if bar):
            found.without_gold.add(key)
            continue
        differences = _differences(key, group, hour, rolled_up)
        if differences and any(_is_newer(bar, started_at) for bar in (*group, hour)):
            found.not_yet += 1
            continue
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
    expected = dict(rolled_up[key])
    if hour.policy in {part.policy for part in parts}:
        expected["policy"] = hour.policy
    return list(differing_values(Pair.GOLD_HOURS, hour, expected, Interval.ONE_HOUR))


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


def _is_newer(bar: Bar | None, started_at: datetime) -> bool:
    return bar is not None and bar.updated_at is not None and bar.updated_at > started_at
