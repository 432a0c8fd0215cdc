"""Follow the topic in a thread of its own: trades in, open bars out.

The thread owns everything it works with. What it finds is handed over as one immutable `Update`
at a time, and the next one only when that has been taken, so that a reader that is slow finds
the newest state and no queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka.admin import AdminClient

from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.live.book import Book, Topic
from tapeline.live.decode import decode_trade
from tapeline.live.topic_log import Earlier, TopicLog
from tapeline.local.discovery import find_endpoints
from tapeline.model.bar import Bar, Interval
from tapeline.model.errors import SchemaError, TapelineError
from tapeline.model.reasons import LATEST_AHEAD_MS
from tapeline.model.times import floor_to, to_millis
from tapeline.model.trade import Trade
from tapeline.program.settings import Settings

log = structlog.get_logger()

_WAIT_S: Final = 0.05
_BUSY_WAIT_S: Final = 0.01
"""While something waits for its turn to be told, or earlier messages are being read."""
_BEHIND_S: Final = 1.0
_AGAIN_S: Final = 1.0
_CHECK_S: Final = 5.0
_BEFORE: Final = Interval.FIVE_MINUTES.duration
"""The window before the present one is read too: the tables may not have all of it yet."""
_KEPT: Final = timedelta(minutes=20)
"""Windows that started longer ago are given up; final bars come before that."""


_GONE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001
)


class LiveState(str, Enum):
    """How the live view is."""

    STARTING = "starting"
    """Nothing has been followed yet."""
    UP = "up"
    BEHIND = "behind"
    """There is more to read than can be read at once: bars come from the tables until then."""
    OTHER_POLICY = "other_policy"
    """The bars of the keyspace are made by other rules than ours: they come from the tables."""
    AWAY = "away"
    """Kafka does not answer, or there is no such topic: bars come from the tables."""


@dataclass(frozen=True, slots=True)
class Update:
    """What is new: bars that have changed, trades that have come, and the state.

    `held_from` says for each topic from which window start on it is whole. `topic_id` is that of
    the topic that is followed; None while none is.
    """

    state: LiveState
    topic_id: str | None
    held_from: Mapping[Topic, datetime]
    bars: tuple[tuple[Interval, Bar], ...] = ()
    trades: tuple[Trade, ...] = ()
    trades_held: int = 0


class Tail:
    """Follows a topic while something is wanted of it.

    Args:
        settings: topic, services and policy.
        hand_over: takes an update, called in the tail's thread; `taken` is called for the next.
    """

    def __init__(self, settings: Settings, hand_over: Callable[[Update], None]) -> None:
        self._settings = settings
        self._hand_over = hand_over
        self._wanted: frozenset[Topic] = frozenset()
        self._wake = threading.Event()
        self._is_taken = threading.Event()
        self._is_taken.set()
        self._is_closed = False
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="live-tail", daemon=True)
        self._thread.start()

    def want(self, topics: frozenset[Topic]) -> None:
        """Follow these topics and no others."""
        self._wanted = topics
        if topics:
            self._wake.set()

    def taken(self) -> None:
        """Say that the last update has been taken."""
        self._is_taken.set()

    def close(self) -> None:
        """Stop, and leave Kafka."""
        self._is_closed = True
        self._wanted = frozenset()
        self._wake.set()
        self._is_taken.set()
        self._thread.join(_AGAIN_S)

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait()
            self._wake.clear()
            while self._wanted:
                try:
                    self._follow()
                except (KafkaException, TapelineError) as error:
                    self._tell_failure(error)
                    self._wake.wait(_AGAIN_S)
                    self._wake.clear()

    def _servers(self) -> str:
        return find_endpoints(self._settings).bootstrap_servers

    def _tell_failure(self, error: Exception) -> None:
        if str(error) != self._failure:
            log.warning("live_away", error=str(error))
        self._failure = str(error)
        self._is_taken.wait(_AGAIN_S)
        self._give(Update(LiveState.AWAY, None, {}))

    def _give(self, update: Update) -> None:
        self._is_taken.clear()
        self._hand_over(update)

    def _follow(self) -> None:
        """Follow the topic as it is now, until nothing is wanted any more.

        Raises:
            KafkaException: it cannot be read where it was.
            TapelineError: Kafka does not answer, or the topic is missing or another one.
        """
        servers = self._servers()
        topic = self._settings.kafka.topic
        admin = topic_admin(servers, self._settings.kafka)
        topic_id = topic_id_of(admin, topic)
        following = _Following(
            TopicLog(servers, topic, self._settings.kafka),
            Book(self._settings.stream.policy),
            topic_id,
        )
        log.info("live_up", topic=topic)
        self._failure = ""
        same = _SameTopic(admin, topic)
        try:
            while self._wanted:
                following.want(self._wanted)
                following.step()
                if self._is_taken.is_set() and (update := following.update()) is not None:
                    self._give(update)
                same.check()
                if (
                    following.is_away
                    and servers != find_endpoints(self._settings).bootstrap_servers
                ):
                    return
        finally:
            following.log.close()
            self._is_taken.wait(_AGAIN_S)
        self._give(Update(LiveState.UP, topic_id, {}))


class _Following:
    """One topic that is being followed."""

    def __init__(self, topic_log: TopicLog, book: Book, topic_id: str) -> None:
        self.log = topic_log
        self.is_away = False
        """Whether the broker is lost."""
        self._book = book
        self._topic_id = topic_id
        self._trades: list[Trade] = []
        self._reading: tuple[Earlier, frozenset[Topic], int] | None = None
        self._waiting: frozenset[Topic] = frozenset()
        self._told: tuple[LiveState, Mapping[Topic, datetime]] | None = None
        self._forgot_s = 0.0

    def want(self, wanted: frozenset[Topic]) -> None:
        """Want these topics; what is new of them is read from the log, as far as it matters."""
        now = datetime.now(timezone.utc)
        if wanted != self._book.topics:
            start = floor_to(Interval.FIVE_MINUTES.duration, now) - _BEFORE
            new = self._book.want(wanted, to_millis(start))
            self._waiting = (self._waiting & wanted) | new
            if self._reading is not None:
                # What was given up meanwhile has missed something, though it be wanted again.
                earlier, topics, start_ms = self._reading
                self._reading = earlier, (topics & wanted) - new, start_ms
        if self._waiting and self._reading is None:
            start_ms = to_millis(floor_to(Interval.FIVE_MINUTES.duration, now) - _BEFORE)
            # A trade may be stamped ahead of its receipt, and so lie earlier in the log.
            earlier = self.log.since(start_ms - LATEST_AHEAD_MS)
            self._reading = earlier, self._waiting, start_ms
            self._waiting = frozenset()
        if time.monotonic() - self._forgot_s > _AGAIN_S:
            self._forgot_s = time.monotonic()
            self._book.forget(to_millis(now - _KEPT))

    def step(self) -> None:
        """Read what there is, waiting a moment for it."""
        is_busy = self._reading is not None or self._book.has_changed
        keys = self._book.keys
        for message in self.log.read(_BUSY_WAIT_S if is_busy else _WAIT_S):
            trade = _trade_of(message, keys)
            if trade is not None and self._book.fold(trade):
                self._trades.append(trade)
        if self._reading is None:
            return
        earlier, topics, start_ms = self._reading
        for message in earlier.read():
            trade = _trade_of(message, keys)
            if trade is not None:
                self._book.fold(trade)
        if earlier.is_done:
            if earlier.oldest_ms is not None:
                start_ms = max(start_ms, earlier.oldest_ms + LATEST_AHEAD_MS + 1)
            self._book.make_whole(topics, start_ms)
            self._reading = None

    def update(self) -> Update | None:
        """Return what is new, if anything is."""
        state = LiveState.BEHIND if self.log.behind_s > _BEHIND_S else LiveState.UP
        self.is_away = self.log.is_down()
        if self.is_away:
            state = LiveState.AWAY
        bars = self._book.take_changed(time.monotonic())
        told = state, self._book.held_from
        if not bars and not self._trades and told == self._told:
            return None
        trades, self._trades, self._told = tuple(self._trades), [], told
        return Update(state, self._topic_id, told[1], tuple(bars), trades, self._book.trades)


class _SameTopic:
    """Asks now and then whether a topic is still the one that it was, without waiting."""

    def __init__(self, admin: AdminClient, topic: str) -> None:
        self._admin = admin
        self._topic = topic
        self._known: str | None = None
        self._ask()

    def check(self) -> None:
        """Look at the answer, and ask again.

        Raises:
            SchemaError: the topic is gone, or was created again.
        """
        if time.monotonic() - self._asked_s < _CHECK_S or not self._answer.done():
            return
        error = self._answer.exception()
        found = str(self._answer.result().topic_id) if error is None else self._known
        is_gone = isinstance(error, KafkaException) and error.args[0].code() in _GONE
        if is_gone or self._known not in {None, found}:
            message = f"Topic {self._topic} was deleted or created again."
            raise SchemaError(message)
        self._known = found
        self._ask()

    def _ask(self) -> None:
        wanted = TopicCollection([self._topic])
        self._answer: Future[Any] = self._admin.describe_topics(wanted)[self._topic]
        self._asked_s = time.monotonic()


def _trade_of(message: Message, keys: frozenset[bytes]) -> Trade | None:
    """Decode a message whose key is wanted, or that has none."""
    key = message.key()
    if key is not None and key not in keys:
        return None
    return decode_trade(message.value(), message.timestamp()[1])
