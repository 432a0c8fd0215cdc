"""Events as they are sent, each made once however many listeners get it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from tapeline.api.bar_pages import row_of
from tapeline.api.formats import to_json
from tapeline.model.bar import Bar
from tapeline.model.times import from_micros, from_millis, to_millis
from tapeline.model.trade import Trade


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as bytes of a stream of server-sent events and as a message of a WebSocket.

    Of events with the same `key` a slow listener gets the newest alone.
    """

    key: Hashable
    sse: bytes
    message: str


def bar_event(name: str, bar: Bar) -> Event:
    """Return a bar as event `bar`; `name` is its interval's."""
    data = to_json({**row_of(bar), "interval": name})
    return _event("bar", data, (name, bar.symbol, bar.window_start))


def trade_event(trade: Trade) -> Event:
    """Return a trade as event `trade`, with the fields of `/v1/trades`."""
    return _event("trade", to_json(trade_row(trade)), None)


def state_event(state: Mapping[str, str]) -> Event:
    """Return the state as event `state`.

    Its id is what makes a browser that comes back say so.
    """
    number = to_millis(datetime.now(timezone.utc))
    return _event("state", to_json(state), "state", b"id: %d\n" % number)


def told_event(name: str, content: Mapping[str, Any]) -> Event:
    """Return any other event."""
    return _event(name, to_json(content), None)


def trade_row(trade: Trade) -> dict[str, Any]:
    """Return a trade as it is sent."""
    return {
        "symbol": trade.symbol,
        "event_time": from_millis(trade.event_time_ms),
        # JavaScript's numbers lose digits.
        "trade_id": str(trade.trade_id),
        "price": trade.price,
        "volume": trade.volume,
        "conditions": trade.conditions,
        "sequence": trade.sequence,
        "received_at": from_micros(trade.received_at_us),
        "source": trade.source,
    }


def _event(name: str, data: bytes, key: Hashable, head: bytes = b"") -> Event:
    kind = name.encode()
    sse = b"event: %s\n%sdata: %s\n\n" % (kind, head, data)
    return Event(key, sse, (b'{"event":"%s","data":%s}' % (kind, data)).decode())


RESET: Final = told_event("reset", {"reason": "bars may have changed unseen: read them again"})
