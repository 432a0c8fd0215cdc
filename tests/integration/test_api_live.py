"""Live push from a real `tapeline api`: what changes comes, and nothing final is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tapeline.api.look import Look, look
from tapeline.bar import Bar, Interval
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.live_rows import write_final_bars
from tests.page import read_page
from tests.pipeline import Pipeline
from tests.sample import a_bar
from tests.served import ServedApi, listening, served_api

Heard = AsyncIterator[tuple[int, dict[str, Any]]]
DAYS_AGO = datetime(2026, 11, 3, 14, 35, tzinfo=timezone.utc)


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[ServedApi]:
    with served_api(pipeline.name) as api:
        yield api


def now_bar(**changes: Any) -> Bar:
    now = datetime.now(timezone.utc)
    start = now - (now - datetime(2000, 1, 1, tzinfo=timezone.utc)) % timedelta(minutes=5)
    return a_bar(window_start=start, volume=Decimal("1.5"), **changes)


def write(pipeline: Pipeline, *bars: Bar) -> None:
    """Put bars into gold as the stream (provisional) or the settler (final) does."""
    now = datetime.now(timezone.utc)
    writes = [(replace(bar, updated_at=now), int(now.timestamp() * 1e6)) for bar in bars]
    provisional = [w for w in writes if not w[0].is_final]
    if provisional:
        pipeline.client.write_bars(Interval.FIVE_MINUTES, provisional)
    write_final_bars(pipeline.client, Interval.FIVE_MINUTES, [w for w in writes if w[0].is_final])


async def until(heard: Heard, wanted: Any) -> tuple[int, dict[str, Any]]:
    """Listen until a bar comes that is wanted."""
    async for number, bar in heard:
        if wanted(bar):
            return number, bar
    raise AssertionError


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 90))


def test_each_change_comes_within_a_second_or_two(pipeline: Pipeline, api: ServedApi) -> None:
    async def listen() -> list[float]:
        delays = []
        async with listening(api.url, "AAPL,MSFT") as heard:
            for count in range(1, 9):
                written = time.monotonic()
                write(pipeline, now_bar(trade_count=count))
                _, bar = await until(heard, lambda b, c=count: b["trade_count"] == c)
                delays.append(time.monotonic() - written)
                assert (bar["symbol"], bar["is_final"], bar["interval"]) == ("AAPL", False, "5m")
        return delays

    delays = sorted(run(listen()))
    assert delays[len(delays) // 2] < 1.5, delays


def test_no_final_bar_is_lost_while_the_api_is_dead_however_old_it_is(
    pipeline: Pipeline, api: ServedApi
) -> None:
    """Two in one write share their millisecond; one bar is from weeks ago."""
    first, other = now_bar(is_final=True, revision=1), now_bar(symbol="MSFT", is_final=True)
    old = a_bar(window_start=DAYS_AGO, is_final=True, revision=2, is_complete=False)

    async def before() -> int:
        async with listening(api.url, "AAPL,MSFT") as heard:
            write(pipeline, now_bar(trade_count=7))
            number, _ = await until(heard, lambda b: b["trade_count"] == 7)
            return number

    async def after(last_id: int) -> dict[tuple[str, str], dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        async with listening(api.url, "AAPL,MSFT", last_id) as heard:
            async for _, bar in heard:
                found[bar["symbol"], bar["window_start"]] = bar
                if sum(b["is_final"] for b in found.values()) == 3:
                    return found
        raise AssertionError

    last_id = run(before())
    api.kill()
    write(pipeline, first, other)
    write(pipeline, old)
    api.start()
    found = run(after(last_id))

    revised = found["AAPL", "2026-11-03T14:35:00Z"]
    assert (revised["revision"], revised["is_complete"]) == (2, False)
    assert {symbol for symbol, _ in found} == {"AAPL", "MSFT"}


def test_a_revision_of_an_old_bar_comes_to_those_who_listen(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen() -> dict[str, Any]:
        async with listening(api.url, "AAPL") as heard:
            await asyncio.sleep(2)
            write(pipeline, a_bar(window_start=DAYS_AGO, is_final=True, revision=3))
            return (await until(heard, lambda b: b["revision"] == 3))[1]

    assert run(listen())["window_start"] == "2026-11-03T14:35:00Z"


def test_a_bar_that_becomes_final_while_it_is_looked_at_is_seen_final(pipeline: Pipeline) -> None:
    bar = now_bar()
    write(pipeline, bar)
    now = datetime.now(timezone.utc)
    final = replace(bar, is_final=True, revision=1, updated_at=now)

    class Meanwhile(CassandraClient):
        """The settler writes between two reads of ours; it has logged the change before."""

        def stored_bars(self, interval: Interval, keys: Any) -> Any:
            self.write_bars(interval, [(final, int(now.timestamp() * 1e6))])
            return super().stored_bars(interval, keys)

    pipeline.session.execute(
        "INSERT INTO bar_changes (bucket, logged_at, bar_interval, symbol, window_start, "
        "updated_at) VALUES (%s, %s, %s, %s, %s, %s)",
        (now.replace(minute=0, second=0, microsecond=0), now, "5m", "AAPL", bar.window_start, now),
    )
    endpoints, topic = pipeline.endpoints, (Interval.FIVE_MINUTES, "AAPL")
    with closing(
        Meanwhile(pipeline.settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    ) as client:
        since = now - timedelta(minutes=1)
        seen = look(client, Look(frozenset({topic}), since, since, frozenset(), is_wide=False))

    assert seen.newest[Interval.FIVE_MINUTES, "AAPL", bar.window_start].is_final


@pytest.mark.parametrize("last_id", [0, 10**13, 10**30])
def test_an_id_of_too_long_ago_or_of_no_time_says_to_begin_anew(
    api: ServedApi, last_id: int
) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as client:
        client.sendall(
            b"GET /v1/stream?symbols=A HTTP/1.1\r\nHost: a\r\nLast-Event-ID: %d\r\n\r\n" % last_id
        )
        seen = b""
        while b"event: reset" not in seen:
            chunk = client.recv(4096)
            assert chunk, seen
            seen += chunk


def test_one_who_has_missed_too_much_is_told_to_begin_anew(
    pipeline: Pipeline, api: ServedApi
) -> None:
    now = datetime.now(timezone.utc)
    half_an_hour_ago = now - timedelta(minutes=30)
    pipeline.client.run(
        "INSERT INTO {keyspace}.bar_changes (bucket, logged_at, bar_interval, symbol, "
        "window_start) VALUES (?, ?, '5m', 'AAPL', ?)",
        [
            (
                half_an_hour_ago.replace(minute=0, second=0, microsecond=0),
                half_an_hour_ago + timedelta(milliseconds=number),
                DAYS_AGO + number * timedelta(minutes=5),
            )
            for number in range(2_500)
        ],
    )
    write(pipeline, now_bar())

    def events_until_a_bar(away: timedelta) -> list[str]:
        last_id = str(int((now - away).timestamp() * 1000))
        query, headers = {"symbols": "AAPL"}, {"Last-Event-ID": last_id}
        found: list[str] = []
        with httpx.stream(
            "GET", f"{api.url}/v1/stream", params=query, headers=headers, timeout=30
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    found.append(line.removeprefix("event: "))
                if line == "event: bar":
                    break
        return found

    assert "reset" in events_until_a_bar(timedelta(minutes=40))
    assert "reset" not in events_until_a_bar(timedelta(minutes=5))


def test_a_heartbeat_moves_the_place_where_one_who_comes_back_goes_on(
    pipeline: Pipeline, api: ServedApi
) -> None:
    """What was logged for others only need not be read again for this one."""
    write(pipeline, now_bar())
    ids: list[int] = []
    logged_ms = 0
    with httpx.stream(
        "GET", f"{api.url}/v1/stream", params={"symbols": "AAPL"}, timeout=30
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                ids.append(int(line.removeprefix("id: ")))
            if ids and not logged_ms:
                logged_ms = int(datetime.now(timezone.utc).timestamp() * 1000)
                write(pipeline, now_bar(symbol="MSFT", is_final=True, revision=1))
            if logged_ms and ids[-1] >= logged_ms:
                break

    assert ids == sorted(ids)
    assert ids[0] < logged_ms


def test_one_read_serves_all_listeners_and_none_reads_for_nobody(
    pipeline: Pipeline, api: ServedApi
) -> None:
    async def listen(many: int) -> tuple[float, float]:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(listening(api.url, "AAPL")) for _ in range(many)
            ]
            await asyncio.sleep(1)
            before = reads(api)
            await asyncio.sleep(4)
            looks = reads(api) - before
            write(pipeline, now_bar(trade_count=11))
            for heard in streams:
                await until(heard, lambda b: b["trade_count"] == 11)
            return looks, read_page(f"{api.url}/metrics")["tapeline_api_listeners"]

    looks, listeners = run(listen(30))
    assert listeners == 30
    assert 1 <= looks <= 11  # one each 0.4 s, not one for each listener
    time.sleep(2)
    before = reads(api)
    time.sleep(2)
    assert reads(api) == before


def reads(api: ServedApi) -> float:
    return read_page(f"{api.url}/metrics")['tapeline_api_store_reads_total{outcome="ok"}']


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_though_a_stream_is_open(api: ServedApi, number: int) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as client:
        client.sendall(b"GET /v1/stream?symbols=A HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        code = api.stop(number)
        rest = b"".join(iter(lambda: client.recv(4096), b""))
    assert code == 0
    assert rest.endswith(b"0\r\n\r\n")  # ended by us, and not cut off
