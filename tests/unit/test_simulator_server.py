"""The simulated feed, seen by a real WebSocket client."""

from __future__ import annotations

import asyncio
import json
import socket as socket_module
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tapeline.simulator import server as simulator_server
from tapeline.simulator.faults import FaultyFeed, parse_faults
from tapeline.simulator.feed import Feed, FeedEvent
from tapeline.simulator.market import RandomMarket
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tapeline.simulator.tape import Tape

TOKEN = "simulated"
T0 = 1_763_649_000_000
LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def _short_quiet(monkeypatch):
    monkeypatch.setattr(simulator_server, "_QUIET_S", 0.3)


def tape_of(folder: Path, *rows: str) -> Tape:
    path = folder / "tape.csv"
    lines = ["event_time_ms,symbol,price,volume,conditions", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Tape(path, 100)


@pytest.fixture
def tape(tmp_path) -> Tape:
    """Three frames: two symbols, then one, then all three."""
    return tape_of(
        tmp_path,
        f"{T0},A,1.0,10,1",
        f"{T0 + 1},B,2.0,20,1|12",
        f"{T0 + 100},A,1.1,11,",
        f"{T0 + 250},A,1.2,12,",
        f"{T0 + 251},B,2.2,22,",
        f"{T0 + 252},C,3.2,32,",
    )


def options(**changes: Any) -> ServerOptions:
    values = {"host": "127.0.0.1", "port": 0, "token": TOKEN, "speed": None, **changes}
    return ServerOptions(**values)


@asynccontextmanager
async def served(feed: Feed, **changes: Any) -> AsyncIterator[str]:
    async with SimulatedFinnhub(options(**changes), feed).serve() as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


def client(url: str, token: str = TOKEN) -> connect:
    return connect(f"{url}/?token={token}", proxy=None)


async def say(socket: ClientConnection, kind: str, *symbols: str) -> None:
    for symbol in symbols:
        await socket.send(json.dumps({"type": kind, "symbol": symbol}))


async def hear(socket: ClientConnection) -> list[dict[str, Any]]:
    """Read to the end of the connection."""
    heard = []
    try:
        while True:
            heard.append(json.loads(await socket.recv()))
    except ConnectionClosed:
        return heard


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, LIMIT_S))


def symbols_of(messages: list[dict[str, Any]]) -> list[list[str]]:
    return [[t["s"] for t in m["data"]] for m in messages if m["type"] == "trade"]


def errors_of(messages: list[dict[str, Any]]) -> list[str]:
    return [m["msg"] for m in messages if m["type"] == "error"]


def played(tape: Feed, *requests: tuple[str, str], **changes: Any) -> list[dict[str, Any]]:
    """Say all requests and return all that the server says until the tape ends."""

    async def work() -> list[dict[str, Any]]:
        async with served(tape, **changes) as url, client(url) as socket:
            for kind, symbol in requests:
                await say(socket, kind, symbol)
            return await hear(socket)

    messages: list[dict[str, Any]] = run(work())
    return messages


@pytest.mark.parametrize("query", ["?token=wrong", "?token=", "", "?key=simulated"])
def test_a_wrong_token_is_answered_with_401(tape, query):
    async def work() -> int:
        async with served(tape) as url:
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"{url}/{query}", proxy=None)
            return caught.value.response.status_code

    assert run(work()) == 401


def test_a_subscriber_of_everything_gets_the_tape_in_the_feeds_form(tape):
    assert played(tape, ("subscribe", "A"), ("subscribe", "B"), ("subscribe", "C")) == [
        {
            "type": "trade",
            "data": [
                {"s": "A", "p": 1.0, "t": T0, "v": 10, "c": ["1"]},
                {"s": "B", "p": 2.0, "t": T0 + 1, "v": 20, "c": ["1", "12"]},
            ],
        },
        {"type": "trade", "data": [{"s": "A", "p": 1.1, "t": T0 + 100, "v": 11, "c": None}]},
        {
            "type": "trade",
            "data": [
                {"s": "A", "p": 1.2, "t": T0 + 250, "v": 12, "c": None},
                {"s": "B", "p": 2.2, "t": T0 + 251, "v": 22, "c": None},
                {"s": "C", "p": 3.2, "t": T0 + 252, "v": 32, "c": None},
            ],
        },
    ]


