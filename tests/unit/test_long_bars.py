"""Longer bars while they form are what rolling up all their parts gives."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tapeline.live.longer import LongBars
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import roll_up_bars
from tests.sample import a_bar

OPENING = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)


@pytest.mark.parametrize("interval", ["15m", "1h", "4h", "1d"])
@pytest.mark.parametrize("seed", range(5))
def test_parts_in_any_order_and_changed_again_give_the_roll_up(interval: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    length = ReadInterval.parse(interval)
    longer, parts = LongBars(length), {}
    for _ in range(60):
        start = OPENING + FIVE * chance.randrange(-4, 20)
        price = chance.choice([None, chance.uniform(1, 9)])
        part = a_bar(
            window_start=start,
            **dict.fromkeys(("open", "high", "low", "close"), price),
            volume=Decimal(chance.randrange(100)),
            notional=Decimal(chance.randrange(1000)),
            trade_count=chance.randrange(1, 9),
            session="regular" if start >= OPENING else "pre",
        )
        parts[start] = part
        if not longer.put(part):
            continue
        newest = roll_up_bars([parts[s] for s in sorted(parts)], length, None)[-1]
        ours = longer.bar()
        assert ours is not None
        assert ours == replace(newest, updated_at=None, reason=None)


def test_a_day_of_an_equity_has_its_regular_session_alone() -> None:
    longer = LongBars(ReadInterval.parse("1d"))
    assert not longer.put(a_bar(window_start=OPENING - FIVE, session="pre"))
    assert longer.bar() is None
    assert longer.put(a_bar(window_start=OPENING, session="regular"))
    bar = longer.bar()
    assert bar is not None
    assert bar.window_end == datetime(2026, 11, 20, 21, tzinfo=timezone.utc)
