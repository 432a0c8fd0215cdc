"""A feed of the present: a WebSocket server that sends Finnhub's frames of seeded trades."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.load import UNIT, LoadTrade, symbol_name, zipf_weights
from bench.services import LOOPBACK
from bench.truth import FIVE_MINUTES_MS, Truth, Window

_MEAN_TRADES_A_FRAME: Final = 2
_PING: Final = '{"type":"ping"}'
TradeKey = tuple[str, int, float]
"""Symbol, time in ms and size, which tell a trade of this feed from every other."""


@dataclass(slots=True)
class Sent:
    """What was sent, and when: seconds since the epoch, just before the frame was handed over."""

    windows: dict[Window, list[float]] = field(default_factory=lambda: defaultdict(list))
    trades: dict[TradeKey, float] = field(default_factory=dict)
    truth: Truth = field(default_factory=Truth)

    def add(self, trade: LoadTrade, at_s: float) -> None:
        """Remember one trade."""
        start_ms = trade.event_time_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS
        self.windows[trade.symbol, start_ms].append(at_s)
        self.trades[trade.symbol, trade.event_time_ms, trade.volume] = at_s
        self.truth.take(trade)


@dataclass(slots=True)
class Feed:
    """Sends `rate` trades a second, each stamped with the time at which it is sent."""

    rate: float
    symbols: Sequence[str]
    seed: int = 1
    sent: Sent = field(default_factory=Sent)
    port: int = 0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def environment(self) -> dict[str, str]:
        """What leads `tapeline produce --source simulator` here."""
        return {
            "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{self.port}",
            "FINNHUB_API_KEY": "bench",
        }

    @asynccontextmanager
    async def serving(self) -> Any:
        """Listen for a while."""
        async with serve(self._handle, LOOPBACK, 0, compression=None, ping_interval=None) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    async def _handle(self, connection: ServerConnection) -> None:
        missing = set(self.symbols)
        while missing:
            missing.discard(orjson.loads(await connection.recv()).get("symbol"))
        with contextlib.suppress(ConnectionClosed):
            await self._send(connection)

    async def _send(self, connection: ServerConnection) -> None:
        rng = random.Random(self.seed)  # noqa: S311 - a load, not a secret
        frames = self._draw(rng)
        due_s = time.monotonic()
        number = 0
        while not self.is_over.is_set():
            due_s += rng.expovariate(self.rate / _MEAN_TRADES_A_FRAME)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            now_s = time.time()
            trades = []
            for symbol, price_cents in next(frames):
                number += 1
                trades.append(_trade(symbol, price_cents, number, int(now_s * 1000)))
            frame = orjson.dumps({"data": [_wire(t) for t in trades], "type": "trade"})
            for trade in trades:
                self.sent.add(trade, now_s)
            await connection.send(frame.decode())
        # The line stays, as a quiet market's does.
        while True:
            await connection.send(_PING)
            await asyncio.sleep(1.0)

    def _draw(self, rng: random.Random) -> Iterator[list[tuple[str, int]]]:
        """Yield the symbols and prices of each frame."""
        weights = list(accumulate(zipf_weights(len(self.symbols))))
        prices = {symbol: rng.randrange(5_000, 50_000) for symbol in self.symbols}
        while True:
            frame = []
            for symbol in rng.choices(
                self.symbols, cum_weights=weights, k=rng.randint(1, 2 * _MEAN_TRADES_A_FRAME - 1)
            ):
                prices[symbol] = max(100, prices[symbol] + rng.randint(-3, 3))
                frame.append((symbol, prices[symbol]))
            yield frame


def feed_symbols(count: int) -> list[str]:
    """Return the symbols of a feed."""
    return [symbol_name(n) for n in range(count)]


def _trade(symbol: str, price_cents: int, number: int, at_ms: int) -> LoadTrade:
    # Sizes tell the trades of one millisecond apart, and rise as their ranks do.
    return LoadTrade(
        symbol, price_cents * (UNIT // 100), number * UNIT, at_ms, None, number, number
    )


def _wire(trade: LoadTrade) -> dict[str, Any]:
    return {
        "c": None,
        "p": trade.price,
        "s": trade.symbol,
        "t": trade.event_time_ms,
        "v": trade.volume,
    }
