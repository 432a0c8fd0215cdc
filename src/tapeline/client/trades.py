"""`stream_trades`: stored trades first, then each as it is made.

A live trade comes from the log at once, but only while there is a connection, and not when it is
late. What is missed so is found in silver: soon after a connection began, and at the latest when
the bar of its window is final or revised, for then all trades of the window are read. Until then
their ids are kept, and for a day after it.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from heapq import merge
from typing import Any, Final
from urllib.parse import quote

from pydantic import TypeAdapter

from tapeline.client.api import DEFAULT_URL, Api, Events
from tapeline.client.bars import READ_AGAIN, Bars, aware, names_of
from tapeline.client.stream import Stream
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import EPOCH, floor_to

_WINDOW: Final = ReadInterval.parse("5m")
_CHANNELS: Final = ("bars", "trades")
_MOST_WAITING: Final = 10_000
"""Live trades that wait while stored ones are read; those beyond are found in silver."""
_AGAIN_S: Final = (10.0, 60.0)
"""So long after a connection began, trades that were not in silver yet are looked for again."""
_FORGET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class StreamedTrade:
    """A valid trade; times are aware, in UTC.

    `trade_id` tells it from every other one of its symbol and millisecond, `sequence` is its rank
    among those. `volume` is in the feed's units; `conditions` are the feed's ids, None when it sent
    none.
    """

    symbol: str
    event_time: datetime
    price: float
    volume: float
    conditions: tuple[str, ...] | None
    trade_id: int
    sequence: int | None
    source: str | None
    received_at: datetime | None


_TRADE: Final = TypeAdapter(StreamedTrade)


def stream_trades(
    symbols: str | Sequence[str],
    since: datetime | None = None,
    *,
    url: str = DEFAULT_URL,
    key: str | None = None,
) -> Stream[StreamedTrade]:
    """Return an endless stream of trades: those since a time, in its order, then each as it comes.

    Each trade comes once. One that was made while there was no connection comes within about a
    minute of the next one, and one that is late, or longer on its way to silver, when the bar of
    its five minutes is final or revised: so not in order of time. While the API, Kafka or Cassandra
    is away the stream waits. A trade is missed if it is more than a day older than the newest final
    bar of its symbol, and reaches silver while there is no connection to the API, or a day after
    its receipt.

    Args:
        symbols: one symbol or several, in the feed's names; 250 at most.
        since: the first event time, aware; now by default.
        url: of a `tapeline api`.
        key: of that API, if it asks for one.

    Raises:
        ValueError: the time has no zone, there are no symbols or too many, or the address is not a
            valid one.
        ServiceUnavailableError: no API answers, when the first trade is asked for.
        UsageError: the API refuses what is asked for.
    """
    names = names_of(symbols, len(_CHANNELS))
    api = Api(url, key)
    first = datetime.now(timezone.utc) if since is None else aware(since)
    return Stream(api, _Trades(api, names, first).follow)


_Key = tuple[str, datetime]
"""A symbol and the start of five minutes."""


@dataclass(slots=True)
class _Window:
    """The trades that were passed on of one symbol's five minutes."""

    ids: set[int] | array[int] = field(default_factory=set)
    received: datetime = EPOCH
    """The newest receipt of them."""


