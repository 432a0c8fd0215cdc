"""Exchanges on loopback: servers that speak the public protocols as their documentation says.

Each numbers the trades of a symbol without a hole, sends them to whoever has subscribed, and
answers requests for its history over HTTP on the same port.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PAGE = 5
"""Trades a page of history: few, so that every hole takes several."""


class MadeTrade(NamedTuple):
    """A trade as the exchange keeps it; prices and sizes as it writes them."""

    trade_id: int
    symbol: str
    price: str
    size: str
    time_us: int


def iso(time_us: int) -> str:
    time = _EPOCH + timedelta(microseconds=time_us)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Dialect(Protocol):
    """One exchange's way to say things."""

    name: str
    symbols: tuple[str, ...]
    """Some that it has, in its own names."""
    unknown: str | None
    """One that it says it has not; None if it never says so."""
    subscribes: bool

    def asked(self, message: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
        """Return what a message subscribes and unsubscribes, and what is answered."""

    def trade(self, trade: MadeTrade) -> str: ...

    def heartbeat(self) -> str | None: ...

    def history(self, path: str, query: dict[str, str], trades: list[MadeTrade]) -> Any: ...


class CoinbaseDialect:
    name = "coinbase"
    symbols = ("BTC-USD", "ETH-USD")
    unknown = "FOO-USD"

    def asked(self, message):
        products = message["product_ids"]
        if bad := [p for p in products if p not in self.symbols]:
            reason = f"{bad[0]} is not a valid product"
            error = {"type": "error", "message": "Failed to subscribe", "reason": reason}
            return [], [], [json.dumps(error)]
        assert message["channels"] == ["matches", "heartbeat"]
        answer = {
            "type": "subscriptions",
            "channels": [{"name": "matches", "product_ids": products, "account_ids": None}],
        }
        if message["type"] == "subscribe":
            return products, [], [json.dumps(answer)]
        assert message["type"] == "unsubscribe"
        return [], products, [json.dumps(answer)]

    def trade(self, trade):
        return json.dumps(
            {
                "type": "match",
                "trade_id": trade.trade_id,
                "maker_order_id": "5c3c3800-570a-4d91-8bb7-3c30e3c31157",
                "taker_order_id": "fffb7c4d-6b8e-4706-b28a-5c1e85546cc0",
                "side": "sell",
                "size": trade.size,
                "price": trade.price,
                "product_id": trade.symbol,
                "sequence": 50 + 3 * trade.trade_id,
                "time": iso(trade.time_us),
            }
        )

    def heartbeat(self):
        return json.dumps(
            {
                "type": "heartbeat",
                "last_trade_id": 0,
                "product_id": "BTC-USD",
                "sequence": 7,
                "time": "2026-11-27T08:19:28.464459Z",
            }
        )

    def history(self, path, query, trades):
        _, products, symbol, kind = path.split("/")
        assert (products, kind) == ("products", "trades")
        older = [t for t in trades if t.symbol == symbol and t.trade_id < int(query["after"])]
        return [
            {
                "trade_id": t.trade_id,
                "side": "buy",
                "size": t.size,
                "price": t.price,
                "time": iso(t.time_us),
            }
            for t in reversed(older[-_PAGE:])
        ]


class KrakenDialect:
    name = "kraken"
    symbols = ("BTC/USD", "ETH/USD")
    unknown = "FOO/USD"

    def asked(self, message):
        parameters = message["params"]
        assert parameters["channel"] == "trade"
        assert message["method"] == "unsubscribe" or parameters["snapshot"] is False
        pairs, answers = [], []
        for pair in parameters["symbol"]:
            times = {"time_in": "2026-11-27T08:19:28.1Z", "time_out": "2026-11-27T08:19:28.2Z"}
            head = {"method": message["method"], **times}
            if pair in self.symbols:
                pairs.append(pair)
                result = {"channel": "trade", "snapshot": False, "symbol": pair}
                answers.append(json.dumps({**head, "result": result, "success": True}))
            else:
                error = f"Currency pair not supported {pair}"
                answers.append(
                    json.dumps({**head, "error": error, "success": False, "symbol": pair})
                )
        if message["method"] == "subscribe":
            return pairs, [], answers
        return [], pairs, answers

    def trade(self, trade):
        item = (
            f'{{"symbol":"{trade.symbol}","side":"sell","price":{trade.price},"qty":{trade.size},'
            f'"ord_type":"market","trade_id":{trade.trade_id},"timestamp":"{iso(trade.time_us)}"}}'
        )
        return f'{{"channel":"trade","type":"update","data":[{item}]}}'

    def heartbeat(self):
        return '{"channel":"heartbeat"}'

    def history(self, path, query, trades):
        assert path == "/0/public/Trades"
        since_ns = int(query["since"])
        pair = query["pair"]
        later = [t for t in trades if t.symbol == pair and t.time_us * 1000 > since_ns][:_PAGE]
        rows = [[t.price, t.size, t.time_us / 1e6, "b", "l", "", t.trade_id] for t in later]
        last = str(later[-1].time_us * 1000) if later else query["since"]
        return {"error": [], "result": {"XXBTZUSD": rows, "last": last}}


class BinanceDialect:
    name = "binance"
    symbols = ("BTCUSDT", "ETHUSDT")
    unknown = None

    def asked(self, message):
        if message["method"] == "LIST_SUBSCRIPTIONS":
            return [], [], [json.dumps({"result": ["btcusdt@trade"], "id": message["id"]})]
        names = []
        for stream in message["params"]:
            name, _, channel = stream.partition("@")
            assert channel == "trade"
            assert name == name.lower()
            names.append(name.upper())
        answer = [json.dumps({"result": None, "id": message["id"]})]
        if message["method"] == "SUBSCRIBE":
            return names, [], answer
        assert message["method"] == "UNSUBSCRIBE"
        return [], names, answer

    def trade(self, trade):
        return json.dumps(
            {
                "e": "trade",
                "E": trade.time_us // 1000 + 1,
                "s": trade.symbol,
                "t": trade.trade_id,
                "p": trade.price,
                "q": trade.size,
                "T": trade.time_us // 1000,
                "m": True,
                "M": True,
            }
        )

    def heartbeat(self):
        return None

    def history(self, path, query, trades):
        assert path == "/api/v3/historicalTrades"
        first, symbol = int(query["fromId"]), query["symbol"]
        later = [t for t in trades if t.symbol == symbol and t.trade_id >= first][:_PAGE]
        return [
            {
                "id": t.trade_id,
                "price": t.price,
                "qty": t.size,
                "quoteQty": "1.0",
                "time": t.time_us // 1000,
                "isBuyerMaker": True,
                "isBestMatch": True,
            }
            for t in later
        ]


DIALECTS = (CoinbaseDialect(), KrakenDialect(), BinanceDialect())


@dataclass
class Exchange:
    """One exchange while it runs."""

    dialect: Any
    heartbeat_s: float = 0.2
    port: int = 0
    trades: list[MadeTrade] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """What clients have said."""
    requests: list[str] = field(default_factory=list)
    """The paths of history that were asked for."""
    connections: int = 0
    history_status: HTTPStatus | None = None
    """With which every request for history is refused."""
    history_errors: int | None = None
    """How many are refused; None for all."""
    history_body: str | None = None
    """What is answered in place of trades."""
    refuses_connections: bool = False
    is_silent: bool = False
    """Whether it keeps connections and says nothing more."""
    _subscribed: dict[str, set[ServerConnection]] = field(default_factory=lambda: defaultdict(set))
    _open: set[ServerConnection] = field(default_factory=set)
    _sending: set[asyncio.Future[None]] = field(default_factory=set)
    _ids: dict[str, int] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def history_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a producer is told by variables."""
        name = self.dialect.name.upper()
        return {
            f"TAPELINE_FEEDS__{name}": self.url,
            f"TAPELINE_FEEDS__{name}_HISTORY": self.history_url,
        }

    def make(self, symbol: str, price: str, size: str, time_us: int) -> MadeTrade:
        """Make a trade with the next number and send it to whoever has subscribed."""
        number = self._ids.get(symbol, 1_048_570)  # soon above the 20 low bits
        self._ids[symbol] = number + 1
        trade = MadeTrade(number, symbol, price, size, time_us)
        self.add(trade)
        return trade

    def add(self, trade: MadeTrade) -> None:
        """Send a trade with a number of its own to whoever has subscribed."""
        self.trades.append(trade)
        self._run(lambda: self._send(trade.symbol, self.dialect.trade(trade)))

    def say(self, text: str) -> None:
        """Send a text to every connection."""
        self._run(lambda: self._send(None, text))

    def subscribers(self, symbol: str) -> int:
        return len(self._subscribed[symbol])

    def drop(self) -> None:
        """Cut every connection."""

        def cut() -> None:
            for connection in tuple(self._open):
                connection.transport.abort()

        self._run(cut)

    @contextmanager
    def running(self) -> Iterator[Exchange]:
        """Serve in a thread of its own."""
        started, ended = threading.Event(), asyncio.Event()

        async def work() -> None:
            self._loop = asyncio.get_running_loop()
            quiet = logging.getLogger("tests.exchange")
            quiet.setLevel(logging.CRITICAL)
            async with serve(
                self._handle,
                "127.0.0.1",
                self.port,
                process_request=self._answer,
                close_timeout=0.5,  # who got an answer of HTTP may not hang up by itself
                ping_interval=None,
                logger=quiet,
            ) as server:
                self.port = next(iter(server.sockets)).getsockname()[1]
                started.set()
                await ended.wait()

        thread = threading.Thread(target=asyncio.run, args=(work(),))
        thread.start()
        assert started.wait(60)
        try:
            yield self
        finally:
            self._run(ended.set)
            thread.join(60)

    def _run(self, work: Callable[[], None]) -> None:
        if self._loop is None:  # it does not run, so nobody listens
            return
        done = threading.Event()

        def and_tell() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(and_tell)
        assert done.wait(60)

    def _send(self, symbol: str | None, text: str) -> None:
        if self.is_silent:
            return
        for connection in tuple(self._open if symbol is None else self._subscribed[symbol]):
            sending = asyncio.ensure_future(_quietly(connection, text))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            if self.refuses_connections:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "away\n")
            return None
        self.requests.append(request.path)
        if self.history_status is not None and self.history_errors != 0:
            self.history_errors = None if self.history_errors is None else self.history_errors - 1
            return connection.respond(self.history_status, "no history for you\n")
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = self.dialect.history(parts.path, query, self.trades)
        body = (self.history_body or json.dumps(found)).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        return Response(HTTPStatus.OK, "OK", headers, body)

    async def _handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        self._open.add(connection)
        beating = asyncio.ensure_future(self._beat(connection))
        try:
            async for text in connection:
                message = json.loads(text)
                self.asked.append(message)
                if self.is_silent:
                    continue
                new, old, answers = self.dialect.asked(message)
                for answer in answers:
                    await connection.send(answer)
                for symbol in new:
                    self._subscribed[symbol].add(connection)
                for symbol in old:
                    self._subscribed[symbol].discard(connection)
        finally:
            beating.cancel()
            self._open.discard(connection)
            for some in self._subscribed.values():
                some.discard(connection)

    async def _beat(self, connection: ServerConnection) -> None:
        while True:
            await asyncio.sleep(self.heartbeat_s)
            text = self.dialect.heartbeat()
            if text is not None and not self.is_silent:
                await _quietly(connection, text)


async def _quietly(connection: ServerConnection, text: str) -> None:
    with suppress(ConnectionClosed):
        await connection.send(text)
