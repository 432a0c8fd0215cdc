"""The WebSocket client of a feed: connect, subscribe, stay connected.

A token may be part of the address, so neither address nor request path is ever logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode

from tapeline.feeds.feed import Feed, FeedMessage
from tapeline.model.errors import FeedError
from tapeline.model.gap import GapKind
from tapeline.model.times import now_us
from tapeline.producer.feed_address import explain, proxy_of, tls_of, url_setting
from tapeline.producer.silence import SilenceWatch
from tapeline.producer.steady import steady_s
from tapeline.producer.symbol_slots import SymbolSlots
from tapeline.program.metrics import PRODUCER_METRICS, RECONNECTS, WITHOUT_SLOT, Metrics
from tapeline.program.settings import FinnhubSettings
from tapeline.program.tasks import cancel

log = structlog.get_logger()

END_OF_TAPE: Final = "end of tape"
"""The simulator's reason for closing when its tape has been sent."""

# At DEBUG the library writes the request path, and with it the token, whatever the root's level.
_WIRE_LOG: Final = logging.getLogger("tapeline.websocket")
_WIRE_LOG.setLevel(logging.WARNING)

_UNAUTHORIZED: Final = frozenset({401, 403})
_FIRST_BACKOFF_S: Final = 0.5
_LAST_BACKOFF_S: Final = 15.0
"""A second without the feed is a hole in the bars; eight attempts a minute trouble nobody."""
_STABLE_AFTER_S: Final = 60.0
_OPEN_TIMEOUT_S: Final = 15.0
_SIGNS_OF_LIFE: Final = 4.0
"""How often a feed that may be silent is asked for one within the time-out."""
_CLOSE_TIMEOUT_S: Final = 0.5
"""How long a goodbye may take: behind a flood that nobody reads any more it is never answered."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it came.

    `connection` counts connections from 0; `received_at_us` is µs since the epoch and
    `monotonic_s` the same instant on a clock that never steps. `is_too_large` stands for one
    that was not read, so `data` is empty.
    """

    data: bytes | str
    connection: int
    received_at_us: int
    monotonic_s: float
    is_too_large: bool = False


