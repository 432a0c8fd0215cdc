"""Bars computed from the trades in silver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.bar import Bar, Interval, WindowKey
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.sinks import read_table
from tapeline.consumer.transformations import FIVE_MINUTES, ONE_MINUTE, calculate_ohlcv
from tapeline.times import floor_to, from_micros, to_micros

_TIMES: Final = (
    *("window_start", "window_end", "first_trade_time", "last_trade_time"),
    "first_received_at",
)
_WINDOWS_AT_ONCE: Final = 5_000
"""Windows whose keys go into one plan."""


def bars_from_silver(
    session: SparkSession,
    keyspace: str,
    interval: Interval,
    windows: Iterable[WindowKey],
    policy: ConditionPolicy,
) -> list[Bar]:
    """Return the provisional bars of those windows that silver has trades of.

    Args:
        session: computes.
        keyspace: of the table.
        interval: one minute or five.
        windows: symbol and start of each.
        policy: which trades set prices.
    """
    wanted = set(windows)
    buckets = {(s, floor_to(Interval.FIVE_MINUTES.duration, start)) for s, start in wanted}
    length = ONE_MINUTE if interval is Interval.ONE_MINUTE else FIVE_MINUTES
    bars = []
    for some in _in_parts(sorted(buckets)):
        keys = bucket_keys(session, some)
        trades = keys.join(read_table(keys, keyspace, "trades_silver"), ["symbol", "bucket"])
        made = collect_bars(calculate_ohlcv(trades, policy, length), policy)
        bars += [bar for bar in made if (bar.symbol, bar.window_start) in wanted]
    return bars


def bucket_keys(session: SparkSession, windows: Sequence[WindowKey]) -> DataFrame:
    """Return the partitions of silver that some windows of five minutes are: symbol, bucket.

    Made in the JVM: a frame made of Python's values would start Python workers.
    """
    keys = json.dumps([{"symbol": s, "us": to_micros(start)} for s, start in windows])
    shape = "array<struct<symbol:string,us:bigint>>"
    rows = session.sql(f"SELECT inline(from_json(:keys, '{shape}'))", args={"keys": keys})
    return rows.select("symbol", F.timestamp_micros("us").alias("bucket"))


def collect_bars(rows: DataFrame, policy: ConditionPolicy) -> list[Bar]:
    """Return the bars of `calculate_ohlcv`."""
    # As numbers: PySpark hands timestamps over in the machine's own time zone.
    rows = rows.withColumns({column: F.unix_micros(column) for column in _TIMES})
    return [_bar(row, policy) for row in rows.collect()]


def _bar(row: Row, policy: ConditionPolicy) -> Bar:
    fields = row.asDict()
    for name in _TIMES:
        fields[name] = from_micros(fields[name])
    return Bar(**fields, policy=policy.value)


def _in_parts(windows: Iterable[WindowKey]) -> Iterator[list[WindowKey]]:
    rest = iter(windows)
    while some := list(islice(rest, _WINDOWS_AT_ONCE)):
        yield some
