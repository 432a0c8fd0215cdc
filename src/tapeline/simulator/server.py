"""The WebSocket server: Finnhub's protocol over a simulated feed.

A token in the query, 401 for a wrong one; one subscription a message and no reply to it; a
cap on symbols; error frames; pings as text; one connection a key, a second one drops both. With
a send limit it waits for nobody: time goes on, and a reader who is too slow is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

import orjson
import structlog
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tapeline.simulator.feed import Feed, FeedEvent, FeedFrame, Outage
from tapeline.simulator.ledger import Ledger

log = structlog.get_logger()

END_OF_TAPE: Final = "end of tape"
"""The reason in the closing frame when a tape has been sent to its end."""

SYMBOL_CAP: Final = 51
"""Symbols that a free key may subscribe, as observed in 2026."""
PING_INTERVAL_S: Final = 60.0
_ENDLESS: Final = 1 << 40
_QUIET_S: Final = 1.0
_NORMAL_CLOSURE: Final = 1000
_POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server behaves.

    `speed` None sends as fast as the client reads. `send_limit` is how many bytes may wait for a
    slow reader before it is cut off; with None the feed waits for it.
    """

    host: str
    port: int
    token: str
    speed: float | None
    symbol_cap: int = SYMBOL_CAP
    ping_interval_s: float = PING_INTERVAL_S
    send_limit: int | None = None


