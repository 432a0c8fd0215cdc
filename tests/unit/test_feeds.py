"""What every feed does: one suite for all of them, against servers that speak their protocols."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timezone

import pytest

from tapeline.feeds.binance import Binance
from tapeline.feeds.coinbase import Coinbase
from tapeline.feeds.feed import FeedMessage, Ping, our_symbols
from tapeline.feeds.finnhub import FINNHUB
from tapeline.feeds.known import PUBLIC, Source, feed_of
from tapeline.feeds.kraken import Kraken
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import UsageError
from tapeline.model.reasons import Reason
from tapeline.model.trade import Trade
from tapeline.model.venues import AssetClass, venue_of
from tapeline.producer import feed_client
from tapeline.producer.feed_client import FeedClient, Frame
from tapeline.producer.id_watch import IdWatch
from tapeline.producer.identity import GivenIdentity
from tapeline.producer.previous_run import require_one_feed_each
from tapeline.producer.validation import Reject, TradeFrame, WireTrade, parse_frame
from tapeline.program.settings import FeedsSettings, FinnhubSettings
from tests.exchanges import DIALECTS, Exchange
from tests.statuses import a_status

T_US = 1_764_230_400_123_456  # 2025-11-27T08:00:00.123456Z
NOW_MS = T_US // 1000 + 1000
LIMIT_S = 60.0


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def exchange(request):
    with Exchange(request.param).running() as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(feed_client, "_FIRST_BACKOFF_S", 0.01)


class Listener:
    """A client that reads for a while; the test acts on the exchange meanwhile."""

    def __init__(self, exchange: Exchange, *names: str, heartbeat_timeout_s: float = 5.0) -> None:
        self.feed = PUBLIC[exchange.dialect.name]
        symbols = our_symbols(self.feed, names or exchange.dialect.symbols)
        settings = FinnhubSettings(heartbeat_timeout_s=heartbeat_timeout_s)
        self.client = FeedClient(self.feed, exchange.url, settings, symbols)
        self.frames: list[Frame] = []

    def read(self, act: Callable[[], object]) -> list[TradeFrame | Ping | FeedMessage]:
        """Read until the work that runs beside it is done; return what was read."""

        async def work() -> None:
            self._loop = asyncio.get_running_loop()
            reading = asyncio.create_task(self._read())
            looking = asyncio.create_task(self._look_after())
            try:
                await asyncio.wait_for(asyncio.to_thread(act), LIMIT_S)
                await asyncio.sleep(0.1)
            finally:
                reading.cancel()
                looking.cancel()
                await asyncio.gather(reading, looking, return_exceptions=True)

        asyncio.run(work())
        return self.messages

    def change(self, *names: str) -> None:
        """Ask for other symbols, from the test's thread."""
        changing = self.client.change(our_symbols(self.feed, names))
        asyncio.run_coroutine_threadsafe(changing, self._loop).result(LIMIT_S)

    @property
    def messages(self) -> list[TradeFrame | Ping | FeedMessage]:
        return [parse_frame(frame.data, NOW_MS, self.feed) for frame in self.frames]

    @property
    def trades(self) -> list[WireTrade]:
        return [t for m in self.messages if isinstance(m, TradeFrame) for t in m.trades]

    async def _read(self) -> None:
        async with aclosing(self.client.frames()) as frames:
            async for frame in frames:
                self.frames.append(frame)
                message = parse_frame(frame.data, NOW_MS, self.feed)
                if isinstance(message, FeedMessage):
                    self.client.on_error(frame.connection, message)

    async def _look_after(self) -> None:
        while True:
            await self.client.look_after()
            await asyncio.sleep(0.05)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def all_subscribed(exchange: Exchange) -> bool:
    return all(exchange.subscribers(symbol) == 1 for symbol in exchange.dialect.symbols)


def test_trades_come_with_the_exchanges_number_and_its_own_time(exchange):
    first, second = exchange.dialect.symbols
    listener = Listener(exchange)

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        exchange.make(first, "42123.25", "0.00012345", T_US)
        exchange.make(second, "0.000001", "1500", T_US + 876)
        wait_for(lambda: len(listener.trades) == 2)

    listener.read(act)
    venue = exchange.dialect.name.upper()
    at_ms = 1_764_230_400_123
    assert listener.trades == [
        WireTrade(f"{venue}:{first}", 42123.25, 0.00012345, at_ms, None, 1_048_570),
        WireTrade(f"{venue}:{second}", 0.000001, 1500.0, at_ms + 1, None, 1_048_570),
    ]
    assert venue_of(f"{venue}:{first}").asset_class is AssetClass.CRYPTO


