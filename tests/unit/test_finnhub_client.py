"""The WebSocket client against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tapeline.model.errors import FeedError
from tapeline.producer import feed_client
from tapeline.producer.feed_client import Backoff, Frame
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.steady import steady_s
from tapeline.program.settings import FinnhubSettings

TOKEN = "c9-secret&key/0="
LIMIT_S = 10.0
Script = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(feed_client, "_FIRST_BACKOFF_S", 0.01)


class FeedServer:
    """A server whose n-th connection follows the n-th script; the last one goes on.

    `refusals` are the HTTP answers to the first handshakes.
    """

    def __init__(self, *scripts: Script, refusals: tuple[HTTPStatus, ...] = ()) -> None:
        self._scripts = list(scripts)
        self._refusals = list(refusals)
        self.paths: list[str] = []
        self.subscribed: list[list[dict[str, str]]] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FeedServer]:
        quiet = logging.getLogger("tests.feed_server")
        # The server's own log of the request path is not what is tested here.
        quiet.setLevel(logging.CRITICAL)
        async with serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._answer,
            ping_interval=None,
            logger=quiet,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}"
            yield self

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self._refusals:
            return connection.respond(self._refusals.pop(0), "refused\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        messages: list[dict[str, str]] = []
        self.subscribed.append(messages)
        async for text in connection:
            messages.append(json.loads(text))
            if len(messages) == len(SYMBOLS):
                break
        await script(connection)


SYMBOLS = ("AAPL", "IC MARKETS:1")


def send_and_end(*texts: str) -> Script:
    async def script(connection: ServerConnection) -> None:
        for text in texts:
            await connection.send(text)
        await connection.close(1000, "end of tape")

    return script


def send_and_drop(*texts: str) -> Script:
    async def script(connection: ServerConnection) -> None:
        for text in texts:
            await connection.send(text)
        # Sent before the connection is cut: a cut may overtake what is in the buffers.
        await asyncio.sleep(0.05)
        connection.transport.abort()

    return script


async def stay_silent(connection: ServerConnection) -> None:
    await connection.wait_closed()


def client_of(server: FeedServer, heartbeat_timeout_s: float = 5.0) -> FinnhubClient:
    settings = FinnhubSettings(url=server.url, heartbeat_timeout_s=heartbeat_timeout_s)
    return FinnhubClient(settings, SecretStr(TOKEN), SYMBOLS)


async def all_frames(client: FinnhubClient) -> list[Frame]:
    async with aclosing(client.frames()) as frames:
        return [frame async for frame in frames]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, LIMIT_S))


def read_to_end(server: FeedServer, heartbeat_timeout_s: float = 5.0) -> list[Frame]:
    async def work() -> list[Frame]:
        async with server.running():
            return await all_frames(client_of(server, heartbeat_timeout_s))

    frames: list[Frame] = run(work())
    return frames


def texts(frames: list[Frame]) -> list[bytes | str]:
    return [f.data for f in frames]


def test_every_symbol_is_subscribed_in_a_message_of_its_own():
    server = FeedServer(send_and_end())

    read_to_end(server)

    assert server.subscribed == [
        [
            {"type": "subscribe", "symbol": "AAPL"},
            {"type": "subscribe", "symbol": "IC MARKETS:1"},
        ]
    ]


def test_the_token_is_sent_in_the_query_whatever_characters_it_has():
    server = FeedServer(send_and_end())

    read_to_end(server)

    assert [parse_qs(urlsplit(path).query) for path in server.paths] == [{"token": [TOKEN]}]


def test_frames_are_yielded_as_they_came_and_in_order():
    sent = [f'{{"type":"trade","data":[{i}]}}' for i in range(50)] + ['{"type":"ping"}', "no json"]

    frames = read_to_end(FeedServer(send_and_end(*sent)))

    assert texts(frames) == sent
    assert {f.connection for f in frames} == {0}


def test_a_frame_carries_its_receipt_on_both_clocks():
    before_us, before_s = time.time_ns() // 1000, steady_s()

    (frame,) = read_to_end(FeedServer(send_and_end("a")))

    assert before_us <= frame.received_at_us <= time.time_ns() // 1000
    assert before_s <= frame.monotonic_s <= steady_s()


def test_the_end_of_the_tape_ends_the_stream_with_one_connection():
    server = FeedServer(send_and_end("a"))

    assert texts(read_to_end(server)) == ["a"]
    assert len(server.paths) == 1


def test_an_ordinary_close_is_no_end():
    async def close(connection: ServerConnection) -> None:
        await connection.send("a")
        await connection.close(1000, "maintenance")

    server = FeedServer(close, send_and_end("b"))

    assert texts(read_to_end(server)) == ["a", "b"]


def test_after_a_drop_it_connects_again_and_subscribes_again():
    server = FeedServer(send_and_drop("a"), send_and_drop("b"), send_and_end("c"))

    frames = read_to_end(server)

    assert [(f.data, f.connection) for f in frames] == [("a", 0), ("b", 1), ("c", 2)]
    assert [[m["symbol"] for m in messages] for messages in server.subscribed] == [
        ["AAPL", "IC MARKETS:1"]
    ] * 3


def test_silence_without_a_close_makes_it_connect_again():
    server = FeedServer(stay_silent, send_and_end("a"))

    frames = read_to_end(server, heartbeat_timeout_s=0.2)

    assert [(f.data, f.connection) for f in frames] == [("a", 1)]


def test_pings_keep_a_quiet_connection():
    async def ping(connection: ServerConnection) -> None:
        for _ in range(5):
            await asyncio.sleep(0.15)
            await connection.send('{"type":"ping"}')
        await connection.close(1000, "end of tape")

    server = FeedServer(ping)

    frames = read_to_end(server, heartbeat_timeout_s=0.6)

    assert [(f.data, f.connection) for f in frames] == [('{"type":"ping"}', 0)] * 5


def test_a_reader_who_is_busy_with_a_message_does_not_count_as_silence():
    async def work() -> list[Frame]:
        server = FeedServer(send_and_end("a", "b", "c"))
        async with server.running():
            frames = []
            async with aclosing(client_of(server, heartbeat_timeout_s=0.2).frames()) as reading:
                async for frame in reading:
                    frames.append(frame)
                    await asyncio.sleep(0.5)
            return frames

    assert [(f.data, f.connection) for f in run(work())] == [("a", 0), ("b", 0), ("c", 0)]


def test_silence_after_messages_is_noticed_in_time():
    async def speak_and_stop(connection: ServerConnection) -> None:
        for _ in range(12):
            await connection.send("a")
            await asyncio.sleep(0.1)
        await connection.wait_closed()

    server = FeedServer(speak_and_stop, send_and_end("b"))

    frames = read_to_end(server, heartbeat_timeout_s=1.0)

    assert texts(frames) == ["a"] * 12 + ["b"]
    # A second of silence, at most 10 ms of waiting to connect, and some for a slow machine.
    assert 1.0 <= frames[12].monotonic_s - frames[11].monotonic_s < 4.0


@contextmanager
def running_in_a_thread(server: FeedServer) -> Iterator[None]:
    """Run a server beside the loop of its client, which it would else keep from running."""
    loop = asyncio.new_event_loop()
    ready, may_end = threading.Event(), asyncio.Event()

    async def work() -> None:
        async with server.running():
            ready.set()
            await may_end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    try:
        assert ready.wait(LIMIT_S)
        yield
    finally:
        loop.call_soon_threadsafe(may_end.set)
        thread.join(LIMIT_S)
        loop.close()


def test_a_message_that_came_while_the_process_stood_still_is_no_silence():
    async def speak(connection: ServerConnection) -> None:
        await connection.send("a")
        await asyncio.sleep(0.3)
        await connection.send("b")
        await asyncio.sleep(1.0)
        await send_and_end("c")(connection)

    async def read(server: FeedServer) -> list[Frame]:
        frames = []
        async with aclosing(client_of(server, heartbeat_timeout_s=0.6).frames()) as reading:
            async for frame in reading:
                frames.append(frame)
                if frame.data == "a":
                    # From before "b" comes until long after it should have come.
                    asyncio.get_running_loop().call_later(0.1, time.sleep, 1.0)
        return frames

    server = FeedServer(speak)
    with running_in_a_thread(server):
        frames = run(read(server))

    assert [(f.data, f.connection) for f in frames] == [("a", 0), ("b", 0), ("c", 0)]


def test_a_flooded_reader_ends_within_a_second_of_its_cancellation():
    async def flood(connection: ServerConnection) -> None:
        while True:
            await connection.send('{"type":"ping"}')
            # Some frames find the reader waiting, others do not.
            await asyncio.sleep(0)

    async def read(server: FeedServer, has_begun: asyncio.Event) -> None:
        async with aclosing(client_of(server).frames()) as frames:
            async for _ in frames:
                has_begun.set()

    async def seconds_to_end(server: FeedServer, wait_s: float) -> float:
        has_begun = asyncio.Event()
        reading = asyncio.ensure_future(read(server, has_begun))
        await has_begun.wait()
        await asyncio.sleep(wait_s)
        reading.cancel()
        started_s = time.monotonic()
        await asyncio.wait([reading], timeout=LIMIT_S)
        assert reading.cancelled()
        return time.monotonic() - started_s

    server = FeedServer(flood)
    with running_in_a_thread(server):
        took_s = [run(seconds_to_end(server, 0.05 + number / 1000)) for number in range(20)]

    # A slow machine may keep one of them waiting; a reader that hears nothing keeps all.
    assert sorted(took_s)[len(took_s) // 2] < 1.0


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_a_refused_token_is_an_error_that_does_not_name_it(status):
    server = FeedServer(send_and_end(), refusals=(status,) * 3)

    with pytest.raises(FeedError, match="FINNHUB_API_KEY") as caught:
        read_to_end(server)

    assert TOKEN not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(server.paths) == 1


@pytest.mark.parametrize(
    "status",
    [
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ],
)
def test_a_feed_in_trouble_is_tried_again(status):
    server = FeedServer(send_and_end("a"), refusals=(status, status))

    frames = read_to_end(server)

    assert [(f.data, f.connection) for f in frames] == [("a", 0)]
    assert len(server.paths) == 3


def test_a_feed_that_is_not_there_yet_is_tried_again():
    async def work() -> list[Frame]:
        server = FeedServer(send_and_end("a"))
        async with server.running():
            pass
        client = client_of(server)
        reading = asyncio.ensure_future(all_frames(client))
        await asyncio.sleep(0.1)
        assert not reading.done()
        port = int(server.url.rpartition(":")[2])
        async with serve(server._handle, "127.0.0.1", port):  # noqa: SLF001
            return await reading

    assert texts(run(work())) == ["a"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "ws://127.0.0.1:99999"])
def test_an_address_that_is_none_is_an_error_that_names_the_setting(url):
    settings = FinnhubSettings().model_copy(update={"url": url})
    client = FinnhubClient(settings, SecretStr(TOKEN), SYMBOLS)

    with pytest.raises(FeedError, match="TAPELINE_FINNHUB__URL") as caught:
        run(all_frames(client))

    assert TOKEN not in str(caught.value)


def test_connected_says_whether_a_connection_stands():
    async def work() -> list[bool]:
        server = FeedServer(send_and_end("a"))
        async with server.running():
            client = client_of(server)
            before = client.connected
            async with aclosing(client.frames()) as frames:
                during = [client.connected async for _ in frames]
            return [before, *during, client.connected]

    assert run(work()) == [False, True, False]


def test_a_frame_above_the_limit_is_reported_and_the_stream_goes_on():
    async def work() -> list[Frame]:
        server = FeedServer(send_and_drop("x" * 2000), send_and_end("a"))
        async with server.running():
            settings = FinnhubSettings(url=server.url, max_frame_bytes=1000)
            return await all_frames(FinnhubClient(settings, SecretStr(TOKEN), SYMBOLS))

    assert [(f.data, f.connection, f.is_too_large) for f in run(work())] == [
        (b"", 0, True),
        ("a", 1, False),
    ]


def test_the_token_is_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    server = FeedServer(
        send_and_drop("a"), stay_silent, send_and_end("b"), refusals=(HTTPStatus.BAD_GATEWAY,)
    )

    with capture_logs() as events:
        read_to_end(server, heartbeat_timeout_s=0.3)

    assert {"feed_connected", "feed_disconnected", "feed_unreachable"} <= {
        e["event"] for e in events
    }
    for text in (repr(events), caplog.text):
        assert "secret" not in text
        assert "token=" not in text


def test_waits_double_up_to_the_cap(monkeypatch):
    monkeypatch.setattr(feed_client, "_FIRST_BACKOFF_S", 0.5)
    longest = Backoff(jitter=lambda: 1.0)
    shortest = Backoff(jitter=lambda: 0.0)

    assert [longest.next_s() for _ in range(9)] == [0.5, 1, 2, 4, 8, 15, 15, 15, 15]
    assert [shortest.next_s() for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 7.5, 7.5, 7.5, 7.5]


def test_a_reset_starts_with_short_waits_again(monkeypatch):
    monkeypatch.setattr(feed_client, "_FIRST_BACKOFF_S", 0.5)
    backoff = Backoff(jitter=lambda: 1.0)
    for _ in range(5):
        backoff.next_s()

    backoff.reset()

    assert [backoff.next_s(), backoff.next_s()] == [0.5, 1.0]


def test_jitter_spreads_the_waits():
    backoffs = [Backoff() for _ in range(50)]
    assert len({b.next_s() for b in backoffs}) > 10


def test_an_outage_of_days_does_not_end_in_an_overflow():
    backoff = Backoff(jitter=lambda: 1.0)
    waits = [backoff.next_s() for _ in range(5000)]
    assert waits[-1] == 15.0


@pytest.mark.parametrize(("steady_s", "second_wait_s"), [(61.0, 0.01), (59.0, 0.02)])
def test_a_connection_that_held_a_minute_makes_the_next_wait_short(
    monkeypatch, steady_s, second_wait_s
):
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (lambda: 1.0,))
    now_s = 0.0

    async def work() -> None:
        nonlocal now_s
        server = FeedServer(send_and_drop("a"), send_and_drop("b"), send_and_end())
        async with server.running():
            client = FinnhubClient(
                FinnhubSettings(url=server.url), SecretStr(TOKEN), SYMBOLS, monotonic=lambda: now_s
            )
            async with aclosing(client.frames()) as frames:
                async for frame in frames:
                    now_s += steady_s if frame.data == "b" else 1.0

    with capture_logs() as events:
        run(work())

    waits = [e["wait_s"] for e in events if e["event"] == "feed_reconnecting"]
    assert waits == [0.01, second_wait_s]