class SimulatedFinnhub:
    """One server over one feed."""

    def __init__(self, options: ServerOptions, feed: Feed) -> None:
        self.options = options
        """How it behaves."""
        self._feed = feed
        self._client: ServerConnection | None = None
        # A live market runs from the start; a tape waits for its first listener.
        self._started_s = time.monotonic() if feed.is_live else None
        self._refused_until_ms: int | None = None
        self._rest: Iterator[FeedEvent] | None = None
        self.ledger = Ledger(time.monotonic, options.speed)
        """What has been sent."""

    def serve(self) -> serve:
        """Return the listening server as a context manager."""
        return serve(
            self._handle,
            self.options.host,
            self.options.port,
            process_request=self._authorize,
            ping_interval=None,
            compression=None,
        )

    def _authorize(self, connection: ServerConnection, request: Request) -> Response | None:
        given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.options.token.encode()):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "Invalid API key\n")
        if self._refused_until_ms is not None and self._clock_ms() < self._refused_until_ms:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Try again later\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        if self._client is not None:
            log.warning("second_connection_of_a_key")
            await self._client.close(_POLICY_VIOLATION)
            await connection.close(_POLICY_VIOLATION)
            return
        self._client = connection
        if self.options.send_limit is not None:
            # So high that a send never waits; the limit is looked at after each. What the system
            # keeps for the reader is small, so that the limit is soon reached.
            connection.transport.set_write_buffer_limits(high=_ENDLESS)
            wire = connection.transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.options.send_limit)
        session = _Session(connection, self._feed.symbols, self.options.symbol_cap)
        tasks = [
            asyncio.create_task(session.listen()),
            asyncio.create_task(session.ping(self.options.ping_interval_s)),
            asyncio.create_task(self._play(session)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(ConnectionClosed):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client = None

    async def _play(self, session: _Session) -> None:
        await session.wait_for_subscriptions()
        if self._started_s is None:
            self._started_s = time.monotonic()
        events = self._next_events()
        for event in events:
            await self._wait_until(event.due_ms)
            if isinstance(event, FeedFrame):
                session.is_silent = False
                await self._send(session, event)
                if self._is_too_slow(session.connection):
                    self._cut(session.connection)
                    return
            elif event.is_drop:
                self._drop(session.connection, event, events)
                return
            else:
                self.ledger.report.silences += 1
                session.is_silent = True
        await session.connection.close(_NORMAL_CLOSURE, END_OF_TAPE)
        log.info("tape_sent", frames=self.ledger.report.frames, trades=self.ledger.report.trades)

    def _next_events(self) -> Iterator[FeedEvent]:
        """Return what a new connection gets: after a drop of our own, the rest of the tape."""
        rest, self._rest = self._rest, None
        begins = rest is None
        if self._feed.is_live or not begins:
            self.ledger.connect()
        else:
            self.ledger.start_anew()
        if rest is None:
            rest = self._feed.frames(self._clock_ms())
        if self._feed.is_live or self.options.send_limit is None:
            return rest
        # The tape goes on, heard or not, from its first listener on.
        self._rest = rest
        if begins:
            return rest
        now_ms = self._clock_ms()
        return itertools.dropwhile(lambda event: event.due_ms < now_ms, rest)

    def _is_too_slow(self, connection: ServerConnection) -> bool:
        limit = self.options.send_limit
        return limit is not None and connection.transport.get_write_buffer_size() > limit

    def _cut(self, connection: ServerConnection) -> None:
        """Cut off a reader who is too slow; what waits for it is lost to it."""
        self.ledger.report.cuts += 1
        log.info("slow_reader_cut_off")
        connection.transport.abort()

    def _drop(
        self, connection: ServerConnection, outage: Outage, rest: Iterator[FeedEvent]
    ) -> None:
        """Cut the line without a word, and refuse another until the outage is over."""
        self.ledger.report.drops += 1
        log.info("connection_dropped", for_ms=outage.until_ms - outage.due_ms)
        if self.options.speed is not None:  # else there is no clock to wait by
            self._refused_until_ms = outage.until_ms
        if not self._feed.is_live:
            self._rest = rest
        # Closed below WebSocket, so without its goodbye; what was sent still arrives.
        connection.transport.close()

    async def _send(self, session: _Session, frame: FeedFrame) -> None:
        part = session.part_of(frame)
        if part.text is None and not part.trades:
            return
        text = part.text
        if text is None:
            text = orjson.dumps({"data": part.trades, "type": "trade"}).decode()
        await session.connection.send(text)
        self.ledger.record(part)

    def _clock_ms(self) -> int:
        """Return the feed's time: its start, moved on by the time since, times the speed."""
        elapsed_s = time.monotonic() - (self._started_s or time.monotonic())
        return self._feed.start_ms + int(elapsed_s * 1000 * (self.options.speed or 1.0))

    async def _wait_until(self, due_ms: int) -> None:
        if self.options.speed is None:
            return
        wait_ms = due_ms - self._clock_ms()
        # One that is late and never waits for its reader would keep everybody else from running.
        if wait_ms > 0 or self.options.send_limit is not None:
            await asyncio.sleep(max(wait_ms, 0) / 1000 / self.options.speed)


class _Session:
    """One client's subscriptions."""

    def __init__(
        self, connection: ServerConnection, known: tuple[str, ...], symbol_cap: int
    ) -> None:
        self.connection = connection
        self._known = frozenset(known)
        self._symbol_cap = symbol_cap
        self._symbols: set[str] = set()
        self._changed = asyncio.Event()
        self.is_silent = False
        """Whether the feed has gone quiet, without even pings."""

    async def listen(self) -> None:
        """Take subscriptions until the client goes."""
        async for text in self.connection:
            try:
                message = orjson.loads(text)
                kind, symbol = message["type"], message["symbol"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                kind = symbol = None
            if not isinstance(symbol, str):
                await self._complain("Invalid message")
                continue
            if kind == "subscribe":
                await self._subscribe(symbol)
            elif kind == "unsubscribe":
                self._symbols.discard(symbol)
            self._changed.set()

    async def ping(self, interval_s: float) -> None:
        """Say that the connection lives, as an ordinary message."""
        while True:
            await asyncio.sleep(interval_s)
            if not self.is_silent:
                await self.connection.send('{"type":"ping"}')

    async def wait_for_subscriptions(self) -> None:
        """Wait until every symbol is subscribed, or for a quiet second after the first."""
        await self._changed.wait()
        while not self._symbols >= self._known:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _QUIET_S)
            except TimeoutError:
                if self._symbols:
                    return

    def part_of(self, frame: FeedFrame) -> FeedFrame:
        """Return what the client subscribed to."""
        if self._symbols >= self._known:
            return frame
        return frame.of_symbols(frozenset(self._symbols))

    async def _subscribe(self, symbol: str) -> None:
        if symbol not in self._known:
            await self._complain(f"Invalid symbol {symbol}")
        elif len(self._symbols) >= self._symbol_cap and symbol not in self._symbols:
            await self._complain("Subscribing to too many symbols")
        else:
            self._symbols.add(symbol)

    async def _complain(self, text: str) -> None:
        await self.connection.send(orjson.dumps({"type": "error", "msg": text}).decode())
