"""The live view beside the event loop: what it follows, what it holds, whether it may be shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from tapeline.live.book import Topic as Stored
from tapeline.live.tail import LiveState, Tail, Update
from tapeline.model.bar import Bar, Interval
from tapeline.model.times import floor_to
from tapeline.program.metrics import LIVE_TRADES, LIVE_TRADES_HELD, LIVE_UP, Metrics
from tapeline.program.settings import Settings

log = structlog.get_logger()

_ASKED_S: Final = 60.0
"""What nobody listens to any more, or a request has asked for, is followed so long."""
_MOST_ASKED: Final = 5_000
"""Names that nobody knows cost each request time; bars of what is beyond come from the tables."""
_KEPT: Final = timedelta(minutes=30)


class LiveView:
    """Follows the log of trades while somebody wants its bars.

    Args:
        settings: topic, services and policy.
        metrics: of the API.
        take: is called in the event loop with each update.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, take: Callable[[Update], None]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._take = take
        self._tail: Tail | None = None
        self._listened: frozenset[Stored] = frozenset()
        self._asked: dict[Stored, float] = {}
        self._update = Update(LiveState.STARTING, None, {})
        self._bars: dict[Stored, dict[datetime, Bar]] = {}
        self._progress: Mapping[str, datetime | None] | None = None
        self._is_other_policy = False
        metrics[LIVE_UP].set(0)
        metrics[LIVE_TRADES_HELD].set(0)

    @property
    def state(self) -> LiveState:
        """How it is."""
        is_up = self._update.state is LiveState.UP
        return LiveState.OTHER_POLICY if is_up and self._is_other_policy else self._update.state

    @property
    def is_asked(self) -> bool:
        """Whether anything is followed."""
        return bool(self._listened or self._asked)

    @property
    def lacks_progress(self) -> bool:
        """Whether it is not known yet which topics feed the keyspace."""
        return self._progress is None

    def open(self) -> None:
        """Start the tail; its updates come to the event loop that runs now."""
        loop = asyncio.get_running_loop()

        def hand_over(update: Update) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._hear, update)

        self._tail = Tail(self._settings, hand_over)

    def close(self) -> None:
        """Stop the tail."""
        if self._tail is not None:
            self._tail.close()

    def listen(self, topics: frozenset[Stored]) -> None:
        """Follow what somebody listens to, and what was wanted a while ago."""
        now_s = time.monotonic()
        self._asked.update(dict.fromkeys(self._listened - topics, now_s))
        self._listened = topics
        self._asked = {t: at for t, at in self._asked.items() if now_s - at < _ASKED_S}
        if self._tail is not None:
            self._tail.want(topics | self._asked.keys())

    def ask(self, topics: Iterable[Stored]) -> None:
        """Follow what a request has asked for, for a while: the next one finds open bars."""
        now_s = time.monotonic()
        for topic in topics:
            if topic in self._asked or len(self._asked) < _MOST_ASKED:
                self._asked[topic] = now_s
        self.listen(self._listened)

    def is_wanted(self, topic: Stored) -> bool:
        """Return whether a topic is followed."""
        return topic in self._listened or topic in self._asked

    def holds(self, topic: Stored, now: datetime) -> bool:
        """Return whether a topic's present window is shown from here, and not from the tables."""
        first = self._update.held_from.get(topic)
        start = floor_to(topic[0].duration, now)
        is_held = first is not None and first <= start
        return self.state is LiveState.UP and is_held and self._is_whole(start)

    def know(
        self, progress: Mapping[str, datetime | None], policy: str | None
    ) -> list[tuple[Interval, Bar]]:
        """Learn what feeds the keyspace; return the bars that may be shown.

        Args:
            progress: by topic, the event time of the newest trade in silver.
            policy: by which its bars are made; None where there is none yet.
        """
        self._progress = progress
        self._learn_policy(policy)
        return [
            (interval, bar)
            for (interval, _), bars in self._bars.items()
            for bar in bars.values()
            if self._is_whole(bar.window_start)
        ]

    def _learn_policy(self, policy: str | None) -> None:
        ours = self._settings.stream.policy.name
        is_other = policy not in {None, ours}
        if is_other and not self._is_other_policy:
            log.warning("live_policy_differs", ours=ours, of_bars=policy)
        self._is_other_policy = is_other
        self._metrics[LIVE_UP].set(self.state is LiveState.UP)

    def _hear(self, update: Update) -> None:
        try:
            self._remember(update)
            shown = tuple(b for b in update.bars if self._is_whole(b[1].window_start))
            self._metrics[LIVE_UP].set(self.state is LiveState.UP)
            self._metrics[LIVE_TRADES].inc(len(update.trades))
            self._metrics[LIVE_TRADES_HELD].set(update.trades_held)
            self._take(Update(self.state, update.topic_id, update.held_from, shown, update.trades))
        except Exception as error:  # one bad update must not end the live view for everyone
            log.exception("update_failed", error=repr(error))
        finally:
            if self._tail is not None:
                self._tail.taken()

    def _remember(self, update: Update) -> None:
        before, self._update = self._update.topic_id, update
        if update.topic_id not in {before, None} and before is not None:
            self._bars.clear()
            self._progress = None
        for interval, bar in update.bars:
            bars = self._bars.setdefault((interval, bar.symbol), {})
            bars[bar.window_start] = bar
            for start in [s for s in bars if s < bar.window_start - _KEPT]:
                del bars[start]
        for topic in [t for t in self._bars if not self.is_wanted(t)]:
            del self._bars[topic]

    def _is_whole(self, start: datetime) -> bool:
        """Return whether the topic alone feeds a window of the keyspace.

        Trades may have come by another topic, which is perhaps gone. A keyspace that has some of
        others and none of this topic is fed by others.
        """
        if self._progress is None or self._is_other_policy:
            return False
        others = {t: time for t, time in self._progress.items() if t != self._update.topic_id}
        if self._progress and len(others) == len(self._progress):
            return False
        return all(time is None or start > time for time in others.values())
