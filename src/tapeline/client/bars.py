"""`stream_bars`: stored bars first, then each change of one as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from heapq import merge
from typing import Any, Final

from pydantic import TypeAdapter

from tapeline.client.api import DEFAULT_URL, Api, Events
from tapeline.client.passed import Passed
from tapeline.client.stream import Stream
from tapeline.model.read_interval import ReadInterval
from tapeline.model.threshold import require_time
from tapeline.model.times import floor_to

READ_AGAIN: Final = timedelta(days=1)
"""From so long before a symbol's newest final bar on, bars are read again after an interruption."""
_AT_ONCE: Final = 100
"""As many symbols may be in one request."""
_MOST_TOPICS: Final = 500
"""As many may one connection follow: the bars, or the trades, of a symbol."""
_FORGET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class StreamedBar:
    """A bar over [window_start, window_end) as it stands; times are aware, in UTC.

    `revision` is 0 while it is provisional and 1 when it is first final; a later trade makes it
    grow. Prices, `vwap` among them, are None when no trade could set one; `volume` is
    in the feed's units, rounded to a double. `is_complete` is False when the feed had a
    gap in it, and None while nobody can say.
    """

    symbol: str
    interval: str
    window_start: datetime
    window_end: datetime
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float
    vwap: float | None
    trade_count: int
    is_final: bool
    is_complete: bool | None
    revision: int
    session: str | None


_BAR: Final = TypeAdapter(StreamedBar)


def stream_bars(
    symbols: str | Sequence[str],
    interval: str = "5m",
    since: datetime | None = None,
    *,
    final_only: bool = False,
    url: str = DEFAULT_URL,
    key: str | None = None,
) -> Stream[StreamedBar]:
    """Return an endless stream of bars: those since a time, in its order, then each change of one.

    A final bar comes once, and again when it is revised. While the API, Kafka or Cassandra is away
    the stream waits, and goes on with what has changed. Of several states that a bar had since the
    last one that was passed on, only the newest comes. A revision of a bar that is more than a day
    (or two lengths of a bar) older than the newest final one of its symbol is missed if it is made
    while there is no connection to the API.

    Args:
        symbols: one symbol or several, in the feed's names; 500 at most.
        interval: as in `read_bars`, but a length of time.
        since: the first window start, aware; by default that of the window that is open now.
        final_only: no provisional bars.
        url: of a `tapeline api`.
        key: of that API, if it asks for one.

    Raises:
        ValueError: the interval is unknown, the time has no zone, there are no symbols or too
            many, or the address is not a valid one.
        ServiceUnavailableError: no API answers, when the first bar is asked for.
        UsageError: the API refuses what is asked for.
    """
    names = names_of(symbols)
    length = ReadInterval.parse(require_time(interval))
    first = floor_to(length.duration, datetime.now(timezone.utc)) if since is None else since
    api = Api(url, key)
    return Stream(api, Bars(api, names, length, aware(first), final_only=final_only).follow)


def latest_bars(api: Api, symbols: Sequence[str], interval: str = "5m") -> list[StreamedBar]:
    """Return the newest bar of each symbol that has had one within a week; 100 symbols at most.

    Raises:
        ServiceUnavailableError: the API does not answer, or cannot for the moment.
        UsageError: it refuses what is asked for.
    """
    found = api.get("/v1/bars/latest", symbols=",".join(symbols), interval=interval)
    return [_BAR.validate_python({"interval": interval, **row}) for row in found["bars"]]


def names_of(symbols: str | Sequence[str], channels: int = 1) -> list[str]:
    """Return the symbols, each once.

    Raises:
        ValueError: there are none, or more than one connection may follow in so many channels.
    """
    names = list(dict.fromkeys([symbols] if isinstance(symbols, str) else symbols))
    most = _MOST_TOPICS // channels
    if not 0 < len(names) <= most:
        message = f"Give one symbol to {most}, not {len(names)}."
        raise ValueError(message)
    return names


