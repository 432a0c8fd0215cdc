"""Kraken's spot market, version 2 of its protocol: channel `trade`, numbered for each pair.

Public, without a key. Heartbeats come every second while anything is subscribed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import orjson

from tapeline.feeds.feed import (
    FeedMessage,
    IdHole,
    Message,
    OfferedTrade,
    Ping,
    chunks,
    millis,
    number,
    with_venue,
    without_venue,
)
from tapeline.model.reasons import Reason

_ANSWERS: Final = frozenset({"heartbeat", "status"})
_AT_ONCE: Final = 100
_PAGE: Final = 1000
_COLUMNS: Final = 7
_LATEST_S: Final = 1 << 40


class KrakenHistory:
    """A thousand trades a page, the oldest first, from a time on."""

    requests_per_s: Final = 0.5
    forwards: Final = True

    def page(self, hole: IdHole) -> str:
        """Ask from the millisecond of the trade that is known: there may be more of it."""
        pair = quote(without_venue(hole.symbol), safe="/")
        return f"/0/public/Trades?pair={pair}&since={hole.after_ms * 1_000_000 - 1}&count={_PAGE}"

    def read(self, answer: Any, symbol: str) -> Sequence[OfferedTrade] | None:
        """Read [price, size, seconds, side, kind, notes, number] of each trade."""
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict) or answer.get("error"):
            return None
        lists = [rows for name, rows in result.items() if name != "last"]
        if not all(isinstance(rows, list) for rows in lists):
            return None
        rows = [row for rows in lists for row in rows]
        if any(not isinstance(row, list) or len(row) < _COLUMNS for row in rows):
            return None
        return [
            OfferedTrade(symbol, number(row[0]), number(row[1]), _millis_of(row[2]), None, row[6])
            for row in rows
        ]


class Kraken:
    """Kraken's protocol; symbols as `KRAKEN:BTC/USD`."""

    name: Final = "kraken"
    venue: Final = "KRAKEN"
    default_symbols: Final = ("BTC/USD", "ETH/USD", "SOL/USD")
    has_ids: Final = True
    most_symbols: Final = None
    messages_per_s: Final = 5.0
    keep_alive: Final = None
    history: Final = KrakenHistory()

    def symbol_of(self, name: str) -> str:
        """Return it with the venue."""
        return f"{self.venue}:{name}"

    def address(self, url: str) -> str:
        """Return the address as it is."""
        return url

    def subscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield messages of a hundred symbols; each symbol is answered alone."""
        return _in_groups("subscribe", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield messages of a hundred symbols."""
        return _in_groups("unsubscribe", symbols)

    def read(self, message: Any) -> Message:
        """Read trades, an answer, a heartbeat or a status."""
        if not isinstance(message, dict):
            return Reason.UNKNOWN_MESSAGE
        channel = message.get("channel")
        if channel == "trade":
            items = message.get("data")
            return list(map(_trade, items)) if isinstance(items, list) else Reason.WRONG_TYPE
        if isinstance(channel, str) and channel in _ANSWERS:
            return Ping()
        if "method" not in message and "error" not in message:
            return Reason.UNKNOWN_MESSAGE
        if message.get("success") is False or "error" in message:
            return _error(message)
        return Ping()


def _trade(item: Any) -> OfferedTrade:
    trade = item if isinstance(item, dict) else {}
    return OfferedTrade(
        with_venue(Kraken.venue, trade.get("symbol")),
        trade.get("price"),
        trade.get("qty"),
        millis(trade.get("timestamp")),
        trade_id=trade.get("trade_id"),
    )


def _error(message: dict[str, Any]) -> FeedMessage:
    pair = message.get("symbol")
    is_refused = message.get("method") == "subscribe" and isinstance(pair, str)
    refused = (f"{Kraken.venue}:{pair}",) if is_refused else ()
    return FeedMessage(str(message.get("error")), refused)


def _in_groups(method: str, symbols: Sequence[str]) -> Iterable[str]:
    for group in chunks(symbols, _AT_ONCE):
        pairs = list(map(without_venue, group))
        parameters: dict[str, Any] = {"channel": "trade", "symbol": pairs}
        if method == "subscribe":
            parameters["snapshot"] = False  # trades from before are not of our time
        yield orjson.dumps({"method": method, "params": parameters}).decode()


def _millis_of(seconds: Any) -> Any:
    """Return seconds with a fraction as whole ms, cut as the times of the live feed are."""
    is_time = type(seconds) in {int, Decimal} and 0 <= seconds < _LATEST_S
    return int(seconds * 1000) if is_time else seconds
