"""Live push from a real `tapeline api`: open bars and trades from the log, final ones from tables.

Spark does not run here: what comes from the log comes without it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Producer
from rich.console import Console
from websockets.asyncio.client import connect

from tapeline.api.poll import PollRequest, poll
from tapeline.local import kafka
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack, read_state
from tapeline.model.bar import Bar, Interval
from tapeline.model.times import floor_to
from tapeline.model.trade import Trade, encode_trade
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress
from tests.commands import TIMEOUT_S, wait_for
from tests.page import read_page
from tests.pipeline import Pipeline
from tests.sample import a_bar, write_bars
from tests.served import Heard, ServedApi, get, listening, served_api, until

DAYS_AGO = datetime(2026, 11, 3, 14, 35, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)
NOT_LONG_S = 10
"""Of a machine that does much other work; bench/ measures how fast it is."""


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[ServedApi]:
    """An API on the topic and the keyspace of the pipeline."""
    with served_api(pipeline.name) as api:
        yield api


@pytest.fixture
def api_without_log(pipeline: Pipeline) -> Iterator[ServedApi]:
    """An API whose topic does not exist: the tables serve."""
    with served_api(pipeline.name, topic=f"{pipeline.name}_none") as api:
        yield api


def now() -> datetime:
    return datetime.now(timezone.utc)


def window() -> datetime:
    """Return the start of the present five minutes, of which there is some time left."""
    while now() - floor_to(FIVE, now()) > FIVE - timedelta(seconds=60):
        time.sleep(1)
    return floor_to(FIVE, now())


def send(pipeline: Pipeline, *trades: Trade) -> None:
    """Put trades into the topic as the producer does."""
    producer = Producer(
        {
            "bootstrap.servers": pipeline.endpoints.bootstrap_servers,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for trade in trades:
        producer.produce(pipeline.name, encode_trade(trade), trade.symbol)
    assert producer.flush(120) == 0


def trade(number: int, price: float, at: datetime | None = None, symbol: str = "AAPL") -> Trade:
    received, at = now(), at or now()
    ms, us = (int(t.timestamp() * scale) for t, scale in ((at, 1e3), (received, 1e6)))
    return Trade(symbol, price, 2.0, ms, None, number, us, 0, "test")


def now_bar(**changes: Any) -> Bar:
    return a_bar(window_start=floor_to(FIVE, now()), volume=Decimal("1.5"), **changes)


async def is_live(heard: Heard) -> None:
    await until(heard, "state", lambda state: state["live"] == "up")


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


async def looked(api: ServedApi) -> None:
    """Wait until the API has read the tables for those who listen by now."""
    before = await asyncio.to_thread(reads, api)
    # One look may have begun before they came, and of the next only the read is counted.
    while await asyncio.to_thread(reads, api) < before + 3:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.1)


def test_a_trade_is_at_a_listener_though_the_tables_have_nothing_of_it(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen() -> list[float]:
        delays = []
        async with listening(api.url, "AAPL,MSFT", channels="bars,trades") as heard:
            send(pipeline, trade(0, 99.0))
            await until(heard, "bar", lambda bar: bar["close"] == 99.0)
            for number in range(1, 21):
                sent = time.monotonic()
                send(pipeline, trade(number, 100.0 + number))
                got = await until(heard, "trade", lambda t, n=number: t["trade_id"] == str(n))
                bar = await until(heard, "bar", lambda b, n=number: b["close"] == 100.0 + n)
                delays.append(time.monotonic() - sent)
                assert (got["price"], got["symbol"]) == (100.0 + number, "AAPL")
                assert (bar["is_final"], bar["revision"], bar["interval"]) == (False, 0, "5m")
        return delays

    window()
    assert sorted(run(listen()))[10] < NOT_LONG_S
    assert (pipeline.bars(), pipeline.rows("trades_silver")) == ({}, [])


def test_a_window_is_whole_though_its_first_trades_came_before_anyone_listened(
    pipeline: Pipeline, api: ServedApi
) -> None:
    """Out of order, twice, and one that is stamped ahead of its receipt."""
    start = window()
    ahead = trade(5, 15.0, now() + timedelta(seconds=8))
    some = [trade(n, 10.0 + n, start + timedelta(milliseconds=n)) for n in (3, 1, 2)]
    late = trade(0, 5.0, start - timedelta(seconds=1))
    send(pipeline, *some, ahead, some[0], late, some[1])
    send(pipeline, trade(9, 1.0, symbol="MSFT"))

    async def listen() -> dict[str, Any]:
        async with listening(api.url, "AAPL") as heard:
            return await until(heard, "bar", lambda b: b["window_start"] == iso(start))

    bar = run(listen())
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (11.0, 15.0, 11.0, 15.0)
    assert (bar["volume"], bar["trade_count"]) == (8.0, 4)
    # REST has the same bar, and the one that the late trade is in.
    query = {"interval": "5m", "start": iso(start - FIVE)}
    bars = get(f"{api.url}/v1/bars/AAPL", params=query).json()["bars"]
    bar.pop("interval")
    assert bars[1] == bar
    assert (bars[0]["open"], bars[0]["trade_count"]) == (5.0, 1)
    latest = get(f"{api.url}/v1/bars/latest", params={"symbols": "AAPL"}).json()["bars"]
    assert latest == [bar]


def iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def test_longer_bars_are_of_stored_ones_and_the_open_one(
    pipeline: Pipeline, api: ServedApi
) -> None:
    start = window()
    # One before the open window where the hour has one, final, with 4 trades and a low of 0.5.
    is_later = start - FIVE >= floor_to(timedelta(hours=1), start)
    if is_later:
        write_bars(
            pipeline.client,
            a_bar(window_start=start - FIVE, is_final=True, revision=1, symbol="X:Y"),
        )
    before = 4 if is_later else 0

    async def listen() -> list[dict[str, Any]]:
        async with listening(api.url, "X:Y", interval="5m,1h,4h") as heard:
            await is_live(heard)
            await looked(api)
            send(pipeline, trade(1, 50.0, symbol="X:Y"), trade(2, 51.0, symbol="X:Y"))
            found: dict[str, dict[str, Any]] = {}
            async for name, bar in heard:
                if name == "bar" and bar["close"] == 51.0:
                    found[bar["interval"]] = bar
                if len(found) == 3:
                    return [found[n] for n in ("5m", "1h", "4h")]
        raise AssertionError

    five, *longer = run(listen())
    assert (five["trade_count"], five["open"]) == (2, 50.0)
    for bar, name in zip(longer, ("1h", "4h"), strict=True):
        assert bar["trade_count"] == before + 2
        assert (bar["high"], bar["low"]) == (51.0, 0.5 if is_later else 50.0)
        found = get(f"{api.url}/v1/bars/X:Y", params={"interval": name}).json()["bars"]
        bar.pop("interval")
        if name == "1h":
            assert found[-1] == bar


def test_a_final_bar_is_the_last_of_its_window(pipeline: Pipeline, api: ServedApi) -> None:
    """It differs from the last provisional one in being final; no later trade moves it."""
    start = window()

    async def listen() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with listening(api.url, "AAPL") as heard:
            await is_live(heard)
            send(pipeline, trade(1, 10.0), trade(2, 12.0))
            last = await until(heard, "bar", lambda b: b["trade_count"] == 2)
            times = [(datetime.fromisoformat(last[n])) for n in ENDS]
            values = {n: last[n] for n in ("open", "high", "low", "close", "vwap", "session")}
            volume = Decimal(str(last["volume"]))
            final = a_bar(
                window_start=times[0],
                **values,
                volume=volume,
                trade_count=2,
                is_final=True,
                revision=1,
                is_complete=True,
            )
            write_bars(pipeline.client, final)
            rest = [await until(heard, "bar", lambda b: b["is_final"])]
            send(pipeline, trade(3, 13.0))
            write_bars(pipeline.client, replace(final, revision=2, trade_count=3, close=13.0))
            rest.append(await until(heard, "bar", lambda _: True))
            return last, rest

    last, (final, revised) = run(listen())
    assert last["window_start"] == iso(start)
    assert {n for n in last if last[n] != final[n]} == {"is_final", "revision", "is_complete"}
    assert (revised["revision"], revised["is_final"]) == (2, True)


ENDS = ("window_start", "window_end")


def test_a_window_that_other_topics_have_fed_is_the_tables(
    pipeline: Pipeline, api: ServedApi
) -> None:
    """Trades of a topic that is gone are in silver and not in the log."""
    start = window()
    at = start + timedelta(seconds=1)
    for topic in ("gone", pipeline.topic_id):
        pipeline.client.write_progress(topic, [PartitionProgress(0, 1, at, at)])

    async def listen() -> list[Mapping[str, Any]]:
        found = []
        async with listening(api.url, "AAPL", channels="bars,trades") as heard:
            await is_live(heard)
            send(pipeline, trade(1, 77.0))
            await until(heard, "trade", lambda _: True)
            write_bars(pipeline.client, now_bar(trade_count=9))
            async for name, data in heard:
                if name == "bar":
                    found.append(data)
                if name == "state" and found:
                    return found
        raise AssertionError

    assert [bar["trade_count"] for bar in run(listen())] == [9]


def test_without_the_log_the_tables_serve_and_the_state_says_so(
    pipeline: Pipeline, api_without_log: ServedApi
) -> None:
    async def listen() -> list[float]:
        delays = []
        async with listening(api_without_log.url, "AAPL,MSFT") as heard:
            await until(heard, "state", lambda state: state["live"] == "away")
            for count in range(1, 9):
                written = time.monotonic()
                write_bars(pipeline.client, now_bar(trade_count=count))
                await until(heard, "bar", lambda b, c=count: b["trade_count"] == c)
                delays.append(time.monotonic() - written)
        return delays

    window()
    delays = sorted(run(listen()))
    assert delays[len(delays) // 2] < NOT_LONG_S, delays


def test_where_the_bars_are_made_by_other_rules_the_tables_serve_and_the_state_says_so(
    pipeline: Pipeline, api: ServedApi
) -> None:
    window()
    write_bars(pipeline.client, now_bar(policy="mine@0123456789", close=50.0))

    async def listen() -> dict[str, Any]:
        async with listening(api.url, "AAPL", channels="bars,trades") as heard:
            await until(heard, "state", lambda state: state["live"] == "other_policy")
            send(pipeline, trade(0, 99.0))
            await until(heard, "trade", lambda got: got["price"] == 99.0)
            write_bars(
                pipeline.client, now_bar(policy="mine@0123456789", close=51.0, trade_count=5)
            )
            return await until(heard, "bar", lambda bar: bar["close"] != 50.0)

    assert run(listen())["close"] == 51.0


def test_a_burst_is_told_of_and_not_a_trade_of_it_is_missing(
    pipeline: Pipeline, api: ServedApi
) -> None:
    many = 150_000

    async def listen() -> tuple[dict[str, Any], int, float]:
        async with listening(api.url, "AAPL") as heard:
            await is_live(heard)
            start = await asyncio.to_thread(window)
            some = [trade(n, 10.0, start + timedelta(milliseconds=n // 100)) for n in range(many)]
            began_s = time.monotonic()
            burst = asyncio.create_task(asyncio.to_thread(send, pipeline, *some))
            await until(heard, "state", lambda state: state["live"] == "behind")
            events = 0
            async for name, data in heard:
                events += name == "bar"
                if name == "bar" and data["trade_count"] == many:
                    took_s = time.monotonic() - began_s
                    await until(heard, "state", lambda state: state["live"] == "up")
                    await burst
                    return data, events, took_s
        raise AssertionError

    bar, events, took_s = run(listen())
    assert bar["volume"] == 2.0 * many
    assert events <= 10 * took_s + 10  # ten a second at most


def test_it_goes_on_where_it_was_when_kafka_comes_back(
    pipeline: Pipeline,
    api: ServedApi,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
) -> None:
    service = next(s for s in read_state(home).services if s.name == kafka.NAME)

    async def listen() -> tuple[dict[str, Any], dict[str, Any]]:
        async with listening(api.url, "BINANCE:X") as heard:
            await is_live(heard)
            send(pipeline, trade(1, 10.0, symbol="BINANCE:X"))
            before: dict[str, Any] = await until(heard, "bar", lambda b: b["trade_count"] == 1)
            with ExitStack() as ours:
                await asyncio.to_thread(ours.enter_context, turn())
                await asyncio.to_thread(service.stop)
                await until(heard, "state", lambda state: state["live"] == "away")
                await asyncio.to_thread(LocalStack(home, Console()).up, keep=True)
            await is_live(heard)
            send(pipeline, trade(2, 11.0, symbol="BINANCE:X"))
            bar: dict[str, Any] = await until(heard, "bar", lambda b: b["close"] == 11.0)
            return before, bar

    window()
    before, bar = run(listen())
    is_same_window = bar["window_start"] == before["window_start"]
    assert bar["trade_count"] == (2 if is_same_window else 1)


def test_one_who_comes_back_reads_again_and_no_final_bar_is_lost(
    pipeline: Pipeline, api: ServedApi
) -> None:
    """Also when the API was dead meanwhile, and however old the bar is."""
    write_bars(pipeline.client, now_bar(trade_count=7))
    api.kill()
    write_bars(
        pipeline.client, a_bar(window_start=DAYS_AGO, is_final=True, revision=2, is_complete=False)
    )
    api.start()

    async def listen() -> list[str]:
        async with listening(api.url, "AAPL", last_id=1) as heard:
            return [name async for name, _ in first(heard, 2)]

    assert run(listen()) == ["state", "reset"]
    query = {"start": "2026-11-03", "end": "2026-11-04"}
    (bar,) = get(f"{api.url}/v1/bars/AAPL", params=query).json()["bars"]
    assert (bar["revision"], bar["is_complete"]) == (2, False)


async def first(heard: Heard, many: int) -> Heard:
    for _ in range(many):
        yield await anext(heard)


def test_a_revision_of_an_old_bar_comes_to_those_who_listen(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen() -> dict[str, Any]:
        async with listening(api.url, "AAPL") as heard:
            await looked(api)
            write_bars(pipeline.client, a_bar(window_start=DAYS_AGO, is_final=True, revision=3))
            return await until(heard, "bar", lambda b: b["revision"] == 3)

    assert run(listen())["window_start"] == "2026-11-03T14:35:00Z"


def test_a_longer_bar_is_final_when_all_is_finalized_up_to_its_end(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen() -> list[dict[str, Any]]:
        async with listening(api.url, "AAPL", interval="15m") as heard:
            await looked(api)
            write_bars(pipeline.client, a_bar(window_start=DAYS_AGO, is_final=True, revision=1))
            await looked(api)
            pipeline.client.write_final_until(pipeline.topic_id, DAYS_AGO + FIVE * 4)
            found = [await until(heard, "bar", lambda b: b["is_final"])]
            write_bars(
                pipeline.client, a_bar(window_start=DAYS_AGO, is_final=True, revision=2, close=1.5)
            )
            found.append(await until(heard, "bar", lambda b: b["revision"] == 2))
            return found

    first_final, revised = run(listen())
    assert (first_final["window_start"], first_final["close"]) == ("2026-11-03T14:30:00Z", 2.0)
    assert (revised["window_start"], revised["close"]) == ("2026-11-03T14:30:00Z", 1.5)


def test_a_bar_that_becomes_final_while_it_is_looked_at_is_seen_final(pipeline: Pipeline) -> None:
    bar = now_bar()
    write_bars(pipeline.client, bar)
    at = now()
    final = replace(bar, is_final=True, revision=1, updated_at=at)

    class Meanwhile(CassandraClient):
        """The finalizer writes between two reads of ours; it has logged the change before."""

        def stored_bars(self, interval: Interval, keys: Any) -> Any:
            self.write_bars(interval, [(final, int(at.timestamp() * 1e6))])
            return super().stored_bars(interval, keys)

    # Logged, and not written yet.
    log_only: Any = _LogOnly(pipeline.client)
    CassandraClient.write_final_bars(log_only, Interval.FIVE_MINUTES, [(final, 1)])
    endpoints, topic = pipeline.endpoints, (Interval.FIVE_MINUTES, "AAPL")
    with closing(
        Meanwhile(pipeline.settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    ) as client:
        since = at - timedelta(minutes=1)
        wanted = PollRequest(
            frozenset({topic}),
            since,
            frozenset(),
            {topic: since - FIVE},
            {},
            frozenset(),
            shown={},
            open={},
            asks_progress=False,
        )
        seen = poll(client, wanted)

    assert seen.changed[Interval.FIVE_MINUTES, "AAPL", bar.window_start].is_final


class _LogOnly:
    """A client that logs changes and writes no bars."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return (lambda *_, **__: None) if name == "write_bars" else getattr(self._client, name)


