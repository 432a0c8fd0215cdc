"""A bar, and options of an export, to start from, for tests that care about one or two fields."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from tapeline.export.content import ExportOptions, Kind
from tapeline.export.files import ExportFormat
from tapeline.model.bar import Bar, Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.storage.cassandra_client import CassandraClient

START = datetime(2026, 11, 20, 14, 35, tzinfo=timezone.utc)


def export_options(**changes: Any) -> ExportOptions:
    """Return how all five-minute bars are exported, exact and as Parquet; but for some changes."""
    bars = ExportOptions(
        Kind.BARS,
        ExportFormat.PARQUET,
        ReadInterval.parse("5m"),
        None,
        None,
        None,
        exact=True,
        detail=False,
        provisional=False,
        overwrite=False,
        delay=timedelta(minutes=10),
    )
    return replace(bars, **changes)


def a_bar(**changes: Any) -> Bar:
    """Return a provisional five-minute bar of AAPL in regular hours."""
    start: datetime = changes.get("window_start", START)
    fields = {
        "symbol": "AAPL",
        "window_start": start,
        "window_end": start + timedelta(minutes=5),
        "open": 1.0,
        "high": 3.0,
        "low": 0.5,
        "close": 2.0,
        "volume": Decimal("10.5"),
        "notional": Decimal("21.0"),
        "vwap": 2.0,
        "trade_count": 4,
        "unpriced_count": 1,
        "unpriced_volume": Decimal("0.5"),
        "first_trade_time": start,
        "last_trade_time": start + timedelta(minutes=4),
        "session": "regular",
        "asset_class": "equity",
        "policy": "sip+oddlot",
    }
    return Bar(**{**fields, **changes})


def write_bars(client: CassandraClient, *bars: Bar) -> None:
    """Put bars into gold as the stream (provisional) or the finalizer (final) does."""
    at = datetime.now(timezone.utc)
    writes = [(replace(bar, updated_at=at), int(at.timestamp() * 1e6)) for bar in bars]
    provisional = [w for w in writes if not w[0].is_final]
    if provisional:
        client.write_bars(Interval.FIVE_MINUTES, provisional)
    client.write_final_bars(Interval.FIVE_MINUTES, [w for w in writes if w[0].is_final])
