"""Read a frame: bytes in, typed trades and typed rejects out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import orjson

EARLIEST_EVENT_TIME_MS: Final = 946_684_800_000
"""2000-01-01T00:00Z; an earlier time is a mistake, most often seconds in place of ms."""
LATEST_AHEAD_MS: Final = 60_000
"""How far a trade's time may lie after its receipt, in ms."""
PRICE_LIMIT: Final = 1e12
VOLUME_LIMIT: Final = 1e15
MAX_SYMBOL_CHARACTERS: Final = 128


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


@dataclass(frozen=True, slots=True)
class WireTrade:
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
    for index, item in enumerate(items):
        parsed = _parse_trade(item, received_at_ms)
        if isinstance(parsed, WireTrade):
            trades.append(parsed)
        else:
            rejects.append(Reject(parsed, index))
    return TradeFrame(tuple(trades), tuple(rejects))


def _parse_trade(item: Any, received_at_ms: int) -> WireTrade | Reason:
    if not isinstance(item, dict) or not _has_right_types(item):
        return Reason.WRONG_TYPE
    symbol: str = item["s"]
    price, volume = float(item["p"]), float(item["v"]) + 0.0  # -0.0 becomes 0.0
    event_time_ms: int = item["t"]
    conditions = item.get("c")
    # A comparison with NaN is false, so that it fails every range.
    checks = (
        (Reason.EMPTY_SYMBOL, 0 < len(symbol) <= MAX_SYMBOL_CHARACTERS),
        (Reason.BAD_PRICE, 0 < price < PRICE_LIMIT),
        (Reason.BAD_VOLUME, 0 <= volume < VOLUME_LIMIT),
        (
            Reason.BAD_TIME,
            EARLIEST_EVENT_TIME_MS <= event_time_ms <= received_at_ms + LATEST_AHEAD_MS,
        ),
    )
    for reason, is_right in checks:
        if not is_right:
            return reason
    return WireTrade(
        symbol, price, volume, event_time_ms, None if conditions is None else tuple(conditions)
    )


def _has_right_types(item: dict[str, Any]) -> bool:
    event_time_ms = item.get("t")
    return (
        isinstance(item.get("s"), str)
        and _is_number(item.get("p"))
        and _is_number(item.get("v"))
        and isinstance(event_time_ms, int)
        and not isinstance(event_time_ms, bool)
        and _is_conditions(item.get("c"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_conditions(value: Any) -> bool:
    # A comma or an empty id would make two lists look alike in a trade's identity.
    return value is None or (
        isinstance(value, list) and all(isinstance(c, str) and c and "," not in c for c in value)
    )
