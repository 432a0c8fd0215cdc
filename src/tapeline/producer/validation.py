"""Read a frame: bytes in, typed trades and typed rejects out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import orjson

EARLIEST_EVENT_TIME_MS: Final = 946_684_800_000
"""2000-01-01T00:00Z; an earlier time is a mistake, most often seconds in place of ms."""
LATEST_AHEAD_MS: Final = 60_000
"""How far a trade's time may lie after its receipt, in ms."""
BROKER_MOST_OFF_MS: Final = 86_400_000
"""How far a trade's receipt by the producer may lie after that by the broker, in ms.

The producer's receipt is right by the feed's time, even where its host's clock is wrong; the
broker's clock, which may be the same wrong one, only bounds it.
"""
PRICE_LIMIT: Final = 1e11
VOLUME_LIMIT: Final = 1e13
"""Sums of a bar are decimals (38, 10), below 1e28. One trade adds less than 1e11 * 1e13 = 1e24, so
10,000 trades at both limits fit; real ones are far from both: a bitcoin is some 3e9 dong or 9e9
Lebanese pounds, and coins that trade in 1e12 pieces cost far below 1. The query of the audit
(`audit/messages.py`) has the same limits.
"""
MAX_SYMBOL_CHARACTERS: Final = 128
_NO_TRADE: Final[dict[str, Any]] = {}


class Reason(str, Enum):
    """Why a frame, a trade or a Kafka message is not accepted."""

    FRAME_TOO_LARGE = "frame_too_large"
    MALFORMED_JSON = "malformed_json"
    UNKNOWN_MESSAGE = "unknown_message"
    WRONG_TYPE = "wrong_type"
    EMPTY_SYMBOL = "empty_symbol"
    BAD_PRICE = "bad_price"
    BAD_VOLUME = "bad_volume"
    BAD_TIME = "bad_time"
    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"


class WireTrade(NamedTuple):
    """A trade as the feed sent it. `event_time_ms` counts from the Unix epoch."""

    symbol: str
    price: float
    volume: float
    event_time_ms: int
    conditions: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A frame, or the trade at `index` of it, that is not accepted."""

    reason: Reason
    index: int | None = None


@dataclass(frozen=True, slots=True)
class TradeFrame:
    """Trades of one frame, in its order, and what was wrong with others."""

    trades: tuple[WireTrade, ...]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """The feed's sign of life."""


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """An error that the feed reports, in its words."""

    text: str


def parse_frame(frame: bytes | str, received_at_ms: int) -> TradeFrame | Ping | FeedMessage:
    """Read one text message of the feed.

    Args:
        frame: the message.
        received_at_ms: when it was read, ms since the epoch; a trade may not be far after it.
    """
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return TradeFrame((), (Reject(Reason.MALFORMED_JSON),))
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "ping":
        return Ping()
    if kind == "error":
        return FeedMessage(str(message.get("msg")))
    if kind != "trade":
        return TradeFrame((), (Reject(Reason.UNKNOWN_MESSAGE),))
    items = message.get("data")
    if not isinstance(items, list):
        return TradeFrame((), (Reject(Reason.WRONG_TYPE),))
    trades = []
    rejects = []
    latest_ms = received_at_ms + LATEST_AHEAD_MS
    for index, item in enumerate(items):
        parsed = _parse_trade(item, latest_ms)
        if isinstance(parsed, WireTrade):
            trades.append(parsed)
        else:
            rejects.append(Reject(parsed, index))
    return TradeFrame(tuple(trades), tuple(rejects))


def _parse_trade(item: Any, latest_ms: int) -> WireTrade | Reason:
    """Read one trade. The parser makes just JSON's types, so `type` tells a number from a bool."""
    get = item.get if type(item) is dict else _NO_TRADE.get
    symbol, price, volume = get("s"), get("p"), get("v")
    event_time_ms, conditions = get("t"), get("c")
    if (
        type(symbol) is not str
        or (type(price) is not float and type(price) is not int)
        or (type(volume) is not float and type(volume) is not int)
        or type(event_time_ms) is not int
        or (conditions is not None and not _are_conditions(conditions))
    ):
        return Reason.WRONG_TYPE
    if not 0 < len(symbol) <= MAX_SYMBOL_CHARACTERS:
        return Reason.EMPTY_SYMBOL
    # A comparison with NaN is false, so that it fails every range.
    if not 0 < price < PRICE_LIMIT:
        return Reason.BAD_PRICE
    if not 0 <= volume < VOLUME_LIMIT:
        return Reason.BAD_VOLUME
    if not EARLIEST_EVENT_TIME_MS <= event_time_ms <= latest_ms:
        return Reason.BAD_TIME
    sale = None if conditions is None else tuple(conditions)
    # Adding 0.0 makes a whole number a float, and -0.0 a 0.0.
    return WireTrade(symbol, price + 0.0, volume + 0.0, event_time_ms, sale)


def _are_conditions(value: Any) -> bool:
    # A comma or an empty id would make two lists look alike in a trade's identity.
    if type(value) is not list:
        return False
    for condition in value:
        if type(condition) is not str or not condition or "," in condition:
            return False
    return True