def test_one_read_serves_all_listeners_and_none_reads_for_nobody(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen(many: int) -> tuple[float, float, float]:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(listening(api.url, "AAPL")) for _ in range(many)
            ]
            await looked(api)
            began_s, before = time.monotonic(), await asyncio.to_thread(reads, api)
            while (looks := await asyncio.to_thread(reads, api) - before) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            took_s = time.monotonic() - began_s
            send(pipeline, trade(1, 11.0))
            for heard in streams:
                await until(heard, "bar", lambda b: b["close"] == 11.0)
            return looks, took_s, listeners(api)

    looks, took_s, many = run(listen(30))
    assert many == 30
    assert looks <= took_s / 0.4 + 1  # one each 0.4 s, not one for each listener
    wait_for(lambda: listeners(api) == 0)
    wait_for(lambda: reads_nothing(api))


def reads_nothing(api: ServedApi) -> bool:
    """Look on for a while: a read may still be under way as the last listener leaves."""
    before = reads(api)
    time.sleep(2)
    return reads(api) == before


def listeners(api: ServedApi) -> float:
    return read_page(f"{api.url}/metrics")["tapeline_api_listeners"]


def reads(api: ServedApi) -> float:
    return read_page(f"{api.url}/metrics")['tapeline_api_store_reads_total{outcome="ok"}']