def test_what_is_no_trade_is_an_answer_or_an_error_and_nothing_is_unknown(exchange):
    listener = Listener(exchange)
    messages = listener.read(lambda: wait_for(lambda: all_subscribed(exchange)))
    assert messages
    assert all(message == Ping() for message in messages)


def test_a_symbol_that_the_exchange_does_not_have_is_named_and_takes_no_other_along(exchange):
    unknown, known = exchange.dialect.unknown, exchange.dialect.symbols
    if unknown is None:
        assert exchange.dialect.name == "binance"  # which takes any name
        return
    listener = Listener(exchange, known[0], unknown, known[1])

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        exchange.make(known[1], "1", "1", T_US)
        wait_for(lambda: listener.trades)
        wait_for(lambda: any(isinstance(m, FeedMessage) for m in listener.messages))
        wait_for(lambda: listener.client.is_subscribed)

    errors = [m for m in listener.read(act) if isinstance(m, FeedMessage)]
    assert [error.refused for error in errors] == [(f"{exchange.dialect.name.upper()}:{unknown}",)]
    assert unknown in errors[0].text
    slots = listener.client.slots
    slots.check(time.monotonic() + 5, lambda s: round(s * 1e6))
    assert slots.waiting == errors[0].refused


def test_after_a_loss_everything_is_subscribed_again(exchange):
    first = exchange.dialect.symbols[0]
    listener = Listener(exchange)

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        exchange.make(first, "1", "1", T_US)
        wait_for(lambda: len(listener.trades) == 1)
        exchange.drop()
        wait_for(lambda: exchange.connections == 2 and all_subscribed(exchange))
        exchange.make(first, "2", "1", T_US)
        wait_for(lambda: len(listener.trades) == 2)

    listener.read(act)
    assert {frame.connection for frame in listener.frames} == {0, 1}
    half = len(exchange.asked) // 2
    assert exchange.asked[:half] == exchange.asked[half:]


def test_a_connection_on_which_nothing_comes_is_given_up_and_a_quiet_market_is_none(exchange):
    """No trade comes for three time-outs, then no message either."""
    listener = Listener(exchange, heartbeat_timeout_s=1.0)

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        time.sleep(3.0)
        assert exchange.connections == 1
        exchange.is_silent = True
        wait_for(lambda: exchange.connections == 2)

    listener.read(act)
    assert listener.trades == []


def test_a_number_that_is_left_out_is_noticed_and_one_that_comes_again_is_not(exchange):
    first, second = exchange.dialect.symbols
    listener, watch = Listener(exchange), IdWatch()

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        made = [exchange.make(first, "1", "1", T_US) for _ in range(3)]
        exchange.say(exchange.dialect.trade(made[0]))
        exchange.refuses_connections = True
        exchange.drop()
        wait_for(lambda: exchange.subscribers(first) == 0)
        for _ in range(2):
            exchange.make(first, "1", "1", T_US)
        exchange.refuses_connections = False
        wait_for(lambda: all_subscribed(exchange))
        exchange.make(second, "1", "1", T_US)
        exchange.make(first, "1", "1", T_US + 7000)
        wait_for(lambda: len(listener.trades) == 6)

    listener.read(act)
    found = [hole for n, t in enumerate(listener.trades) for hole in watch.note([t], n)]
    name = f"{exchange.dialect.name.upper()}:{first}"
    at_ms = T_US // 1000
    assert found == [(name, 1_048_572, 1_048_575, at_ms, at_ms + 7)]


def test_identity_is_the_exchanges_number_and_order_goes_by_it(exchange):
    """Also where the number outgrows the low bits by which order goes last."""
    first = exchange.dialect.symbols[0]
    listener = Listener(exchange)

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        for n in range(10):
            exchange.make(first, str(n + 1), "1", T_US)
        wait_for(lambda: len(listener.trades) == 10)

    listener.read(act)
    identity = GivenIdentity(exchange.dialect.name)
    trades = identity.assign(listener.trades, T_US, 0.0)
    again = GivenIdentity("another").assign(list(reversed(listener.trades)), T_US + 5, 9.0)
    assert [t.trade_id for t in trades] == list(range(1_048_570, 1_048_580))
    assert [(t.sequence, t.trade_id) for t in reversed(again)] == [
        (t.sequence, t.trade_id) for t in trades
    ]

    def order(trade: Trade) -> tuple[int, int]:  # as in docs/bars.md
        return trade.sequence, trade.trade_id % 2**20

    assert [order(trade) for trade in trades] == sorted(map(order, trades))


