"""Live bars: one reader of the store for all listeners.

Each look asks for the newest windows of the symbols that somebody listens to, for what the log
of final bars says has changed, and rarely for the last hours. An event's id is how far the log
had been read, so a listener that comes back gets every final bar since, of whatever age.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog

from tapeline.api.bar_pages import row_of
from tapeline.api.formats import to_json
from tapeline.api.listeners import Listener, Listeners
from tapeline.api.look import Key, Look, Seen, Topic, look, oldest_of
from tapeline.api.problems import Problem
from tapeline.api.store import Store
from tapeline.bar import Bar, Interval
from tapeline.metrics import Metrics
from tapeline.storage.live_rows import CHANGES_KEPT, BarChange
from tapeline.times import to_millis

log = structlog.get_logger()

_PERIOD_S: Final = 0.4
_REST: Final = 2.0
"""The pause after a look is at least so many times as long as the look took."""
_WIDE_EVERY: Final = 25
"""Every so many looks, the last hours are looked at and not only the newest windows."""
_OVERLAP: Final = timedelta(seconds=30)
"""Writers' clocks and requests may be late by so much: what was logged then is read again."""
_LATEST: Final = timedelta(minutes=10)
"""Nothing is logged with a time that lies so far back."""
_UNMADE_S: Final = 60.0
_UNMADE: Final = timedelta(seconds=_UNMADE_S)
"""A logged change that has not been made by then never will be."""
_HEARTBEAT_S: Final = 5.0
_RESET: Final = b'event: reset\ndata: {"reason": "too much has changed: read the bars anew"}\n\n'
_LONGEST_ID: Final = 14