def aware(since: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ValueError: it has no zone.
    """
    if since.tzinfo is None:
        message = "since needs a time zone, e.g. datetime(…, tzinfo=timezone.utc)."
        raise ValueError(message)
    return since.astimezone(timezone.utc)


class Bars:
    """The bars of some symbols through one connection after the other, each state once.

    Args:
        api: to read what is stored.
        symbols: each once.
        length: of the bars.
        since: the first window start, in UTC.
        final_only: no provisional bars.
    """

    def __init__(
        self,
        api: Api,
        symbols: Sequence[str],
        length: ReadInterval,
        since: datetime,
        *,
        final_only: bool,
    ) -> None:
        self._api = api
        self._symbols = symbols
        self._length = length
        self._since = since
        self._final_only = final_only
        self._read_again = max(READ_AGAIN, 2 * length.duration)
        self._passed = Passed(length.duration)
        self._waiting: dict[tuple[str, datetime], StreamedBar] = {}
        self._is_store_up = True
        self._forgot_s = time.monotonic()
        self.newest_final: dict[str, StreamedBar] = {}
        """By symbol, of those that were passed on."""
        self.until: dict[str, datetime] = {}
        """By symbol, the end of the newest bar that was seen, final or not."""
        self.must_read = False
        """Whether what is stored may have changed without an event."""

    def follow(self, events: Events) -> Iterator[StreamedBar]:
        """Yield what one connection brings."""
        self.begin(events, ["bars"], self.take)
        while True:
            yield from self.news(events)
            self.take(*events.next())

    def begin(
        self, events: Events, channels: Sequence[str], take: Callable[[str, dict[str, Any]], None]
    ) -> None:
        """Subscribe, and take what comes until nothing that changes is missed any more."""
        chunks = [
            self._symbols[at : at + _AT_ONCE] for at in range(0, len(self._symbols), _AT_ONCE)
        ]
        for chunk in chunks:
            events.send(
                action="subscribe", symbols=chunk, interval=self._length.name, channels=channels
            )
        missing = len(chunks)
        while missing:
            name, data = events.next()
            missing -= name == "followed"
            take(name, data)
        self.must_read = True

    def news(self, events: Events) -> Iterator[StreamedBar]:
        """Yield what is new by now: of what is stored if that has to be read, then of what came."""
        while self.must_read:
            yield from self._read(events)
        while self._waiting:
            yield from self._news(self._waiting.pop(next(iter(self._waiting))))

    def take(self, name: str, data: dict[str, Any]) -> None:
        """Take an event; a bar waits for `news`."""
        if name == "bar":
            bar = self._bar_of(data)
            self._waiting[bar.symbol, bar.window_start] = bar
        elif name == "reset":
            # What was provisional may begin again with fewer trades: its topic was made anew.
            self._waiting = {key: bar for key, bar in self._waiting.items() if bar.is_final}
            self._passed.forget_open()
            self.must_read = True
        elif name == "state":
            was_up, self._is_store_up = self._is_store_up, data["store"] == "up"
            self.must_read |= self._is_store_up and not was_up

    def reads_again_from(self, symbol: str) -> datetime:
        """Return from which window start on bars of a symbol are read again."""
        newest = self.newest_final.get(symbol)
        if newest is None:
            return self._since
        return max(self._since, newest.window_start - self._read_again)

    def _read(self, events: Events) -> Iterator[StreamedBar]:
        """Yield the news among the stored bars, in order of time."""
        self.must_read = False
        stored = (self._stored(symbol, events) for symbol in self._symbols)
        for bar in merge(*stored, key=lambda bar: (bar.window_start, bar.symbol)):
            yield from self._news(bar)

    def _stored(self, symbol: str, events: Events) -> Iterator[StreamedBar]:
        start = self.reads_again_from(symbol)
        for page in self._api.pages("/v1/bars", start, symbols=symbol, interval=self._length.name):
            # The API cuts off who takes nothing for long.
            for name, data in events.waiting():
                self.take(name, data)
            yield from (self._bar_of(row) for row in page["bars"])

    def _news(self, bar: StreamedBar) -> Iterator[StreamedBar]:
        """Yield a bar unless this state of it, or a later one, has been passed on."""
        self.until[bar.symbol] = max(bar.window_end, self.until.get(bar.symbol, bar.window_end))
        if bar.window_start < self._since or (self._final_only and not bar.is_final):
            return
        if not self._passed.take(
            bar.symbol,
            bar.window_start,
            is_final=bar.is_final,
            number=bar.revision if bar.is_final else bar.trade_count,
            content=hash(bar),
        ):
            return
        if bar.is_final:
            newest = self.newest_final.get(bar.symbol)
            if newest is None or bar.window_start > newest.window_start:
                self.newest_final[bar.symbol] = bar
        if time.monotonic() - self._forgot_s > _FORGET_S:
            self._forgot_s = time.monotonic()
            self._passed.forget({name: self.reads_again_from(name) for name in self.newest_final})
        yield bar

    def _bar_of(self, row: dict[str, Any]) -> StreamedBar:
        return _BAR.validate_python({"interval": self._length.name, **row})