def test_what_is_asked_to_unsubscribe_comes_no_more(exchange):
    first, second = exchange.dialect.symbols
    listener = Listener(exchange)

    def act() -> None:
        wait_for(lambda: all_subscribed(exchange))
        listener.change(second)
        wait_for(lambda: exchange.subscribers(first) == 0)
        exchange.make(first, "1", "1", T_US)
        exchange.make(second, "1", "1", T_US)
        wait_for(lambda: listener.trades)

    listener.read(act)
    assert [t.symbol.partition(":")[2] for t in listener.trades] == [second]


def test_a_field_that_is_new_changes_nothing(exchange):
    made = exchange.make(exchange.dialect.symbols[0], "1.5", "2", T_US)
    feed = PUBLIC[exchange.dialect.name]
    plain = exchange.dialect.trade(made)
    message = json.loads(plain)
    message["new"] = {"a": [1]}
    for item in message.get("data", ()):
        item["new"] = None
    assert parse_frame(json.dumps(message), NOW_MS, feed) == parse_frame(plain, NOW_MS, feed)


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "[]",
        "null",
        '"trade"',
        "{}",
        '{"type":"l3","channel":9}',
        '{"type":[],"channel":{},"e":[]}',
    ],
)
@pytest.mark.parametrize("feed", [*PUBLIC.values(), FINNHUB], ids=lambda feed: feed.name)
def test_a_message_of_no_known_kind_is_a_dead_letter(feed, text):
    expected = TradeFrame((), (Reject(Reason.UNKNOWN_MESSAGE),))
    assert parse_frame(text, NOW_MS, feed) == expected


WRONG = {
    "coinbase": {
        "price": [None, "", "-1", "1e5", "NaN", " 1", "1_0", True, "1,5"],
        "size": [None, "x", "-0.1", []],
        "time": [None, "yesterday", "2025-11-27T08:00:00", 17, "0000-00-00T00:00:00Z"],
        "trade_id": [None, "7", -1, 1.5, True, 2**63],
        "product_id": [None, "", 7],
    },
    "binance": {
        "p": [None, "", "-1", "inf", {}],
        "q": [None, "1.", "-1"],
        "T": [None, "1764230400123", 1.5, 5, -1],
        "t": [None, "7", -1, False, 2**63],
        "s": [None, "", []],
    },
    "kraken": {
        "price": [None, "1.5", -1, 0, True],
        "qty": [None, "1", -1],
        "timestamp": [None, 1764230400, "2025-11-27", "x"],
        "trade_id": [None, "7", -1, 0.5],
        "symbol": [None, "", {}],
    },
}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_trade_with_a_wrong_field_is_refused_and_alone(dialect):
    exchange = Exchange(dialect)
    made = exchange.make(dialect.symbols[0], "1.5", "2", T_US)
    feed = PUBLIC[dialect.name]
    for name, values in WRONG[dialect.name].items():
        for value in values:
            message = json.loads(dialect.trade(made))
            good = dict(message["data"][0]) if "data" in message else None
            (message if good is None else message["data"][0])[name] = value
            if good is not None:
                message["data"].append(good)
            parsed = parse_frame(json.dumps(message), NOW_MS, feed)
            assert isinstance(parsed, TradeFrame), (name, value)
            assert [reject.index for reject in parsed.rejects] == [0], (name, value)
            assert len(parsed.trades) == (0 if good is None else 1), (name, value)


# What the exchanges really sent, each a message of a public recording.
RECORDED = [
    (
        Coinbase(),
        (
            '{"type":"match","trade_id":1568317,"maker_order_id":"5c3c3800-570a-4d91-8bb7-3c30e3c31157",'
            '"taker_order_id":"fffb7c4d-6b8e-4706-b28a-5c1e85546cc0","side":"buy","size":"355",'
            '"price":"0.7902","product_id":"SKL-USD","sequence":201393853,'
            '"time":"2021-04-17T16:44:06.642936Z"}'
        ),
        WireTrade("COINBASE:SKL-USD", 0.7902, 355.0, 1_618_677_846_642, None, 1_568_317),
    ),
    (
        Kraken(),
        (
            '{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell",'
            '"price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,'
            '"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
        ),
        WireTrade("KRAKEN:MATIC/USD", 0.5117, 40.0, 1_695_628_177_708, None, 4_665_906),
    ),
    (
        Binance(),
        (
            '{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,'
            '"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}}'
        ),
        WireTrade("BINANCE:BNBBTC", 0.001, 100.0, 1_672_515_782_136, None, 12_345),
    ),
]


@pytest.mark.parametrize(("feed", "text", "trade"), RECORDED, ids=lambda v: getattr(v, "name", ""))
def test_a_recorded_message_is_read(feed, text, trade):
    assert parse_frame(text, NOW_MS, feed) == TradeFrame((trade,), ())


