"""Read a frame: bytes in, typed trades and typed rejects out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from tapeline.model.reasons import (
    EARLIEST_EVENT_TIME_MS,
    LATEST_AHEAD_MS,
    MAX_SYMBOL_CHARACTERS,
    PRICE_LIMIT,
    VOLUME_LIMIT,
    Reason,
)
from tapeline.model.venues import may_be_below_zero

_NO_TRADE: Final[dict[str, Any]] = {}


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
    if not 0 < price < PRICE_LIMIT and not (
        -PRICE_LIMIT < price <= 0 and may_be_below_zero(symbol)
    ):
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