class _Trades:
    """What has been passed on of each window."""

    def __init__(self, api: Api, symbols: Sequence[str], since: datetime) -> None:
        self._api = api
        self._symbols = symbols
        self._since = since
        start = floor_to(_WINDOW.duration, since)
        self._bars = Bars(api, symbols, _WINDOW, start, final_only=True)
        self._unread = dict.fromkeys(symbols, start)
        """By symbol, the window up to which stored trades have been read; without those at end."""
        self._due: dict[_Key, datetime] = {}
        """The end of each window that has to be read, since its bar was passed on."""
        self._windows: dict[_Key, _Window] = {}
        self._received = dict.fromkeys(symbols, EPOCH)
        """By symbol, the newest receipt of what was passed on."""
        self._waiting: deque[StreamedTrade] = deque(maxlen=_MOST_WAITING)
        self._forgot_s = time.monotonic()

    def follow(self, events: Events) -> Iterator[StreamedTrade]:
        """Yield what one connection brings."""
        self._bars.begin(events, _CHANNELS, self._take)
        again_s = [time.monotonic() + after_s for after_s in _AGAIN_S]
        while True:
            must_read = self._bars.must_read
            if again_s and time.monotonic() > again_s[0]:
                again_s.pop(0)
                must_read = True
            for bar in self._bars.news(events):
                # A window that is still to be read has every trade by then.
                if bar.window_start < self._unread.get(bar.symbol, bar.window_end):
                    self._due[bar.symbol, bar.window_start] = bar.window_end
            yield from self._read_due(events)
            if must_read:
                yield from self._read_rest(events)
            while self._waiting:
                yield from self._news(self._waiting.popleft())
            if not self._bars.must_read:
                self._take(*events.next())

    def _read_due(self, events: Events) -> Iterator[StreamedTrade]:
        """Yield the news in windows whose bar became final or was revised."""
        # Before what is newer: by receipts it is told which trades of a forgotten window are news.
        while self._due:
            (symbol, start), end = next(iter(self._due.items()))
            for trade in self._stored(symbol, events, start, end):
                yield from self._news(trade)
            del self._due[symbol, start]

    def _read_rest(self, events: Events) -> Iterator[StreamedTrade]:
        """Yield the news among stored trades that are in no final bar yet, or were never read."""
        for symbol in self._symbols:
            newest = self._bars.newest_final.get(symbol)
            start = self._since if newest is None else newest.window_end
            self._unread.setdefault(symbol, floor_to(_WINDOW.duration, start))
        # An API looks at a day a page, so it is not asked for times without bars.
        stored = [
            self._stored(symbol, events, start, end)
            for symbol, start in self._unread.items()
            if (end := self._bars.until.get(symbol)) is not None and start < end
        ]
        for trade in merge(*stored, key=lambda trade: (trade.event_time, trade.symbol)):
            self._unread[trade.symbol] = floor_to(_WINDOW.duration, trade.event_time)
            yield from self._news(trade)
        self._unread.clear()

    def _stored(
        self, symbol: str, events: Events, start: datetime, end: datetime
    ) -> Iterator[StreamedTrade]:
        """Yield the trades in silver with start <= event_time < end, by time and then by id."""
        path = f"/v1/trades/{quote(symbol, safe='')}"
        for page in self._api.pages(path, start, end=end.isoformat()):
            # The API cuts off who takes nothing for long.
            for name, data in events.waiting():
                self._take(name, data)
            yield from map(_TRADE.validate_python, page["trades"])

    def _take(self, name: str, data: dict[str, Any]) -> None:
        if name == "trade":
            self._waiting.append(_TRADE.validate_python(data))
        else:
            self._bars.take(name, data)

    def _news(self, trade: StreamedTrade) -> Iterator[StreamedTrade]:
        """Yield a trade unless it has been passed on."""
        key = trade.symbol, floor_to(_WINDOW.duration, trade.event_time)
        received = trade.received_at or EPOCH
        # The ids of these windows are forgotten, but for those of trades that were received lately.
        is_forgotten = key[1] < self._kept_from(trade.symbol) and received < self._recent(
            trade.symbol
        )
        if trade.event_time < self._since or is_forgotten:
            return
        window = self._windows.setdefault(key, _Window())
        if not isinstance(window.ids, set):
            window.ids = set(window.ids)
        if trade.trade_id in window.ids:
            return
        window.ids.add(trade.trade_id)
        window.received = max(window.received, received)
        self._received[trade.symbol] = max(self._received[trade.symbol], received)
        if time.monotonic() - self._forgot_s > _FORGET_S:
            self._forgot_s = time.monotonic()
            self._forget()
        yield trade

    def _kept_from(self, symbol: str) -> datetime:
        """Return from which window on all ids are kept."""
        kept = self._bars.reads_again_from(symbol)
        return min(kept, self._unread.get(symbol, kept))

    def _recent(self, symbol: str) -> datetime:
        """Return from which receipt on the ids of older windows are kept too."""
        return self._received[symbol] - READ_AGAIN

    def _forget(self) -> None:
        """Forget the ids of windows that are old, and pack those of the others that are final."""
        for (symbol, start), window in list(self._windows.items()):
            newest = self._bars.newest_final.get(symbol)
            if start < self._kept_from(symbol) and window.received < self._recent(symbol):
                del self._windows[symbol, start]
            elif newest is not None and start <= newest.window_start:
                window.ids = array("q", window.ids)
