"""`stream_bars`: stored bars first, then each change of one as it happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from heapq import merge
from typing import Final

from pydantic import TypeAdapter

from tapeline.client.api import DEFAULT_URL, Api, Events
from tapeline.client.stream import Stream
from tapeline.model.read_interval import ReadInterval
from tapeline.model.threshold import require_time
from tapeline.model.times import floor_to

_AT_ONCE: Final = 100
"""As many symbols may be in one request."""
_MOST: Final = 500


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
    last one that was passed on, only the newest comes.

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
    names = list(dict.fromkeys([symbols] if isinstance(symbols, str) else symbols))
    if not 0 < len(names) <= _MOST:
        message = f"Give one symbol to {_MOST}, not {len(names)}."
        raise ValueError(message)
    length = ReadInterval.parse(require_time(interval))
    if since is None:
        since = floor_to(length.duration, datetime.now(timezone.utc))
    elif since.tzinfo is None:
        message = "since needs a time zone, e.g. datetime(…, tzinfo=timezone.utc)."
        raise ValueError(message)
    api = Api(url, key)
    return Stream(api, _Bars(api, names, length.name, since, final_only=final_only).follow)


class _Bars:
    """What has been passed on of each bar, so that nothing is passed on twice."""

    def __init__(
        self, api: Api, symbols: list[str], interval: str, since: datetime, *, final_only: bool
    ) -> None:
        self._api = api
        self._symbols = symbols
        self._interval = interval
        self._since = since
        self._final_only = final_only
        self._passed_on: dict[tuple[str, datetime], StreamedBar] = {}
        self._waiting: dict[tuple[str, datetime], StreamedBar] = {}
        self._must_read = False
        self._is_store_up = True

    def follow(self, events: Events) -> Iterator[StreamedBar]:
        """Yield what one connection brings."""
        self._waiting.clear()
        self._subscribe(events)
        self._must_read = True
        while True:
            # What changes from here on waits in the connection until what is stored is read.
            while self._must_read:
                yield from self._read(events)
            waiting, self._waiting = self._waiting, {}
            for bar in waiting.values():
                yield from self._news(bar)
            self._take(*events.next())

    def _subscribe(self, events: Events) -> None:
        chunks = [
            self._symbols[at : at + _AT_ONCE] for at in range(0, len(self._symbols), _AT_ONCE)
        ]
        for chunk in chunks:
            events.send(action="subscribe", symbols=chunk, interval=self._interval)
        missing = len(chunks)
        while missing:
            missing -= events.next()[0] == "followed"

    def _read(self, events: Events) -> Iterator[StreamedBar]:
        """Yield the news among the stored bars, in order of time."""
        self._must_read = False
        stored = (self._stored(symbol, events) for symbol in self._symbols)
        for bar in merge(*stored, key=lambda bar: (bar.window_start, bar.symbol)):
            yield from self._news(bar)

    def _stored(self, symbol: str, events: Events) -> Iterator[StreamedBar]:
        cursor = None
        while True:
            page = self._api.get(
                "/v1/bars",
                symbols=symbol,
                interval=self._interval,
                start=self._since.isoformat(),
                cursor=cursor,
            )
            # The API cuts off who takes nothing for long.
            for name, data in events.waiting():
                self._take(name, data)
            yield from (self._bar_of(row) for row in page["bars"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _take(self, name: str, data: dict[str, object]) -> None:
        if name == "bar":
            bar = self._bar_of(data)
            self._waiting[bar.symbol, bar.window_start] = bar
        elif name == "reset":
            self._forget_open()
            self._must_read = True
        elif name == "state":
            was_up, self._is_store_up = self._is_store_up, data["store"] == "up"
            self._must_read |= self._is_store_up and not was_up

    def _forget_open(self) -> None:
        """What was provisional may begin again with fewer trades: its topic was made anew."""
        self._passed_on = {key: bar for key, bar in self._passed_on.items() if bar.is_final}

    def _news(self, bar: StreamedBar) -> Iterator[StreamedBar]:
        """Yield a bar unless this state of it, or a later one, has been passed on."""
        if bar.window_start < self._since or (self._final_only and not bar.is_final):
            return
        key = bar.symbol, bar.window_start
        known = self._passed_on.get(key)
        if known is None or (bar != known and _rank(bar) >= _rank(known)):
            self._passed_on[key] = bar
            yield bar

    def _bar_of(self, row: dict[str, object]) -> StreamedBar:
        return _BAR.validate_python({"interval": self._interval, **row})


def _rank(bar: StreamedBar) -> tuple[int, int]:
    """Return what no later state of a bar has less of."""
    return bar.revision, 0 if bar.is_final else bar.trade_count
