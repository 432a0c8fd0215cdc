"""Compare our bars with those that a vendor made from the same trades."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class VendorBar:
    """A bar of the vendor; `is_exact` is false where it moved auction prints.

    `is_ambiguous` when trades sent again could not be told from twins: nobody can say which
    of them came first and last.
    """

    symbol: str
    window_start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    is_exact: bool
    is_ambiguous: bool = False


def read_vendor_bars(path: Path) -> list[VendorBar]:
    """Read `window_start_ms,symbol,open,high,low,close,volume,exact`."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [
            VendorBar(
                row["symbol"],
                EPOCH + timedelta(milliseconds=int(row["window_start_ms"])),
                *(float(row[name]) for name in FIELDS),
                is_exact=row["exact"] == "1",
            )
            for row in csv.DictReader(lines)
        ]


def with_ambiguous(bars: Iterable[VendorBar], volumes: Mapping[str, float]) -> list[VendorBar]:
    """Add the volume that was sent again and looked like twins, by `symbol|window start in ms`."""
    return [
        replace(bar, volume=bar.volume + volumes[key], is_ambiguous=True)
        if (key := f"{bar.symbol}|{(bar.window_start - EPOCH) // timedelta(milliseconds=1)}")
        in volumes
        else bar
        for bar in bars
    ]


def differences(
    vendor: Iterable[VendorBar], ours: Mapping[tuple[str, datetime], Mapping[str, Any]]
) -> list[str]:
    """Name every bar and field in which the two differ."""
    found = []
    for bar in vendor:
        name = f"{bar.symbol} {bar.window_start:%Y-%m-%dT%H:%M}"
        mine = ours.get((bar.symbol, bar.window_start))
        if mine is None:
            found.append(f"{name}: missing")
            continue
        found += [
            f"{name}: {field} is {mine[field]}, the vendor's is {getattr(bar, field)}"
            for field in (FIELDS[1:3] + FIELDS[4:] if bar.is_ambiguous else FIELDS)
            if mine[field] != getattr(bar, field)
        ]
    return found


def roll_up_to_hours(bars: Iterable[VendorBar]) -> list[VendorBar]:
    """Combine a vendor's five-minute bars into hours; exact where all parts are."""
    hours: dict[tuple[str, datetime], list[VendorBar]] = {}
    for bar in sorted(bars, key=lambda b: b.window_start):
        hours.setdefault((bar.symbol, bar.window_start.replace(minute=0)), []).append(bar)
    return [
        VendorBar(
            symbol,
            start,
            parts[0].open,
            max(p.high for p in parts),
            min(p.low for p in parts),
            parts[-1].close,
            sum(p.volume for p in parts),
            is_exact=all(p.is_exact for p in parts),
            is_ambiguous=any(p.is_ambiguous for p in parts),
        )
        for (symbol, start), parts in hours.items()
    ]
