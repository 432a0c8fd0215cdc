"""Hour bars against the twelve five-minute bars that they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

from tapeline.audit.difference import Difference, Pair, WindowKey
from tapeline.audit.frames import is_gone
from tapeline.audit.silver_gold import (
    BarsCompared,
    differing_values,
    missing_or_provisional,
    received_ms,
)
from tapeline.bar import VALUES, Bar, Interval
from tapeline.rollup import ReadInterval, roll_up_bars

_HOUR: Final = ReadInterval.parse("1h")


def compare_hours(
    parts: Iterable[Bar],
    hours: Iterable[Bar],
    due: Collection[WindowKey],
    started_at: datetime,
    gold_gone_ms: int | None = None,
) -> BarsCompared:
    """Compare the hour bars of one symbol with its five-minute bars of the same hours.

    Args:
        parts: the five-minute bars, in order of time.
        hours: the hour bars.
        due: hours that are to be settled yet.
        started_at: when the audit began; bars written later were perhaps not read together.
        gold_gone_ms: bars received until then may have expired; None for never.
    """
    found = BarsCompared()
    by_hour: dict[WindowKey, list[Bar]] = defaultdict(list)
    for part in parts:
        by_hour[part.symbol, part.window_start.replace(minute=0)].append(part)
    stored = {(bar.symbol, bar.window_start): bar for bar in hours}
    for key in sorted(by_hour.keys() | stored.keys()):
        group, hour = by_hour.get(key, []), stored.get(key)
        if key in due or not all(part.is_final for part in group):
            found.not_yet += 1
            continue
        if any(is_gone(received_ms(bar), gold_gone_ms) for bar in (*group, hour) if bar):
            found.without_gold.add(key)
            continue
        differences = _differences(key, group, hour)
        if differences and any(_is_newer(bar, started_at) for bar in (*group, hour)):
            found.not_yet += 1
            continue
        found.checked += 1
        found.differences += differences
    return found


def _differences(key: WindowKey, parts: Sequence[Bar], hour: Bar | None) -> list[Difference]:
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
    (whole,) = roll_up_bars(parts, _HOUR, hour.window_end)
    expected = {name: getattr(whole, name) for name in VALUES}
    if hour.policy in {part.policy for part in parts}:
        expected["policy"] = hour.policy
    return list(differing_values(Pair.GOLD_HOURS, hour, expected, Interval.ONE_HOUR))


def _is_newer(bar: Bar | None, started_at: datetime) -> bool:
    return bar is not None and bar.updated_at is not None and bar.updated_at > started_at
