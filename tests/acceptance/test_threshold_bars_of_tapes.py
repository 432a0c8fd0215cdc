"""Tick, volume and dollar bars of real trades equal what a running sum over the tape's rows gives.

The sum knows nothing of ours. Sessions are hours of the one day that the tapes are of; and where a
tape has conditions, a trade with 12 sets no price, nor does one with 24 in regular hours.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tapeline import read_bars
from tests.pipeline import Pipeline

Values = tuple[Any, ...]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# 7 October 2013 in New York: before hours, regular hours and after hours, in UTC. The names of the
# gold tape are taken for shares too.
TURNS = (8 * HOUR_MS, 13 * HOUR_MS + HOUR_MS // 2, 20 * HOUR_MS)
SPY = ("spy_20131007", 250_601, ["1000tick", "50000volume", "10000000dollar"])
GOLD = ("gold_20131007", 40_182, ["100tick", "250volume", "1000000dollar"])
FIRST = datetime(2013, 10, 1, tzinfo=timezone.utc)
LAST = FIRST + timedelta(days=20)


def rows_of(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the trades of each symbol by time, those of one millisecond as the tape has them."""
    found = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found[row["symbol"]].append(row)
    for rows in found.values():
        rows.sort(key=lambda row: int(row["event_time_ms"]))
    return found


def summed(rows: list[dict[str, str]], length: str) -> Iterator[Values]:
    """Yield start, end, open, high, low, close, volume, notional and count of each bar."""
    kind = length.lstrip("0123456789")
    goal = int(length.removesuffix(kind))

    def stretch(row: dict[str, str]) -> tuple[int, int]:
        day, in_day = divmod(int(row["event_time_ms"]), DAY_MS)
        return day, sum(turn <= in_day for turn in TURNS)

    for (_, part), together in groupby(rows, key=stretch):
        bar: list[dict[str, str]] = []
        volume = notional = Decimal(0)
        for row in together:
            bar.append(row)
            volume += Decimal(row["volume"])
            notional += Decimal(row["price"]) * Decimal(row["volume"])
            if {"tick": len(bar), "volume": volume, "dollar": notional}[kind] >= goal:
                yield values_of(bar, volume, notional, is_regular=part == 2)
                bar, volume, notional = [], Decimal(0), Decimal(0)
        if bar:
            yield values_of(bar, volume, notional, is_regular=part == 2)


def values_of(
    bar: list[dict[str, str]], volume: Decimal, notional: Decimal, *, is_regular: bool
) -> Values:
    barred = {"12", "24"} if is_regular else {"12"}
    prices = [float(r["price"]) for r in bar if not barred & set(r["conditions"].split("|"))]
    times = [int(bar[0]["event_time_ms"]), int(bar[-1]["event_time_ms"])]
    of_prices = (prices[0], max(prices), min(prices), prices[-1]) if prices else (None,) * 4
    return (*times, *of_prices, volume, notional, len(bar))


@pytest.mark.parametrize(("name", "trades", "lengths"), [GOLD, SPY], ids=["gold", "spy"])
def test_bars_by_what_was_traded_equal_a_running_sum(
    pipeline: Pipeline, name: str, trades: int, lengths: list[str]
) -> None:
    tape = Path(os.environ["TAPELINE_TAPES"]) / f"{name}.trades.csv.gz"
    pipeline.client.claim_policy(pipeline.settings.stream.policy)
    pipeline.send_tape(tape)
    pipeline.ingest()
    assert pipeline.finalize(max_windows=10_000).is_finished
    by_symbol = rows_of(tape)
    assert sum(map(len, by_symbol.values())) == trades

    for length in lengths:
        bars = 0
        for symbol, rows in by_symbol.items():
            found = read_bars(
                symbol, length, FIRST, LAST, keyspace=pipeline.name, exact=True, detail=True
            ).to_pylist()
            assert all(bar["is_final"] and bar["is_complete"] for bar in found)
            names = ("open", "high", "low", "close", "volume", "notional", "trade_count")
            ours = [
                (
                    *(round(bar[at].timestamp() * 1000) for at in ("window_start", "window_end")),
                    *(bar[field] for field in names),
                )
                for bar in found
            ]
            assert ours == list(summed(rows, length))
            bars += len(ours)
        assert bars > 20