def test_a_web_socket_subscribes_and_unsubscribes(pipeline: Pipeline, api: ServedApi) -> None:
    async def talk() -> list[dict[str, Any]]:
        found = []
        async with connect(f"ws://127.0.0.1:{api.port}/v1/ws") as client:

            async def ask(**wish: Any) -> None:
                await client.send(json.dumps(wish))

            async def until_event(name: str) -> Any:
                while True:
                    message = json.loads(await client.recv())
                    if message["event"] == name:
                        return message["data"]

            await until_event("state")
            await ask(action="subscribe", symbols=["AAPL"], channels=["bars", "trades"])
            found.append(await until_event("subscribed"))
            assert await until_event("followed") == found[0]
            await client.send("nonsense")
            found.append(await until_event("error"))
            await ask(action="subscribe", symbols=["AAPL"], interval="7m")
            found.append(await until_event("error"))
            send(pipeline, trade(0, 9.0))
            await until_event("bar")  # so it is followed from here on
            send(pipeline, trade(1, 10.0))
            found += [await until_event("trade"), await until_event("bar")]
            await ask(action="unsubscribe", symbols=["AAPL"])
            await until_event("unsubscribed")
            send(pipeline, trade(2, 12.0))
            names = []
            while (message := json.loads(await client.recv()))["event"] != "trade":
                names.append(message["event"])
            assert "bar" not in names
        return found

    window()
    subscribed, nonsense, wrong, traded, bar = run(talk())
    assert subscribed["symbols"] == ["AAPL"]
    assert nonsense["detail"].startswith("message: ")
    assert wrong["detail"].startswith("interval: ")
    assert (traded["price"], bar["close"], bar["interval"]) == (10.0, 10.0, "5m")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_though_a_stream_is_open(api: ServedApi, number: int) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client:
        client.sendall(b"GET /v1/stream?symbols=A HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        code = api.stop(number)
        rest = b"".join(iter(lambda: client.recv(4096), b""))
    assert code == 0
    assert rest.endswith(b"0\r\n\r\n")  # ended by us, and not cut off
