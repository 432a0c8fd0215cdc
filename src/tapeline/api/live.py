"""Live bars and trades: one reader for all listeners.

Open bars and trades come from the live view, which folds the log of trades. Final and revised
bars come from the tables, by their log of changes, and so do provisional ones that the live view
does not hold.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog

from tapeline.api.changes import Changes
from tapeline.api.events import RESET, Event, bar_event, state_event, trade_event
from tapeline.api.listeners import TRADES, Listener, Listeners, Topic
from tapeline.api.live_view import LiveView
from tapeline.api.open_bars import Open
from tapeline.api.poll import Seen, poll
from tapeline.api.poller import Poller, base_of, length_of
from tapeline.api.problems import Problem
from tapeline.api.shown import Shown
from tapeline.api.store import Store
from tapeline.live.longer import LongBars
from tapeline.live.tail import LiveState, Update
from tapeline.model.bar import Bar, Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import PLAIN, ReadingRules
from tapeline.program.metrics import Metrics
from tapeline.program.settings import Settings

log = structlog.get_logger()

_PERIOD_S: Final = 0.4
_REST: Final = 2.0
"""The pause after a look is at least so many times as long as the look took."""
_HEARTBEAT_S: Final = 5.0
_KEPT: Final = timedelta(hours=3)


class Live:
    """Watches what somebody listens to.

    Args:
        store: of the bars.
        metrics: of the API.
        settings: topic and services of the live view.
    """

    def __init__(self, store: Store, metrics: Metrics, settings: Settings) -> None:
        self._store = store
        self.listeners = Listeners(metrics, settings.api.streams_per_client)
        self._view = LiveView(settings, metrics, self._hear)
        self._shown = Shown()
        self._opened = Shown()
        """Those that open at the close before them, as listeners have them."""
        self._changes = Changes()
        ours = settings.stream.policy
        self._policies: dict[str | None, ReadingRules] = {ours.name: ours.reading}
        self._poller = Poller(self._policies)
        self._longer: defaultdict[str, dict[str, LongBars]] = defaultdict(dict)
        """By symbol and name of the length."""
        self._wake = asyncio.Event()
        self._state = self._view.state
        self._topic_id: str | None = None
        self._is_down = False

    async def run(self) -> None:
        """Look for changes while somebody listens, until cancelled."""
        self._view.open()
        try:
            while True:
                took_s = await self._turn()
                is_idle = not len(self.listeners) and not self._view.is_asked
                pause_s = None if is_idle else max(_PERIOD_S - took_s, took_s * _REST)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause_s)
        finally:
            self._view.close()

    def register(
        self, topics: Iterable[Topic], client: str, last_id: str | None = None
    ) -> Listener:
        """Open a stream of topics; one that comes back with an id has to read bars again.

        Raises:
            Problem: 429 or 503, there are too many listeners, of this client or of all.
        """
        listener = Listener(set(), client)
        self.listeners.add(listener)
        listener.put(self.state())
        if last_id is not None:
            listener.put(RESET)
        self.subscribe(listener, topics)
        return listener

    def subscribe(self, listener: Listener, topics: Iterable[Topic]) -> None:
        """Add topics to a stream."""
        new = set(topics) - listener.joined
        trades = {topic for topic in new if topic[0] == TRADES}
        listener.joining |= new - trades
        self.listeners.join(listener, trades)
        self._follow()
        self._wake.set()

    def unsubscribe(self, listener: Listener, topics: Collection[Topic]) -> None:
        """Take topics from a stream."""
        self.listeners.leave(listener, topics)
        self._follow()

    async def events(self, listener: Listener) -> AsyncIterator[list[Event]]:
        """Yield events as they come, and the state every few seconds, until the stream ends."""
        try:
            while True:
                try:
                    events = await asyncio.wait_for(listener.take(), _HEARTBEAT_S)
                except TimeoutError:
                    events = [self.state()]
                if events is None:
                    return
                yield events
        finally:
            self.leave(listener)

    def leave(self, listener: Listener) -> None:
        """End a stream."""
        self.listeners.remove(listener)
        self._follow()

    def open_bars(self, symbols: Iterable[str], length: ReadInterval) -> Open:
        """Return the provisional bars that listeners are shown, and follow these symbols."""
        interval = base_of(length)
        topics = {(interval, symbol) for symbol in symbols}
        self._view.ask(topics)
        self._wake.set()
        return self._open_bars(topics)

    def _open_bars(self, topics: Iterable[tuple[Interval, str]]) -> Open:
        return {
            topic: {s: b for s, b in shown.items() if not b.is_final}
            for topic in topics
            if (shown := self._shown.of(topic[0].value, topic[1]))
        }

    def state(self) -> Event:
        """Return the present state."""
        store = "down" if self._is_down else "up"
        return state_event({"store": store, "live": self._view.state.value})

    def _follow(self) -> None:
        topics = self.listeners.topics
        self._view.listen(frozenset((base_of(length_of(name)), s) for name, s in topics))

    async def _turn(self) -> float:
        """Look once, if there is something to look for; return the seconds that it took."""
        self._wake.clear()
        started = time.monotonic()
        try:
            self._follow()
            if not len(self.listeners):
                self._changes = Changes()
            if len(self.listeners) or (self._view.is_asked and self._view.lacks_progress):
                await self._poll()
        except Exception as error:  # one bad look must not end live push for everyone
            log.exception("poll_failed", error=repr(error))
        return time.monotonic() - started

    async def _poll(self) -> None:
        joining = {t for listener in self.listeners for t in listener.joining}
        if joining:
            self._changes.poll_again()
        topics = self.listeners.topics
        open_bars: Open = {}
        if any(rules.carry_open for rules in self._policies.values()):
            open_bars = self._open_bars((base_of(length_of(name)), s) for name, s in topics)
        wanted = self._poller.next(topics, joining, self._changes, self._view, open_bars)
        try:
            seen = await self._store.read(lambda client: poll(client, wanted))
        except Problem as problem:
            self._tell(is_down=True, detail=problem.detail)
            return
        self._tell(is_down=False)
        self._take(seen)
        self._join(joining)
        if wanted.asks_progress:
            self._forget()

    def _reading(self, policy: str | None) -> ReadingRules:
        return self._policies.get(policy, PLAIN)

    def _take(self, seen: Seen) -> None:
        self._policies.update(seen.reading)
        if seen.progress is not None:
            for interval, bar in self._view.know(seen.progress, seen.policy):
                self._show(interval.value, bar, is_live=True)
            self._tell_view(self._view.state)
        for interval, bar in seen.newest:
            self._show(interval.value, bar)
        for (interval, _, _), bar in self._changes.made(seen).items():
            self._show(interval.value, bar)
            self._poller.note_final(self.listeners.topics, interval, bar)
        for length, bar in seen.longer:
            self._show(length.name, bar)
            self._poller.note_longer(length, bar)
        for length, bar in seen.opened:
            if self._opened.take(length.name, bar, is_live=True):
                self._send(length.name, bar)

    def _join(self, joining: set[Topic]) -> None:
        """Send the newest bars of topics that were looked at to those that join them."""
        now = datetime.now(timezone.utc)
        for name, symbol in joining:
            length = length_of(name)
            is_longer = length.duration > base_of(length).duration
            if is_longer and name not in self._longer[symbol]:
                longer = self._longer[symbol][name] = LongBars(length, self._reading)
                parts = self._shown.of(base_of(length).value, symbol)
                for start in sorted(parts):
                    longer.put(parts[start])
                self._show_longer(name, longer)
        for listener in self.listeners:
            topics = listener.joining & joining
            for name, symbol in sorted(topics):
                first = now - 2 * length_of(name).duration
                bars = self._as_read(name, symbol)
                for start in sorted(s for s in bars if s >= first):
                    self.listeners.put([listener], bar_event(name, bars[start]))
            self.listeners.join(listener, topics)

    def _as_read(self, name: str, symbol: str) -> dict[datetime, Bar]:
        shown = self._shown.of(name, symbol).items()
        plain = {s: b for s, b in shown if not self._reading(b.policy).carry_open}
        return {**plain, **self._opened.of(name, symbol)}

    def _hear(self, update: Update) -> None:
        """Take what the live view has found."""
        if update.topic_id is not None:
            if self._topic_id not in {None, update.topic_id}:
                self._start_over()
            self._topic_id = update.topic_id
        self._tell_view(update.state)
        for trade in update.trades:
            if self.listeners.are_any((TRADES, trade.symbol)):
                self.listeners.send((TRADES, trade.symbol), trade_event(trade))
        for interval, bar in update.bars:
            self._show(interval.value, bar, is_live=True)

    def _tell_view(self, state: LiveState) -> None:
        if state is not self._state:
            if LiveState.OTHER_POLICY in {state, self._state}:
                self._start_over()
            self._state = state
            is_good = state in {LiveState.UP, LiveState.STARTING}
            (log.info if is_good else log.warning)("live_view", state=state.value)
            self.listeners.put(self.listeners, self.state())

    def _show(self, name: str, bar: Bar, *, is_live: bool = False) -> None:
        """Send a bar to its listeners if it is news, and the longer bars that it is part of."""
        if not self._shown.take(name, bar, is_live=is_live):
            return
        # One that opens at the close before it comes as the next look has read it.
        if not self._reading(bar.policy).carry_open:
            self._send(name, bar)
        if name != Interval.FIVE_MINUTES.value:
            return
        for longer_name, longer in self._longer.get(bar.symbol, {}).items():
            if longer.put(bar):
                self._show_longer(longer_name, longer)

    def _send(self, name: str, bar: Bar) -> None:
        if self.listeners.are_any((name, bar.symbol)):
            self.listeners.send((name, bar.symbol), bar_event(name, bar))

    def _show_longer(self, name: str, longer: LongBars) -> None:
        bar = longer.bar()
        if bar is not None:
            self._show(name, bar, is_live=True)

    def _start_over(self) -> None:
        """Forget what was shown: the topic was created again, or there are other rules now."""
        self._shown.clear()
        self._opened.clear()
        self._longer.clear()
        for listener in self.listeners:
            topics = {topic for topic in listener.joined if topic[0] != TRADES}
            self.listeners.leave(listener, topics)
            listener.joining |= topics
        self.listeners.put(self.listeners, RESET)
        self._wake.set()

    def _forget(self) -> None:
        """Forget what nobody wants any more, or is long over."""
        now, topics = datetime.now(timezone.utc), self.listeners.topics
        for symbol, lengths in list(self._longer.items()):
            for name in [name for name in lengths if (name, symbol) not in topics]:
                del lengths[name]
            if not lengths:
                del self._longer[symbol]
        self._poller.forget(topics)

        def oldest(topic: Topic) -> datetime | None:
            length = length_of(topic[0])
            is_wanted = topic in topics or self._view.is_wanted((base_of(length), topic[1]))
            return now - max(_KEPT, 2 * length.duration) if is_wanted else None

        self._shown.keep(oldest)
        self._opened.keep(oldest)

    def _tell(self, *, is_down: bool, detail: str = "") -> None:
        if is_down == self._is_down:
            return
        self._is_down = is_down
        log.warning("store_down" if is_down else "store_up", detail=detail)
        self.listeners.put(self.listeners, self.state())