class Backoff:
    """Waiting times between attempts: doubled each time, jittered, capped."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._attempt = 0

    def next_s(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        ceiling_s = min(_FIRST_BACKOFF_S * 2.0**self._attempt, _LAST_BACKOFF_S)
        if ceiling_s < _LAST_BACKOFF_S:
            self._attempt += 1
        return ceiling_s * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """Start again with short waits."""
        self._attempt = 0


class FeedClient:
    """One subscription of some symbols, kept alive across connections.

    Args:
        feed: its protocol.
        url: its address, without a secret.
        settings: time-outs.
        symbols: what to subscribe, in our names.
        monotonic: seconds on a clock that never steps.
        metrics: where attempts to reconnect are counted.
    """

    def __init__(
        self,
        feed: Feed,
        url: str,
        settings: FinnhubSettings,
        symbols: Sequence[str],
        monotonic: Callable[[], float] = steady_s,
        metrics: Metrics | None = None,
    ) -> None:
        self.feed = feed
        """Its protocol."""
        self._url = url
        self._settings = settings
        self.symbols = tuple(symbols)
        """What is subscribed."""
        self._monotonic = monotonic
        self._metrics = metrics or Metrics(PRODUCER_METRICS)
        self._keep_alive_s = settings.heartbeat_timeout_s / _SIGNS_OF_LIFE
        self._said_s = 0.0
        self._connections = 0
        self._socket: ClientConnection | None = None
        self._speaking = asyncio.Lock()
        self.slots = SymbolSlots()
        """Which symbols the feed does not send."""
        self._metrics[WITHOUT_SLOT].set_function(lambda: len(self.slots.waiting))
        self.connected = False
        """Whether a connection stands now."""
        self.is_subscribed = False
        """Whether all symbols were asked for on the newest connection."""
        self.lost_connection = -1
        """The newest connection that was lost; what it sent may have waited and come after."""
        self.on_loss: Callable[[GapKind], None] = lambda _kind: None
        """Called when a connection is lost or cannot be made."""
        self.stamp_us: Callable[[float], int] = lambda _monotonic_s: now_us()
        """Gives the time of a reading of the clock that never steps, µs since the epoch."""

    @property
    def connection(self) -> int:
        """The number of the newest connection, from 0; -1 before the first."""
        return self._connections - 1

    def on_error(self, connection: int, message: FeedMessage) -> None:
        """Note what the feed refuses; a lost connection's refusals are not of what is asked now."""
        if connection > self.lost_connection:
            self.slots.told(message)

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield every message; return only when the feed says that its tape has ended.

        Reconnects and subscribes again after any loss, after `heartbeat_timeout_s` without a
        message, and after a frame above `max_frame_bytes`, which it reports. Reading stops while
        the caller does not ask for more, which holds back the sender.

        Raises:
            FeedError: the feed refuses the token, or its address is no WebSocket address.
            UsageError: the environment names a proxy that cannot be used.
        """
        backoff = Backoff()
        while True:
            started = self._monotonic()
            try:
                socket = await self._connect()
                async with socket, self._subscribing(socket):
                    self.connected = True
                    async for frame in self._read(socket):
                        yield frame
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.reason == END_OF_TAPE:
                    return
                log.warning("feed_disconnected", code=closed.rcvd.code if closed.rcvd else None)
                self._lose(GapKind.DISCONNECTED)
                if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                    yield self._frame(b"", is_too_large=True)
            except (OSError, TimeoutError, InvalidHandshake) as error:
                log.warning("feed_unreachable", error=explain(error, self._url))
                self._lose(self._kind_of(error))
            finally:
                self.connected = False
            if self._monotonic() - started > _STABLE_AFTER_S:
                backoff.reset()
            wait_s = backoff.next_s()
            log.info("feed_reconnecting", wait_s=round(wait_s, 2))
            await asyncio.sleep(wait_s)
            self._metrics[RECONNECTS].inc()

    async def _connect(self) -> ClientConnection:
        tls = tls_of(self._url)
        try:
            proxy = proxy_of(self._url)
            return await connect(
                self.feed.address(self._url),
                max_size=self._settings.max_frame_bytes,
                open_timeout=_OPEN_TIMEOUT_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=None,
                proxy=proxy,
                logger=_WIRE_LOG,
                **tls,
            )
        except InvalidStatus as error:
            if error.response.status_code in _UNAUTHORIZED:
                raise FeedError(self._refusal(error.response.status_code)) from None
            raise
        except ssl.SSLError:  # one of them is a ValueError too
            raise
        except (InvalidURI, ValueError):
            message = f"{self._url} is not a valid WebSocket address: set {url_setting(self.feed)}."
            raise FeedError(message) from None

    @contextlib.asynccontextmanager
    async def _subscribing(self, socket: ClientConnection) -> AsyncIterator[None]:
        """Subscribe while it is read: a feed that wants its time has trades for us meanwhile."""
        self._socket, self.is_subscribed = socket, False
        asking = asyncio.create_task(self._subscribe(socket))
        try:
            yield
        finally:
            await cancel(asking)

    async def _subscribe(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # whoever reads will notice
            await self._ask(socket, self.symbols)
            self.is_subscribed = True
        log.info("feed_connected", connection=self._connections, symbols=len(self.symbols))

    async def look_after(self) -> None:
        """Say what is due: subscribe symbols without a slot once more, and show that we are here.

        A slot may be free. To be called every second or so.
        """
        now_s = self._monotonic()
        wanted = self.slots.check(now_s, self.stamp_us)
        socket = self._socket
        if not self.connected or socket is None:
            return
        with contextlib.suppress(ConnectionClosed):  # whoever reads will notice
            if wanted:
                await self._ask(socket, wanted)
            if self.feed.keep_alive is not None and now_s - self._said_s >= self._keep_alive_s:
                await self._say(socket, [self.feed.keep_alive])

    async def change(self, symbols: Sequence[str]) -> None:
        """Receive just these from now on, in our names; those of before go on meanwhile."""
        before, self.symbols = self.symbols, tuple(symbols)
        new = [s for s in self.symbols if s not in set(before)]
        gone = [s for s in before if s not in set(self.symbols)]
        if self._socket is None:
            return
        with contextlib.suppress(ConnectionClosed):  # the next one subscribes what it has to
            await self._say(self._socket, self.feed.unsubscribe(gone))
            if new:
                await self._ask(self._socket, new)

    async def _ask(self, socket: ClientConnection, symbols: Sequence[str]) -> None:
        async with self._speaking:  # what is asked for is answered in order
            self.slots.asked(symbols, self._monotonic())
            await self._send(socket, self.feed.subscribe(symbols))
            self.slots.sent(self._monotonic())

    async def _say(self, socket: ClientConnection, messages: Iterable[str]) -> None:
        async with self._speaking:
            await self._send(socket, messages)

    async def _send(self, socket: ClientConnection, messages: Iterable[str]) -> None:
        pause_s = 1 / self.feed.messages_per_s if self.feed.messages_per_s else 0.0
        for message in messages:
            self._said_s = self._monotonic()
            await socket.send(message)
            await asyncio.sleep(pause_s)

    async def _read(self, socket: ClientConnection) -> AsyncIterator[Frame]:
        self._connections += 1
        watch = SilenceWatch(socket, self._settings.heartbeat_timeout_s)
        watch.start()
        try:
            while True:
                yield self._frame(await watch.receive())
        finally:
            watch.stop()

    def _lose(self, kind: GapKind) -> None:
        self.lost_connection = self.connection
        self.on_loss(kind)

    def _frame(self, data: bytes | str, *, is_too_large: bool = False) -> Frame:
        now_s = self._monotonic()
        return Frame(data, self.connection, self.stamp_us(now_s), now_s, is_too_large)

    def _refusal(self, status: int) -> str:
        if self.feed.venue:
            return f"The feed of {self.feed.venue} refuses us (HTTP {status}): see its conditions."
        return (
            f"The feed refuses the token (HTTP {status}): check FINNHUB_API_KEY against the key on "
            "your Finnhub dashboard."
        )

    def _kind_of(self, error: Exception) -> GapKind:
        if isinstance(error, InvalidStatus):
            return GapKind.REFUSED
        is_silence = self.connected and isinstance(error, TimeoutError)
        return GapKind.SILENT if is_silence else GapKind.DISCONNECTED
