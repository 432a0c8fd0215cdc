"""`stream_trades` on a real API: silver first, then the log, and what both missed by final bars."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice

import pytest

from tapeline import stream_trades
from tapeline.client.trades import StreamedTrade
from tapeline.model.times import from_millis
from tapeline.model.trade import Trade
from tests.commands import wait_for
from tests.integration.test_api_live import send, trade, window
from tests.pipeline import Pipeline
from tests.served import Reader, served_api

SYMBOLS = ["AAPL", "BRK/B", "NOBODY TRADES THIS"]
RULES = {"TAPELINE_STREAM__POLICY": "sip"}
AT_ONCE = timedelta(seconds=1)
DELAY = timedelta(minutes=10)
"""From the end of a window until it is final, by default."""


def ids(trades: list[StreamedTrade]) -> list[int]:
    return [trade.trade_id for trade in trades]


def store(pipeline: Pipeline, *trades: Trade, final_in: timedelta | None = None) -> None:
    """Bring trades to silver, and finalize what ends within a time from now, if one is given."""
    send(pipeline, *trades)
    pipeline.ingest()
    if final_in is not None:
        pipeline.now = datetime.now(timezone.utc) + DELAY + final_in
        pipeline.finalize()


def test_each_trade_comes_once_whatever_way_it_takes(pipeline: Pipeline) -> None:
    now = window() + timedelta(seconds=1)  # of the window that is open
    before = [
        trade(n, 10.0 + n, now - timedelta(minutes=40 - 3 * n), SYMBOLS[n % 2]) for n in range(5)
    ]
    store(pipeline, *before, final_in=AT_ONCE)
    store(pipeline, trade(5, 15.0, now), trade(6, 16.0, now + timedelta(milliseconds=5)))
    send(pipeline, trade(7, 17.0, now))  # neither in silver nor live: before anyone listened

    with (
        served_api(pipeline.name, RULES) as api,
        stream_trades(SYMBOLS, now - timedelta(hours=1), url=api.url) as stream,
    ):
        reader = Reader(iter(stream))
        wait_for(lambda: reader.has(7))
        assert ids(reader.items) == [0, 1, 2, 3, 4, 5, 6]
        comes_live(pipeline, reader, trade(8, 18.0, now))  # it is not in silver yet

        api.kill()
        send(pipeline, trade(9, 19.0, now))  # while nobody listens
        api.start()
        comes_live(pipeline, reader, *(trade(n, 20.0, now) for n in range(100, 400)))
        assert not {7, 9} & set(ids(reader.items))

        store(pipeline, final_in=timedelta(minutes=5))
        wait_for(lambda: {7, 9} <= set(ids(reader.items)))
        many = len(reader.items)
        store(pipeline, trade(11, 11.5, now - timedelta(minutes=40)), final_in=AT_ONCE)
        wait_for(lambda: reader.has(many + 1))
        time.sleep(2)  # a trade that came twice would come now
    reader.join()

    came = ids(reader.items)
    assert len(came) == len(set(came))
    assert {*range(10), 11} == {n for n in came if n < 100}
    assert came[-1] == 11
    sent = before[1]
    assert reader.items[1] == StreamedTrade(
        "BRK/B",
        from_millis(sent.event_time_ms),
        11.0,
        2.0,
        None,
        1,
        0,
        "test",
        # Silver keeps milliseconds.
        from_millis(sent.received_at_us // 1000),
    )


def comes_live(pipeline: Pipeline, reader: Reader[StreamedTrade], *trades: Trade) -> None:
    """Send trades, one each second, until one has come."""
    for one in trades:
        sent_s = time.monotonic()
        send(pipeline, one)
        while time.monotonic() < sent_s + (1 if len(trades) > 1 else 300):
            if one.trade_id in ids(reader.items):
                return
            time.sleep(0.01)
    message = "none came"
    raise AssertionError(message)


def test_a_late_trade_of_long_ago_comes_alone_though_the_ids_of_its_window_are_forgotten(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapeline.client.trades._FORGET_S", 0.0)
    now = datetime.now(timezone.utc)
    days_ago = now - timedelta(days=3)

    def received(one: Trade) -> Trade:
        """Return a trade as one that was received when it was made."""
        return one._replace(received_at_us=one.event_time_ms * 1000)

    long_ago = [received(trade(n, 1.0, days_ago)) for n in (0, 1)]
    lately = [received(trade(n, 2.0, now - timedelta(minutes=m))) for n, m in ((2, 40), (3, 20))]
    store(pipeline, *long_ago, *lately, final_in=AT_ONCE)
    with (
        served_api(pipeline.name) as api,
        stream_trades("AAPL", now - timedelta(days=5), url=api.url) as stream,
    ):
        reader = Reader(iter(stream))
        wait_for(lambda: reader.has(4))
        for late in (trade(4, 3.0, days_ago), trade(5, 3.0, days_ago)):
            store(pipeline, late, final_in=AT_ONCE)
            wait_for(partial(reader.has, late.trade_id + 1))
        time.sleep(2)
    reader.join()
    assert ids(reader.items) == [0, 1, 2, 3, 4, 5]


def test_trades_before_the_time_that_is_asked_for_are_left_out_and_a_coroutine_reads_the_same(
    pipeline: Pipeline,
) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    times = [now - timedelta(minutes=m) for m in (40, 39, 38)]
    store(pipeline, *(trade(n, 1.0, at) for n, at in enumerate(times)), final_in=AT_ONCE)

    async def read(url: str) -> list[StreamedTrade]:
        found = []
        async for one in stream_trades("AAPL", times[1], url=url):
            found.append(one)
            if len(found) == 2:
                break
        return found

    with served_api(pipeline.name) as api:
        since = list(islice(stream_trades("AAPL", times[1], url=api.url), 2))
        assert asyncio.run(read(api.url)) == since
    assert ids(since) == [1, 2]
