"""A day of bars of a seeded random market, written as the finalizer and the stream write them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import groupby

from tapeline.model.bar import Bar, Interval
from tapeline.model.gap import Gap, GapKind
from tapeline.model.sessions import asset_class_of, session_at
from tapeline.simulator.market import INSTRUMENTS, Instrument
from tapeline.storage.windows import PartitionProgress

from .pipeline import Pipeline
from .statuses import send_status

_DAY_BARS = 420
_FIVE = timedelta(minutes=5)
_PROVISIONAL = timedelta(minutes=15)


@dataclass(frozen=True)
class Market:
    """What was written: bars of five minutes by symbol, and the gap."""

    bars: dict[str, list[Bar]]
    gap: Gap


def write_market(pipeline: Pipeline) -> Market:
    """Write bars of the last day and a half, hours of them, and a gap of the feed."""
    now = datetime.now(timezone.utc)
    newest = now - (now - datetime(2000, 1, 1, tzinfo=timezone.utc)) % _FIVE
    gap_start = newest - timedelta(hours=3, minutes=23)
    gap = _gap(pipeline, gap_start, gap_start + timedelta(minutes=17))
    choice = random.Random(11)  # noqa: S311 - a market, not a secret
    bars = {i.symbol: list(_walk(i, newest, now, gap_start, choice)) for i in INSTRUMENTS}
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        for some in bars.values():
            whole = some if interval is Interval.FIVE_MINUTES else list(_hours(some))
            writes = [(bar, int(now.timestamp() * 1e6)) for bar in whole]
            pipeline.client.write_final_bars(interval, [w for w in writes if w[0].is_final])
            pipeline.client.write_bars(interval, [w for w in writes if not w[0].is_final])
    pipeline.client.write_gaps([gap])
    _say_that_the_feed_lives(pipeline, now)
    return Market(bars, gap)


def _say_that_the_feed_lives(pipeline: Pipeline, now: datetime) -> None:
    """Report as a producer that is connected, and as an ingest that has kept up."""
    send_status(pipeline, "test", is_live=True, frames=1, trades=1)
    pipeline.client.write_progress(pipeline.topic_id, [PartitionProgress(0, 4_812_906, now, now)])


def _walk(
    instrument: Instrument,
    newest: datetime,
    now: datetime,
    gap_start: datetime,
    choice: random.Random,
) -> Iterator[Bar]:
    price, drift = instrument.price, 0.0
    digits = max(2, round(-math.log10(instrument.tick)))
    for number in range(_DAY_BARS):
        start = newest - _FIVE * (_DAY_BARS - 1 - number)
        drift = 0.9 * drift + choice.gauss(0, 0.00005)
        steps = [price]
        for _ in range(24):
            steps.append(steps[-1] * (1 + drift / 12 + choice.gauss(0, 0.0003)))
        price = steps[-1]
        prices = [round(p, digits) for p in steps]
        count = max(1, int(instrument.trades_per_s * 300 * choice.lognormvariate(-0.3, 0.45)))
        volume = Decimal(count * choice.randint(20, 140)) / (100 if ":" in instrument.symbol else 1)
        in_gap = gap_start - _FIVE < start < gap_start + timedelta(minutes=17)
        is_final = start + _FIVE < now - _PROVISIONAL
        revision = 2 if choice.random() < 0.012 else 1
        yield Bar(
            symbol=instrument.symbol,
            window_start=start,
            window_end=start + _FIVE,
            open=prices[0],
            high=max(prices),
            low=min(prices),
            close=prices[-1],
            volume=volume,
            notional=volume * Decimal(str(prices[-1])),
            vwap=round(sum(prices) / len(prices), digits + 2),
            trade_count=count,
            session=session_at(instrument.symbol, start).value,
            asset_class=asset_class_of(instrument.symbol).value,
            policy="sip+oddlot",
            is_final=is_final,
            is_complete=(not in_gap) if is_final else None,
            revision=revision if is_final else 0,
            updated_at=now,
        )


def _hours(bars: list[Bar]) -> Iterator[Bar]:
    for hour, parts in groupby(bars, lambda bar: bar.window_start.replace(minute=0)):
        some = list(parts)
        is_final = all(bar.is_final for bar in some)
        yield replace(
            some[-1],
            window_start=hour,
            window_end=hour + timedelta(hours=1),
            open=some[0].open,
            high=max(bar.high for bar in some if bar.high is not None),
            low=min(bar.low for bar in some if bar.low is not None),
            volume=sum((bar.volume for bar in some), Decimal(0)),
            trade_count=sum(bar.trade_count for bar in some),
            is_final=is_final,
            is_complete=all(bar.is_complete for bar in some) if is_final else None,
            revision=1 if is_final else 0,
        )


def _gap(pipeline: Pipeline, start: datetime, end: datetime) -> Gap:
    return Gap(
        "test",
        pipeline.settings.kafka.topic,
        pipeline.topic_id,
        GapKind.DISCONNECTED,
        tuple(instrument.symbol for instrument in INSTRUMENTS),
        int(start.timestamp() * 1e6),
        int(end.timestamp() * 1e6),
        int(end.timestamp() * 1e6),
    )