def test_only_subscribed_symbols_are_sent_and_no_empty_frame(tape):
    assert symbols_of(played(tape, ("subscribe", "B"))) == [["B"], ["B"]]


def test_nothing_is_sent_before_a_subscription(tape):
    async def work() -> None:
        async with served(tape) as url, client(url) as socket:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.5)

    run(work())


def test_the_end_of_the_tape_closes_with_1000_and_says_so(tape):
    async def work() -> tuple[int, str]:
        async with served(tape) as url, client(url) as socket:
            await say(socket, "subscribe", "A", "B", "C")
            await hear(socket)
            assert socket.close_code is not None
            assert socket.close_reason is not None
            return socket.close_code, socket.close_reason

    assert run(work()) == (1000, "end of tape")


def test_an_unknown_symbol_is_named_in_an_error(tape):
    messages = played(tape, ("subscribe", "NOPE:1"), ("subscribe", "A"))

    assert errors_of(messages) == ["Invalid symbol NOPE:1"]
    assert symbols_of(messages) == [["A"], ["A"], ["A"]]


def test_a_symbol_above_the_cap_is_refused_without_naming_it(tape):
    messages = played(
        tape, ("subscribe", "A"), ("subscribe", "B"), ("subscribe", "C"), symbol_cap=2
    )

    assert errors_of(messages) == ["Subscribing to too many symbols"]
    assert symbols_of(messages) == [["A", "B"], ["A"], ["A", "B"]]


def test_subscribing_again_takes_no_second_slot(tape):
    messages = played(
        tape, ("subscribe", "A"), ("subscribe", "A"), ("subscribe", "B"), symbol_cap=2
    )

    assert errors_of(messages) == []
    assert symbols_of(messages) == [["A", "B"], ["A"], ["A", "B"]]


def test_unsubscribing_frees_a_slot(tape):
    messages = played(
        tape, ("subscribe", "A"), ("unsubscribe", "A"), ("subscribe", "B"), symbol_cap=1
    )

    assert errors_of(messages) == []
    assert symbols_of(messages) == [["B"], ["B"]]


def test_the_cap_of_a_free_key_is_51_symbols(tmp_path):
    names = [f"S{i:02}" for i in range(52)]
    tape = tape_of(tmp_path, *(f"{T0 + i},{name},1.0,1," for i, name in enumerate(names)))

    messages = played(tape, *(("subscribe", name) for name in names))

    assert errors_of(messages) == ["Subscribing to too many symbols"]
    assert symbols_of(messages) == [names[:51]]


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "1", '{"type":"subscribe"}', '{"symbol":"A"}', '{"type":1,"symbol":["A"]}'],
)
def test_a_message_that_is_none_does_not_end_the_connection(tape, text):
    async def work() -> list[dict[str, Any]]:
        async with served(tape) as url, client(url) as socket:
            await socket.send(text)
            await say(socket, "subscribe", "C")
            return await hear(socket)

    assert symbols_of(run(work())) == [["C"]]


def test_a_symbol_that_is_no_text_does_not_end_the_connection(tape):
    async def work() -> list[dict[str, Any]]:
        async with served(tape) as url, client(url) as socket:
            await socket.send('{"type":"subscribe","symbol":["A"]}')
            await say(socket, "subscribe", "C")
            return await hear(socket)

    messages = run(work())
    assert len(errors_of(messages)) == 1
    assert symbols_of(messages) == [["C"]]


def test_a_second_connection_of_the_key_drops_both(tape):
    async def work() -> list[int | None]:
        async with served(tape) as url, client(url) as first, client(url) as second:
            assert await hear(first) == []
            assert await hear(second) == []
            return [first.close_code, second.close_code]

    assert run(work()) == [1008, 1008]


