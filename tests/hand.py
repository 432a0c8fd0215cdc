"""The tape worked by hand, and its bars (see tests/data/README.md)."""

from __future__ import annotations

import csv
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from tapeline.model.bar import Bar, Interval

DATA = Path(__file__).parent / "data"
TAPE = DATA / "hand.trades.csv"
TRADES = 17


def hand_bars(interval: Interval) -> dict[tuple[str, datetime], dict[str, object]]:
    """Return the hand-worked values of each bar."""
    with (DATA / "hand.bars.csv").open(encoding="utf-8") as lines:
        return {
            (row["symbol"], _time(row["window_start"])): {
                **{n: float(row[n]) if row[n] else None for n in ("open", "high", "low", "close")},
                "volume": Decimal(row["volume"]),
                "notional": Decimal(row["notional"]),
                "trade_count": int(row["trade_count"]),
            }
            for row in csv.DictReader(lines)
            if row["interval"] == interval.value
        }


def values_of(bar: Bar) -> dict[str, object]:
    """Return the same values of one of our bars."""
    return {
        name: getattr(bar, name)
        for name in ("open", "high", "low", "close", "volume", "notional", "trade_count")
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
