"""`stream_bars` on a real API: stored bars, then live ones, without a seam and through restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import pytest
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from rich.console import Console

from tapeline import stream_bars
from tapeline.client.bars import StreamedBar
from tapeline.local import cassandra, kafka
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack, read_state
from tapeline.model.bar import Bar
from tapeline.model.errors import UsageError
from tapeline.model.times import floor_to
from tests.commands import wait_for
from tests.pipeline import Pipeline
from tests.sample import a_bar, write_bars
from tests.served import Reader, ServedApi, served_api

START = datetime(2026, 11, 3, 14, 30, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[ServedApi]:
    with served_api(pipeline.name) as api:
        yield api


def final(number: int, symbol: str = "AAPL", revision: int = 1, **changes: object) -> Bar:
    """Return the final bar of a window, counted from `START`."""
    start, own = START + number * FIVE, {"is_final": True, "is_complete": True}
    return a_bar(symbol=symbol, window_start=start, revision=revision, **own, **changes)


def window(bar: StreamedBar) -> tuple[int, str, int]:
    return (bar.window_start - START) // FIVE, bar.symbol, bar.revision


def test_stored_bars_come_first_in_order_of_time_and_then_each_change(
    pipeline: Pipeline, api: ServedApi
) -> None:
    many = 1_100  # more than a page
    write_bars(pipeline.client, *(final(n) for n in range(-1, many)))
    write_bars(pipeline.client, final(0, "MSFT"), final(many - 1, "MSFT"))

    with stream_bars(["AAPL", "MSFT"], since=START, url=api.url) as stream:
        stored = [window(bar) for bar in islice(stream, many + 2)]
        write_bars(pipeline.client, final(many))
        write_bars(pipeline.client, final(3, revision=2, close=1.5))
        first, second = islice(stream, 2)

    aapl = [(n, "AAPL", 1) for n in range(many)]
    assert stored == sorted([*aapl, (0, "MSFT", 1), (many - 1, "MSFT", 1)])
    assert {window(first), window(second)} == {(many, "AAPL", 1), (3, "AAPL", 2)}
    assert {first.close, second.close} == {2.0, 1.5}
    assert (first.interval, first.window_end - first.window_start) == ("5m", FIVE)
    assert first.window_start.tzinfo is not None


def test_each_final_bar_comes_once_though_api_kafka_and_cassandra_are_restarted(
    pipeline: Pipeline,
    api: ServedApi,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
) -> None:
    written = 0

    def write(many: int = 5) -> None:
        nonlocal written
        for _ in range(many):
            write_bars(pipeline.client, final(written))
            written += 1

    def restart(name: str) -> None:
        service = next(s for s in read_state(home).services if s.name == name)
        with turn():
            service.stop()
            LocalStack(home, Console()).up(keep=True)

    write()
    with stream_bars("AAPL", since=START, final_only=True, url=api.url) as stream:
        reader = Reader(iter(stream))
        wait_for(lambda: reader.has(written))
        write()
        api.kill()
        write()
        api.start()
        write()
        wait_for(lambda: reader.has(written))
        restart(kafka.NAME)
        write()
        wait_for(lambda: reader.has(written))
        restart(cassandra.NAME)
        wait_for(lambda: answers(pipeline))
        write()
        write_bars(pipeline.client, final(0, revision=2))
        wait_for(lambda: reader.has(written + 1))
        time.sleep(2)  # a bar that came twice would come now
    reader.join()

    windows = sorted(window(bar) for bar in reader.items)
    assert windows == sorted([*((n, "AAPL", 1) for n in range(written)), (0, "AAPL", 2)])


def answers(pipeline: Pipeline) -> bool:
    try:
        return bool(pipeline.bars())
    except (DriverException, NoHostAvailable):
        return False


def test_a_coroutine_reads_the_same_and_may_be_cancelled_while_it_waits(
    pipeline: Pipeline, api: ServedApi
) -> None:
    write_bars(pipeline.client, final(0), final(1))
    found: list[tuple[int, str, int]] = []

    async def read(has_both: asyncio.Event) -> None:
        async for bar in stream_bars("AAPL", since=START, url=api.url):
            found.append(window(bar))
            if len(found) == 2:
                has_both.set()

    async def read_for_a_while() -> float:
        has_both = asyncio.Event()
        task = asyncio.create_task(read(has_both))
        await has_both.wait()
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    took_s = asyncio.run(read_for_a_while())
    assert found == [(0, "AAPL", 1), (1, "AAPL", 1)]
    assert took_s < 60


def test_a_time_ahead_is_waited_for(pipeline: Pipeline, api: ServedApi) -> None:
    ahead = floor_to(FIVE, datetime.now(timezone.utc)) + timedelta(days=1)
    write_bars(pipeline.client, final(0))
    with stream_bars("AAPL", since=ahead, url=api.url) as stream:
        reader = Reader(iter(stream))
        time.sleep(2)
        write_bars(pipeline.client, final(1), final((ahead - START) // FIVE))
        wait_for(lambda: reader.has(1))
    reader.join()
    assert [bar.window_start for bar in reader.items] == [ahead]


def test_what_the_api_refuses_is_said(api: ServedApi) -> None:
    with pytest.raises(UsageError, match="symbols"):
        next(iter(stream_bars("\t", since=START, url=api.url)))


def test_an_api_with_keys_lets_in_who_has_one(pipeline: Pipeline, tmp_path: Path) -> None:
    write_bars(pipeline.client, final(0))
    key, file = "k" * 32, tmp_path / "keys"
    file.write_text(f"robot:{key}\n", encoding="ascii")
    file.chmod(0o600)
    with served_api(pipeline.name, {"TAPELINE_API__KEYS_FILE": str(file)}) as api:
        for wrong, said in ((None, "A key is needed here"), ("w" * 32, "That key is not known")):
            with pytest.raises(UsageError, match=said):
                next(iter(stream_bars("AAPL", since=START, url=api.url, key=wrong)))
        with stream_bars("AAPL", since=START, url=api.url, key=key) as stream:
            assert window(next(iter(stream))) == (0, "AAPL", 1)