def test_after_both_were_dropped_the_key_can_connect_again(tape):
    async def work() -> list[dict[str, Any]]:
        async with served(tape) as url:
            async with client(url) as first, client(url) as second:
                await hear(first)
                await hear(second)
            async with client(url) as third:
                await say(third, "subscribe", "C")
                return await hear(third)

    assert symbols_of(run(work())) == [["C"]]


def test_who_comes_back_gets_the_whole_tape_again(tape):
    async def work() -> list[list[dict[str, Any]]]:
        heard = []
        async with served(tape) as url:
            for _ in range(2):
                async with client(url) as socket:
                    await say(socket, "subscribe", "A", "B", "C")
                    heard.append(await hear(socket))
        return heard

    first, second = run(work())
    assert symbols_of(first) == [["A", "B"], ["A"], ["A", "B", "C"]]
    assert first == second


def test_pings_are_ordinary_text_messages(tape):
    async def work() -> list[str | bytes]:
        async with served(tape, ping_interval_s=0.05) as url, client(url) as socket:
            return [await socket.recv(), await socket.recv()]

    texts = run(work())
    assert [json.loads(t) for t in texts] == [{"type": "ping"}] * 2
    assert all(isinstance(t, str) for t in texts)


def test_a_speed_of_2_plays_half_a_second_in_a_quarter(tmp_path):
    tape = tape_of(tmp_path, *(f"{T0 + i * 100},A,1.0,1," for i in range(6)))

    async def work() -> list[float]:
        at = []
        async with served(tape, speed=2.0) as url, client(url) as socket:
            await say(socket, "subscribe", "A")
            for _ in range(6):
                await socket.recv()
                at.append(time.monotonic())
        return [t - at[0] for t in at]

    # Frame n is due 50 ms times n after the first; a busy machine may be later, never earlier.
    after_s = run(work())
    assert all(t > 0.05 * n - 0.03 for n, t in enumerate(after_s))
    assert after_s[-1] < 2.0


def test_without_a_speed_an_hour_takes_no_time(tmp_path):
    tape = tape_of(tmp_path, f"{T0},A,1.0,1,", f"{T0 + 3_600_000},A,1.0,1,")

    assert symbols_of(played(tape, ("subscribe", "A"))) == [["A"], ["A"]]


def test_a_random_market_sends_trades_of_the_present_however_late_the_client_comes():
    market = RandomMarket(1, int(time.time() * 1000), 100)

    async def work() -> float:
        async with served(market, speed=1.0) as url:
            await asyncio.sleep(1.0)
            async with client(url) as socket:
                await say(socket, "subscribe", *market.symbols)
                frame = json.loads(await socket.recv())
                return time.time() * 1000 - max(t["t"] for t in frame["data"])

    # A frame holds the 100 ms before it; the rest is for a busy machine.
    assert -100 < run(work()) < 700


def seconds_of_tape(folder: Path, frames: int = 10) -> Tape:
    """Frames of one trade, 100 ms apart; a price is the number of its frame."""
    return tape_of(folder, *(f"{T0 + 100 * n},A,{n + 1}.0,1," for n in range(frames)))


def prices_of(messages: list[dict[str, Any]]) -> list[float]:
    return [t["p"] for m in messages if m["type"] == "trade" for t in m["data"]]


def test_a_dropped_line_is_refused_for_a_while_and_the_tape_goes_on(tmp_path):
    feed = FaultyFeed(seconds_of_tape(tmp_path, 40), parse_faults(["drop=300ms:2s"]), 1)

    async def work() -> tuple[list[float], int, list[float], float]:
        simulator = SimulatedFinnhub(options(speed=1.0), feed)
        async with simulator.serve() as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            async with client(url) as socket:
                await say(socket, "subscribe", "A")
                before = prices_of(await hear(socket))
            dropped_s = time.monotonic()
            with pytest.raises(InvalidStatus) as refused:
                await client(url)
            while True:
                try:
                    socket = await client(url)
                    break
                except InvalidStatus:
                    await asyncio.sleep(0.01)
            waited_s = time.monotonic() - dropped_s
            await say(socket, "subscribe", "A")
            after = prices_of(await hear(socket))
        assert simulator.ledger.report.drops == 1
        return before, refused.value.response.status_code, after, waited_s

    before, status, after, waited_s = run(work())

    assert before == [1.0, 2.0, 3.0]
    assert status == 503
    assert after == [float(number) for number in range(int(after[0]), 41)]
    assert after[0] >= 24  # what was due when the line was back
    assert waited_s > 1.5


