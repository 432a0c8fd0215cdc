"""What Kafka says of the feed: whether producers live, how much is unread.

Asked in a thread of its own and only when somebody wants to know, so that a Kafka that does
not answer holds up no request.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import structlog
from confluent_kafka import KafkaException

from tapeline.finalize.horizon import frontier, unread_messages
from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.model.errors import TapelineError
from tapeline.program.settings import Settings
from tapeline.storage.windows import PartitionProgress

log = structlog.get_logger()

_PERIOD_S: Final = 2.0
_UNASKED: Final = "It is being asked."
_ASKED_WITHIN_S: Final = 30.0
_KEPT_S: Final = 15.0
"""A snapshot that is older says nothing of now."""


@dataclass(frozen=True, slots=True)
class FeedState:
    """The feed in one word and one sentence, and how far silver is behind Kafka."""

    state: str
    detail: str
    producers: int = 0
    pending: int = 0
    topic_id: str | None = None
    lag: int | None = None
    frontier: datetime | None = None


class FeedWatch:
    """Follows the producers of one topic while somebody asks.

    Args:
        settings: topic and services.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_s = -math.inf
        self._wake = threading.Event()
        self._is_closed = False
        self._topic_id: str | None = None
        self._newest: tuple[float, FeedSnapshot] | None = None
        self._failure = _UNASKED
        self._thread = threading.Thread(target=self._run, name="feed-watch", daemon=True)
        self._thread.start()

    @property
    def topic_id(self) -> str | None:
        """Id of the topic, once Kafka has answered."""
        return self._topic_id

    def ask(self) -> None:
        """Keep the state fresh for a while."""
        self._asked_s = time.monotonic()
        self._wake.set()

    def state(self, progress: Mapping[int, PartitionProgress]) -> FeedState:
        """Return what is known now.

        Args:
            progress: how far each partition is in silver.
        """
        newest = self._newest
        if newest is None or time.monotonic() - newest[0] > _KEPT_S:
            return FeedState("unknown", self._failure)
        snapshot, now = newest[1], datetime.now(timezone.utc)
        state, detail = _state_of(snapshot)
        return FeedState(
            state,
            detail,
            len(snapshot.producers),
            sum(p.status.pending for p in snapshot.producers if not p.is_gone),
            self._topic_id,
            sum(unread_messages(progress, snapshot).values()),
            frontier(progress, snapshot, now),
        )

    def close(self) -> None:
        """Stop asking."""
        self._is_closed = True
        self._wake.set()

    def _run(self) -> None:
        while not self._is_closed:
            if not self._is_wanted():
                self._wake.clear()
            self._wake.wait()
            try:
                self._follow()
            except (KafkaException, TapelineError) as error:
                failure = f"Kafka does not say: {error}"
                if failure != self._failure:
                    log.info("feed_unknown", error=str(error))
                self._failure = failure
                time.sleep(_PERIOD_S)

    def _follow(self) -> None:
        servers = find_endpoints(self._settings).bootstrap_servers
        kafka = self._settings.kafka
        topic_id = topic_id_of(topic_admin(servers), kafka.topic)
        view = FeedView(servers, kafka, topic_id)
        try:
            while self._is_wanted():
                snapshot = view.snapshot(datetime.now(timezone.utc))
                self._topic_id, self._newest = topic_id, (time.monotonic(), snapshot)
                self._failure = _UNASKED
                time.sleep(_PERIOD_S)
        finally:
            view.close()

    def _is_wanted(self) -> bool:
        return not self._is_closed and time.monotonic() - self._asked_s < _ASKED_WITHIN_S


def _state_of(snapshot: FeedSnapshot) -> tuple[str, str]:
    living = [p.status for p in snapshot.producers if not p.is_gone]
    if not snapshot.producers:
        return "stale", "No producer has reported yet: start `tapeline produce`."
    if snapshot.has_ended:
        return "ended", "The tape has ended."
    if not living:
        return "stale", "No producer reports: start `tapeline produce`."
    if not any(status.connected for status in living):
        return "down", "The producer has no connection to the feed; it tries again by itself."
    return "live", "The producer is connected."