class Live:
    """Watches the bars that somebody listens to.

    Args:
        store: of the bars.
        metrics: of the API.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self.listeners = Listeners(metrics)
        self._known: dict[Key, Bar] = {}
        self._unmade: dict[BarChange, float] = {}
        self._handled: set[BarChange] = set()
        self._position = datetime.now(timezone.utc)
        self._topics: frozenset[Topic] = frozenset()
        self._looks = 0
        self._is_down = False

    async def run(self) -> None:
        """Look for changes while somebody listens, until cancelled."""
        while True:
            await self.listeners.wait()
            started = time.monotonic()
            try:
                await self._look()
            except Exception as error:  # one bad look must not end live push for everyone
                log.exception("look_failed", error=repr(error))
            took_s = time.monotonic() - started
            await asyncio.sleep(max(_PERIOD_S - took_s, took_s * _REST))

    def register(self, symbols: Iterable[str], interval: Interval, last_id: str | None) -> Listener:
        """Open a stream for what changes after the event with `last_id`, or from now on.

        Raises:
            Problem: 503, there are too many listeners.
        """
        now = datetime.now(timezone.utc)
        since = now if last_id is None else _time_of(last_id)
        is_kept = since is not None and now - CHANGES_KEPT < since < now + timedelta(minutes=1)
        topics = frozenset((interval, symbol) for symbol in symbols)
        listener = Listener(topics, since if since is not None and is_kept else now)
        self.listeners.add(listener)
        if not is_kept:
            self.listeners.put(listener, _RESET)
        return listener

    async def events(self, listener: Listener) -> AsyncIterator[bytes]:
        """Yield events as they come, and the state every few seconds, until the stream ends."""
        try:
            # Without an id: what was missed may wait already.
            yield b"retry: 1000\n" + self._state()
            while True:
                try:
                    batch = await asyncio.wait_for(listener.queue.get(), _HEARTBEAT_S)
                except (TimeoutError, asyncio.TimeoutError):
                    if not listener.queue.empty():
                        continue  # the state's id must not be ahead of what waits
                    batch = self._state(listener)
                if batch is None:
                    return
                yield batch
        finally:
            self.listeners.remove(listener)

    async def _look(self) -> None:
        if not len(self.listeners):
            return  # the last one went as we woke
        joining = [listener for listener in self.listeners if not listener.has_joined]
        topics = frozenset(topic for listener in self.listeners for topic in listener.topics)
        # Where nobody has joined yet, what was before the first of them is nobody's.
        has_joined = len(joining) < len(self.listeners)
        since = self._resume_at if has_joined else datetime.now(timezone.utc)
        missed_since = min([since, *(listener.since for listener in joining)])
        skipped = frozenset() if joining else frozenset(self._handled)
        self._looks += 1
        is_wide = self._looks % _WIDE_EVERY == 0 or not topics <= self._topics
        wanted = Look(topics, since - _OVERLAP, missed_since - _OVERLAP, skipped, is_wide=is_wide)
        try:
            seen = await self._store.read(lambda client: look(client, wanted))
        except Problem as problem:
            self._tell_state(is_down=True, detail=problem.detail)
            return
        self._tell_state(is_down=False)
        self._topics = topics
        fresh = {**self._made(seen), **self._moved(seen)}
        self._move_on(seen)
        self._send(fresh, joining, seen, since)

    def _moved(self, seen: Seen) -> dict[Key, Bar]:
        """Return the newest bars that are other than they were."""
        return {key: bar for key, bar in seen.newest.items() if self._known.get(key) != bar}

    def _made(self, seen: Seen) -> dict[Key, Bar]:
        """Return the bars of logged changes that have been made by now."""
        now_s, now = time.monotonic(), datetime.now(timezone.utc)
        for change in seen.changes:
            if change not in self._handled:
                self._unmade.setdefault(change, now_s)
        made: dict[Key, Bar] = {}
        for change, since_s in list(self._unmade.items()):
            key = change.interval, change.symbol, change.window_start
            bar = seen.changed.get(key)
            if bar is not None and _is_made(change, bar):
                made[key] = bar
            elif now_s - since_s < _UNMADE_S and now - change.logged_at < _UNMADE:
                continue
            del self._unmade[change]
            self._handled.add(change)
        return {key: bar for key, bar in made.items() if self._known.get(key) != bar}

    def _move_on(self, seen: Seen) -> None:
        """Remember what was seen, and forget what is not read again."""
        now = datetime.now(timezone.utc)
        # Where nothing is logged, what is read again must not grow for ever. A writer's clock
        # may be ahead; others still write what lies before its time.
        self._position = min(now, max(self._position, seen.position, now - _LATEST))
        self._handled = {c for c in self._handled if c.logged_at >= self._position - _OVERLAP}
        self._known.update(seen.newest)
        self._known.update(seen.changed)
        self._known = {
            key: bar
            for key, bar in self._known.items()
            if key[:2] in self._topics and key[2] >= oldest_of(key[0], now, is_wide=True)
        }

    def _send(
        self, fresh: Mapping[Key, Bar], joining: list[Listener], seen: Seen, since: datetime
    ) -> None:
        """Hand out what is new since then, and the newest and missed bars to those that join."""
        now, encoded = datetime.now(timezone.utc), _Encoder(self._resume_at)
        payloads: dict[frozenset[Topic], bytes] = {}
        for listener in self.listeners:
            topics = listener.topics
            if listener in joining:
                listener.has_joined = True
                newest = {
                    key: bar
                    for key, bar in self._known.items()
                    if key[2] >= oldest_of(key[0], now, is_wide=False)
                }
                if seen.is_cut and listener.since < since - _OVERLAP:
                    self.listeners.put(listener, _RESET)
                payload = encoded.batch(_only({**seen.changed, **newest}, topics), listener.since)
            elif listener.has_joined:
                if topics not in payloads:
                    payloads[topics] = encoded.batch(_only(fresh, topics), since)
                payload = payloads[topics]
            else:
                continue  # it came while we looked
            if payload:
                self.listeners.put(listener, payload)

    @property
    def _resume_at(self) -> datetime:
        """From when the log must be read to leave nothing out: what is not made yet waits."""
        return min([self._position, *(change.logged_at for change in self._unmade)])

    def _tell_state(self, *, is_down: bool, detail: str = "") -> None:
        if is_down == self._is_down:
            return
        self._is_down = is_down
        log.warning("store_down" if is_down else "store_up", detail=detail)
        for listener in self.listeners:
            self.listeners.put(listener, self._state(listener))

    def _state(self, listener: Listener | None = None) -> bytes:
        """Return the state; its id spares one who comes back what was before it."""
        has_id = listener is not None and listener.has_joined
        number = b"id: %d\n" % to_millis(self._resume_at) if has_id else b""
        store = b"down" if self._is_down else b"up"
        return b'event: state\n%sdata: {"store": "%s"}\n\n' % (number, store)


class _Encoder:
    """Bars as events, each bar encoded once however many listeners get it."""

    def __init__(self, position: datetime) -> None:
        self._position = position
        self._bodies: dict[Key, bytes] = {}

    def batch(self, bars: Mapping[Key, Bar], since: datetime) -> bytes:
        """Return events by time of their bars.

        The last one's id is our position. The others have the one before, since a listener
        that comes back after one of them lacks the rest.
        """
        keys = sorted(bars, key=lambda key: (key[2], key[1]))
        numbers = [to_millis(since)] * (len(keys) - 1) + [to_millis(self._position)]
        return b"".join(
            b"event: bar\nid: %d\ndata: %s\n\n" % (number, self._body(key, bars[key]))
            for number, key in zip(numbers, keys, strict=False)
        )

    def _body(self, key: Key, bar: Bar) -> bytes:
        if key not in self._bodies:
            self._bodies[key] = to_json({**row_of(bar), "interval": key[0].value})
        return self._bodies[key]


def _only(bars: Mapping[Key, Bar], topics: frozenset[Topic]) -> dict[Key, Bar]:
    return {key: bar for key, bar in bars.items() if key[:2] in topics}


def _is_made(change: BarChange, bar: Bar) -> bool:
    """Tell whether a stored bar is as new as a logged change says."""
    if change.updated_at is None or bar.updated_at is None:
        return bar.is_final
    return bar.is_final and bar.updated_at >= change.updated_at


def _time_of(last_id: str) -> datetime | None:
    if not (last_id.isascii() and last_id.isdigit() and len(last_id) < _LONGEST_ID):
        return None
    return datetime.fromtimestamp(int(last_id) / 1000, timezone.utc)
