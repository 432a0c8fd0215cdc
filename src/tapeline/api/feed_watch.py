"""What Kafka says of the feed: what its producers report, and where the topic ends.

Asked in a thread of its own and only when somebody wants to know, so that a Kafka that does
not answer holds up no request.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import datetime, timezone
from typing import Final

import structlog
from confluent_kafka import KafkaException

from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.model.errors import TapelineError
from tapeline.program.settings import Settings

log = structlog.get_logger()

_PERIOD_S: Final = 2.0
_LOOK_S: Final = 0.1
_UNASKED: Final = "It is being asked."
_ASKED_WITHIN_S: Final = 30.0
_KEPT_S: Final = 15.0
"""A snapshot that is older says nothing of now."""


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
        self.topic_id: str | None = None
        """Id of the topic, once Kafka has answered."""
        self._newest: tuple[float, FeedSnapshot] | None = None
        self.failure = _UNASKED
        """Why nothing is known."""
        self._thread = threading.Thread(target=self._run, name="feed-watch", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Keep the state fresh for a while."""
        self._asked_s = time.monotonic()
        self._wake.set()

    @property
    def snapshot(self) -> FeedSnapshot | None:
        """What Kafka has just said; None while it does not say, for `failure`."""
        newest = self._newest
        if newest is None or time.monotonic() - newest[0] > _KEPT_S:
            return None
        return newest[1]

    def wait(self, timeout_s: float) -> FeedSnapshot | None:
        """Ask, and return what Kafka says, None if it says nothing in time; it blocks."""
        deadline_s = time.monotonic() + timeout_s
        self.ask()
        while (snapshot := self.snapshot) is None and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
        return snapshot

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
                if failure != self.failure:
                    log.info("feed_unknown", error=str(error))
                self.failure = failure
                time.sleep(_PERIOD_S)

    def _follow(self) -> None:
        servers = find_endpoints(self._settings).bootstrap_servers
        kafka = self._settings.kafka
        topic_id = topic_id_of(topic_admin(servers, kafka), kafka.topic)
        view = FeedView(servers, kafka, topic_id)
        try:
            while self._is_wanted():
                snapshot = view.snapshot(datetime.now(timezone.utc))
                self.topic_id, self._newest = topic_id, (time.monotonic(), snapshot)
                self.failure = _UNASKED
                time.sleep(_PERIOD_S)
        finally:
            view.close()

    def _is_wanted(self) -> bool:
        return not self._is_closed and time.monotonic() - self._asked_s < _ASKED_WITHIN_S
