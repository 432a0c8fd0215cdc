"""What the producers of one topic have reported, and what of it could not be read."""

from __future__ import annotations

from datetime import datetime

import structlog

from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.gaps import Gap
from tapeline.producer.reports import UnreadableReportError, topic_id_in

log = structlog.get_logger()


class FeedReports:
    """Keeps the newest status of each producer and every gap.

    Args:
        topic: name of the topic of trades.
        topic_id: its id.
    """

    def __init__(self, topic: str, topic_id: str) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self._unreadable: set[bytes] = set()
        self._by_key: dict[str, Gap] = {}
        self._all_gaps: tuple[Gap, ...] = ()
        self.statuses: dict[str, tuple[FeedStatus, datetime]] = {}
        """By producer: its newest status, and when Kafka received it."""

    @property
    def is_readable(self) -> bool:
        """Whether the newest report under every key could be read.

        If not, it is not known what its producer missed, nor whether its tape has ended.
        """
        return not self._unreadable

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Every gap; the same object while no more are reported."""
        if not self._all_gaps and self._by_key:
            self._all_gaps = tuple(self._by_key.values())
        return self._all_gaps

    def take_status(self, key: bytes, value: bytes, at: datetime) -> None:
        """Take a message of the topic of statuses; an empty one withdraws what its key said."""
        self._unreadable.discard(key)
        try:
            status = FeedStatus.from_bytes(value)
        except UnreadableReportError:
            self._note_unreadable(key, value, self._topic)
            return
        if status.topic_id == self._topic_id:
            self.statuses[status.producer_id] = (status, at)

    def take_gap(self, key: bytes, value: bytes) -> None:
        """Take a message of the topic of gaps."""
        self._unreadable.discard(key)
        try:
            gap = Gap.from_bytes(value)
        except UnreadableReportError:
            self._note_unreadable(key, value, self._topic_id)
            return
        if gap.topic_id == self._topic_id:
            self._by_key[gap.key] = gap
            self._all_gaps = ()

    def _note_unreadable(self, key: bytes, value: bytes, ours: str) -> None:
        """Remember a report that may be of this topic; its value or else its key may tell."""
        if not value:
            return
        topic_id = topic_id_in(value)
        named, has_name, _ = key.decode(errors="replace").partition("|")
        if topic_id is not None:
            may_be_ours = topic_id == self._topic_id
        else:
            may_be_ours = not has_name or named == ours
        if may_be_ours:
            self._unreadable.add(key)
            log.error("unreadable_report", key=key.decode(errors="replace"))
