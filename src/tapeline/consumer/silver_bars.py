"""Bars computed from the trades in silver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.bar_columns import BAR_COLUMNS, RULED_COLUMNS, bar_columns, in_variant
from tapeline.consumer.sinks import read_table
from tapeline.consumer.transformations import (
    FIVE_MINUTES,
    ONE_MINUTE,
    calculate_ohlcv,
)
from tapeline.consumer.window_keys import window_keys
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.rules import Rules
from tapeline.model.sessions import Session, asset_class_of, session_at
from tapeline.model.times import from_micros

_TIMES: Final = (
    *("window_start", "window_end", "first_trade_time", "last_trade_time"),
    "first_received_at",
)
_TIME_PLACES: Final = tuple(BAR_COLUMNS.index(name) for name in _TIMES)
_WINDOWS_AT_ONCE: Final = 5_000
"""Windows whose keys go into one plan."""


def bars_from_silver(
    session: SparkSession,
    keyspace: str,
    interval: Interval,
    windows: Sequence[WindowKey],
    policy: Rules,
) -> list[Bar]:
    """Return the provisional bars of what silver has of some windows.

    Args:
        session: computes.
        keyspace: of the table.
        interval: one minute or five.
        windows: symbol and start of five minutes each.
        policy: which trades set prices.
    """
    length = ONE_MINUTE if interval is Interval.ONE_MINUTE else FIVE_MINUTES
    bars = []
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        keys = window_keys(session, windows[start : start + _WINDOWS_AT_ONCE], "bucket")
        trades = keys.join(read_table(keys, keyspace, "trades_silver"), ["symbol", "bucket"])
        bars += collect_bars(calculate_ohlcv(trades, policy, length), policy)
    return bars


def collect_bars(rows: DataFrame, policy: Rules) -> list[Bar]:
    """Return the bars of `calculate_ohlcv`, with what their name and their time tell."""
    # Times as numbers: PySpark hands timestamps over in the machine's own time zone.
    names = bar_columns(policy)
    columns = [F.unix_micros(c) if c in _TIMES else F.col(c) for c in names]
    bars = []
    for row in rows.select(*columns).collect():
        values = list(row)
        for place in _TIME_PLACES:
            values[place] = from_micros(values[place])
        found = dict(zip(names, values, strict=True))
        symbol = found["symbol"]
        session = session_at(symbol, found["window_start"])
        asset_class = asset_class_of(symbol).value
        fields = {name: found[name] for name in BAR_COLUMNS} | ruled(found, policy, session)
        bars.append(
            Bar(**fields, session=session.value, asset_class=asset_class, policy=policy.name)
        )
    return bars


def ruled(found: Mapping[str, Any], policy: Rules, session: Session) -> dict[str, Any]:
    """Return `RULED_COLUMNS` as the rules of a bar's session have them.

    Args:
        found: columns of the bar in every variant; some may be missing.
        policy: which has the variants.
        session: of the bar.
    """
    variant = policy.variant_of(session)
    return {c: found[in_variant(c, variant)] for c in RULED_COLUMNS if c in found}
