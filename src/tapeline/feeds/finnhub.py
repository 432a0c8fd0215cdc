"""Finnhub's feed: trades of many venues in frames, without ids; the key is part of the address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from pydantic import SecretStr

from tapeline.feeds.feed import FeedMessage, Message, OfferedTrade, Ping
from tapeline.model.reasons import Reason

_TOO_MANY: Final = "too many symbols"
_INVALID: Final = "Invalid symbol "
_NO_TRADE: Final[dict[str, Any]] = {}


class Finnhub:
    """Finnhub's protocol.

    Args:
        token: the key; without it a message can be read and no address given.
    """

    name: Final = "finnhub"
    venue: Final = ""
    default_symbols: Final = (
        "AAPL",
        "MSFT",
        "NVDA",
        "AMZN",
        "TSLA",
        "SPY",
        "BINANCE:BTCUSDT",
    )
    has_ids: Final = False
    most_symbols: Final = None
    messages_per_s: Final = None
    keep_alive: Final = None
    history: Final = None

    def __init__(self, token: SecretStr | None = None) -> None:
        self._token = token

    def symbol_of(self, name: str) -> str:
        """Return the name: Finnhub's are ours."""
        return name

    def address(self, url: str) -> str:
        """Return the address with the key."""
        secret = self._token.get_secret_value() if self._token else ""
        return f"{url}?{urlencode({'token': secret})}"

    def subscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield a message for each symbol."""
        return _each("subscribe", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield a message for each symbol."""
        return _each("unsubscribe", symbols)

    def read(self, message: Any) -> Message:
        """Read a frame of trades, a ping or an error."""
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "trade":
            items = message.get("data")
            return list(map(_trade, items)) if isinstance(items, list) else Reason.WRONG_TYPE
        if kind == "ping":
            return Ping()
        if kind == "error":
            return _error(str(message.get("msg")))
        return Reason.UNKNOWN_MESSAGE


FINNHUB: Final = Finnhub()
"""For reading alone."""


def _trade(item: Any) -> OfferedTrade:
    get = item.get if type(item) is dict else _NO_TRADE.get
    return OfferedTrade(get("s"), get("p"), get("v"), get("t"), get("c"))


def _error(text: str) -> FeedMessage:
    is_invalid = text.startswith(_INVALID)
    refused = (text.removeprefix(_INVALID),) if is_invalid else ()
    return FeedMessage(text, refused, is_full=_TOO_MANY in text)


def _each(kind: str, symbols: Sequence[str]) -> Iterable[str]:
    return (orjson.dumps({"type": kind, "symbol": symbol}).decode() for symbol in symbols)
