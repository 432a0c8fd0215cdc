"""Rows for the tests of audit, changed as a test needs them: a trade of AAPL, a baseline."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from tapeline.audit.context import Baseline
from tapeline.audit.tables import COPIES, TRADES, conditions_texts
from tapeline.model.trade import Trade

START = datetime(2026, 11, 20, 15, 30, tzinfo=timezone.utc)
"""10:30 in New York."""
START_MS = 1_795_188_600_000
KEY = ("AAPL", START)
RECEIVED_MS = START_MS + 1_000

_TRADE = {
    "symbol": "AAPL",
    "bucket_ms": START_MS,
    "event_time_ms": START_MS + 500,
    "trade_id": 1,
    "price": 10.0,
    "volume": 100.0,
    "conditions": "1",
    "sequence": 0,
    "received_at_ms": RECEIVED_MS,
    "source": "replay",
    "topic_id": "topic",
    "kafka_partition": 0,
    "kafka_offset": 7,
}


def a_trade(**changes: Any) -> dict[str, Any]:
    return {**_TRADE, **changes}


def copies(*trades: dict[str, Any]) -> pa.Table:
    """Return what messages of bronze hold."""
    return pa.Table.from_pylist(list(trades), COPIES)


def frame(*trades: dict[str, Any]) -> pa.Table:
    """Return rows of silver."""
    return copies(*trades).select(TRADES.names)


def silver_of(trades: Iterable[Trade]) -> pa.Table:
    """Return the rows of silver that hold some trades."""
    return frame(
        *(
            a_trade(
                symbol=t.symbol,
                bucket_ms=t.event_time_ms - t.event_time_ms % 300_000,
                event_time_ms=t.event_time_ms,
                trade_id=t.trade_id,
                price=t.price,
                volume=t.volume,
                conditions=conditions_texts([t.conditions])[0],
                sequence=t.sequence,
            )
            for t in trades
        )
    )


def a_baseline(
    *, silver_gone_ms: int | None = None, gold_gone_ms: int | None = None, **changes: Any
) -> Baseline:
    """Return a keyspace in which nothing is due and, unless said, nothing expires."""
    gone_ms = {"trades_silver": silver_gone_ms, "trades_gold_5m": gold_gone_ms}
    names = ("due", "due_hours", "gone", "gone_hours")
    fields = {"started_at": START, "committed": {}, "affected": None, "gone_ms": gone_ms}
    return Baseline(**{**fields, **dict.fromkeys(names, frozenset()), **changes})