def test_a_silent_feed_sends_not_even_pings(tmp_path):
    feed = FaultyFeed(seconds_of_tape(tmp_path), parse_faults(["silence=200ms:500ms"]), 1)

    async def work() -> list[tuple[float, str]]:
        heard = []
        async with (
            served(feed, speed=1.0, ping_interval_s=0.05) as url,
            client(url) as socket,
        ):
            await say(socket, "subscribe", "A")
            try:
                while True:
                    message = json.loads(await socket.recv())
                    heard.append((time.monotonic(), message["type"]))
            except ConnectionClosed:
                return heard

    heard = run(work())

    gaps = [later[0] - earlier[0] for earlier, later in pairwise(heard)]
    assert 0.35 < max(gaps) < 2.0
    assert [kind for _, kind in heard].count("trade") == 5


def flood_of_tape(folder: Path, seconds: int) -> Tape:
    """Frames of 200 trades, each 10 ms: about a megabyte a second."""
    rows = [
        f"{T0 + 10 * frame},A,{1 + frame}.0,{trade + 1},1"
        for frame in range(100 * seconds)
        for trade in range(200)
    ]
    return Tape(written(folder, rows), 10)


def written(folder: Path, rows: list[str]) -> Path:
    path = folder / "flood.csv"
    lines = ["event_time_ms,symbol,price,volume,conditions", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class SlowTape:
    """A tape that takes a while to open, as on a busy machine."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.symbols, self.start_ms, self.is_live = tape.symbols, tape.start_ms, tape.is_live

    def frames(self, now_ms: int) -> Iterator[FeedEvent]:
        time.sleep(0.3)
        return self._tape.frames(now_ms)


def test_a_feed_that_does_not_wait_sends_a_tape_from_its_first_frame_on(tape):
    """The frames are due 0, 100 and 250 ms after the start, which takes longer than that."""
    symbols = [("subscribe", symbol) for symbol in "ABC"]

    heard = played(SlowTape(tape), *symbols, speed=1.0, send_limit=100_000)

    assert symbols_of(heard) == [["A", "B"], ["A"], ["A", "B", "C"]]


def test_a_feed_that_does_not_wait_cuts_off_a_slow_reader_and_goes_on_without_it(tmp_path):
    async def work() -> tuple[list[float], list[float], int, float]:
        tape = flood_of_tape(tmp_path, 6)
        simulator = SimulatedFinnhub(options(speed=1.0, send_limit=100_000), tape)
        async with simulator.serve() as server:
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"ws://127.0.0.1:{port}"
            # What the system buffers is small, so that the feed soon notices.
            async with connect(f"{url}/?token={TOKEN}", proxy=None, max_queue=1) as socket:
                small = socket.transport.get_extra_info("socket")
                small.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 65_536)
                await say(socket, "subscribe", "A")
                started_s = time.monotonic()
                while not simulator.ledger.report.cuts:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                cut_s = time.monotonic() - started_s
                before = list(dict.fromkeys(prices_of(await hear(socket))))
            async with client(url) as socket:
                await say(socket, "subscribe", "A")
                after = list(dict.fromkeys(prices_of(await hear(socket))))
            return before, after, simulator.ledger.report.cuts, cut_s

    before, after, cuts, cut_s = run(work())

    assert (before[0], after[-1], cuts) == (1.0, 600.0, 1)
    # A frame's price is its number. The tape went on at 100 frames a second while nobody
    # listened, and none came twice.
    assert after[0] - before[-1] > 1
    assert after[0] >= 100 * cut_s * 0.5
    assert after == sorted(set(after))