ANSWERS = [
    (Coinbase(), {"type": "last_match", "trade_id": 1, "product_id": "A-B", "price": "1"}, Ping()),
    (
        Coinbase(),
        {"type": "error", "message": "Failed to subscribe", "reason": "rate limit exceeded"},
        FeedMessage("Failed to subscribe: rate limit exceeded"),
    ),
    (Kraken(), {"channel": "status", "type": "update", "data": [{"system": "online"}]}, Ping()),
    (Kraken(), {"method": "pong", "time_in": "a", "time_out": "b"}, Ping()),
    (
        Kraken(),
        {"method": "subscribe", "error": "Event(s) not found", "success": False},
        FeedMessage("Event(s) not found"),
    ),
    (
        Binance(),
        {"error": {"code": 2, "msg": "Invalid request"}, "id": 1},
        FeedMessage("Invalid request (code 2)"),
    ),
    (
        Binance(),
        {"e": "serverShutdown", "E": 1770123456789},
        FeedMessage("The server is about to close the connection."),
    ),
    (Binance(), {"result": ["btcusdt@trade"], "id": 0}, Ping()),
]


@pytest.mark.parametrize(("feed", "message", "expected"), ANSWERS)
def test_what_an_exchange_answers(feed, message, expected):
    assert parse_frame(json.dumps(message), NOW_MS, feed) == expected


def test_many_symbols_are_asked_for_in_messages_that_the_exchange_takes():
    names = [f"C{n}USDT" for n in range(250)]
    feed = Binance()
    messages = [json.loads(m) for m in feed.subscribe(our_symbols(feed, names))]
    assert [len(m["params"]) for m in messages] == [100, 100, 50]
    assert [m["id"] for m in messages] == [1, 2, 3]
    assert messages[2]["params"][-1] == "c249usdt@trade"
    with pytest.raises(UsageError, match="takes 1024 symbols"):
        our_symbols(feed, [f"C{n}USDT" for n in range(1025)])


def test_symbols_have_their_venue_in_front_however_they_were_written():
    assert our_symbols(Coinbase(), ["btc-usd", "COINBASE:BTC-USD"]) == ("COINBASE:BTC-USD",)
    assert our_symbols(Kraken(), ["BTC/USD", "kraken:AAPLx/USD"]) == (
        "KRAKEN:BTC/USD",
        "KRAKEN:AAPLx/USD",
    )
    assert our_symbols(FINNHUB, ["AAPL", "BINANCE:BTCUSDT"]) == ("AAPL", "BINANCE:BTCUSDT")
    with pytest.raises(UsageError, match="is not a symbol of COINBASE"):
        our_symbols(Coinbase(), ["KRAKEN:BTC/USD"])


def test_every_feed_has_its_name_its_address_and_its_source():
    addresses = [name + what for name in PUBLIC for what in ("", "_history")]
    assert addresses == list(FeedsSettings.model_fields)
    assert set(PUBLIC) < {source.value for source in Source}
    assert [feed_of(name).name for name in PUBLIC] == list(PUBLIC)
    assert feed_of("coinbase:backfill").name == "coinbase"
    assert feed_of("simulator").name == feed_of("replay").name == feed_of("").name == "finnhub"


NOW = datetime(2026, 11, 20, 15, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("theirs", "ours", "changes", "is_gone"),
    [
        ("coinbase", "coinbase", {}, False),  # a second one of the same feed has the same numbers
        ("", "simulator", {}, False),  # by Finnhub's rules both
        ("finnhub", "coinbase", {"has_stopped": True}, False),
        ("finnhub", "coinbase", {}, True),
        ("finnhub", "coinbase", {"symbols": ("COINBASE:ETH-USD",)}, False),
    ],
)
def test_a_symbol_may_come_twice_by_one_feed_and_later_by_another(theirs, ours, changes, is_gone):
    fields = {"symbols": ("COINBASE:BTC-USD",), "is_live": True, "source": theirs, **changes}
    reported = {"p": ProducerView(a_status("p", **fields), is_gone, NOW)}
    require_one_feed_each(reported, ours, ["COINBASE:BTC-USD"])


@pytest.mark.parametrize(("theirs", "ours"), [("", "coinbase"), ("coinbase", "finnhub")])
def test_a_symbol_that_another_feed_brings_now_is_refused(theirs, ours):
    status = a_status("p", symbols=("COINBASE:BTC-USD",), is_live=True, source=theirs)
    reported = {"p": ProducerView(status, is_gone=False, reported_at=NOW)}
    expected = f"COINBASE:BTC-USD comes by {theirs or 'finnhub'} already, from producer p"
    with pytest.raises(UsageError, match=expected):
        require_one_feed_each(reported, ours, ["COINBASE:ETH-USD", "COINBASE:BTC-USD"])
