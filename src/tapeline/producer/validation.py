"""Read a frame: bytes in, typed trades and typed rejects out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from tapeline.feeds.feed import Feed, FeedMessage, OfferedTrade, Ping
from tapeline.feeds.finnhub import FINNHUB
from tapeline.model.reasons import (
    EARLIEST_EVENT_TIME_MS,
    LATEST_AHEAD_MS,
    MAX_SYMBOL_CHARACTERS,
    PRICE_LIMIT,
    VOLUME_LIMIT,
    Reason,
)
from tapeline.model.venues import may_be_below_zero

ID_LIMIT: Final = 1 << 63
"""Of an exchange's number, which is a trade's id as it is."""


class WireTrade(NamedTuple):
    """A valid trade as the feed sent it.

    `event_time_ms` counts from the Unix epoch. `trade_id` is the exchange's number, None where the
    feed gives none.
    """

    symbol: str
    price: float
    volume: float
    event_time_ms: int
    conditions: tuple[str, ...] | None
    trade_id: int | None = None


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


def parse_frame(
    frame: bytes | str, received_at_ms: int, feed: Feed = FINNHUB
) -> TradeFrame | Ping | FeedMessage:
    """Read one text message of a feed.

    Args:
        frame: the message.
        received_at_ms: when it was read, ms since the epoch; a trade may not be far after it.
        feed: whose it is.
    """
    try:
        message = feed.read(orjson.loads(frame))
    except orjson.JSONDecodeError:
        return TradeFrame((), (Reject(Reason.MALFORMED_JSON),))
    if isinstance(message, (Ping, FeedMessage)):
        return message
    if isinstance(message, Reason):
        return TradeFrame((), (Reject(message),))
    trades = []
    rejects = []
    latest_ms = received_at_ms + LATEST_AHEAD_MS
    for index, offered in enumerate(message):
        parsed = valid_trade(offered, latest_ms, needs_id=feed.has_ids)
        if isinstance(parsed, WireTrade):
            trades.append(parsed)
        else:
            rejects.append(Reject(parsed, index))
    return TradeFrame(tuple(trades), tuple(rejects))


def valid_trade(offered: OfferedTrade, latest_ms: int, *, needs_id: bool) -> WireTrade | Reason:
    """Check one trade of a feed; return what is wrong with it if it is none.

    Args:
        offered: as the feed has it.
        latest_ms: what it may not be after, ms since the epoch.
        needs_id: whether it has to have the exchange's number.
    """
    # The parser makes just JSON's types, so `type` tells a number from a bool.
    symbol, price, volume, event_time_ms, conditions, trade_id = offered
    if (
        type(symbol) is not str
        or (type(price) is not float and type(price) is not int)
        or (type(volume) is not float and type(volume) is not int)
        or type(event_time_ms) is not int
        or (conditions is not None and not _are_conditions(conditions))
        or (needs_id and not (type(trade_id) is int and 0 <= trade_id < ID_LIMIT))
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
    return WireTrade(symbol, price + 0.0, volume + 0.0, event_time_ms, sale, trade_id)


def _are_conditions(value: Any) -> bool:
    # A comma or an empty id would make two lists look alike in a trade's identity.
    if type(value) is not list:
        return False
    for condition in value:
        if type(condition) is not str or not condition or "," in condition:
            return False
    return True
