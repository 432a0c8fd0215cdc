"""What the producers of one topic have reported, and what of it could not be read."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap
from tapeline.model.reports import UnreadableReportError, topic_id_in

log = structlog.get_logger()


class _Unreadable(NamedTuple):
    """A report that could not be read: what its value and its key say of its topic."""

    topic_id: str | None
    named: str | None

    def may_be_of(self, topic_id: str, topic: str) -> bool:
        """Return whether it may be of a topic; its value or else its key may tell."""
        if self.topic_id is not None:
            return self.topic_id == topic_id
        return self.named is None or self.named in {topic, topic_id}


class Report(NamedTuple):
    """A producer's newest status."""

    status: FeedStatus
    at: datetime
    """When Kafka received it."""
    listened: timedelta
    """For how long Kafka had answered us before."""


class FeedReports:
    """Keeps the newest status of each producer of all topics, and every gap of one topic.

    Args:
        topic: name of the topic of trades.
        topic_id: its id.
    """

    def __init__(self, topic: str, topic_id: str) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self._unreadable: dict[bytes, _Unreadable] = {}
        self._by_key: dict[str, Gap] = {}
        self._healed: dict[str, Gap] = {}
        """What other processes have healed of them."""
        self._all_gaps: tuple[Gap, ...] = ()
        # By the id of the topic, and by producer.
        self._statuses: defaultdict[str, dict[str, Report]] = defaultdict(dict)

    def statuses_of(self, topic_id: str) -> list[Report]:
        """Return each producer's newest status."""
        return list(self._statuses.get(topic_id, {}).values())

    def is_readable_of(self, topic_id: str, topic: str) -> bool:
        """Return whether the newest report under every key that may be a topic's could be read.

        If not, it is not known what its producer missed, nor whether its tape has ended.
        """
        return not any(u.may_be_of(topic_id, topic) for u in self._unreadable.values())

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Every gap; the same object while no more are reported."""
        if not self._all_gaps and self._by_key:
            every = self._by_key.items()
            self._all_gaps = tuple(gap.with_healed(self._healed.get(key)) for key, gap in every)
        return self._all_gaps

    def take_status(
        self, key: bytes, value: bytes, at: datetime, listened: timedelta = timedelta(0)
    ) -> None:
        """Take a message of the topic of statuses; an empty one withdraws what its key said.

        Args:
            key: of the message.
            value: of the message.
            at: when Kafka received it.
            listened: for how long Kafka has answered us.
        """
        self._unreadable.pop(key, None)
        try:
            status = FeedStatus.from_bytes(value)
        except UnreadableReportError:
            self._note_unreadable(key, value)
            return
        self._statuses[status.topic_id][status.producer_id] = Report(status, at, listened)

    def take_gap(self, key: bytes, value: bytes) -> None:
        """Take a message of the topic of gaps."""
        self._unreadable.pop(key, None)
        try:
            gap = Gap.from_bytes(value)
        except UnreadableReportError:
            self._note_unreadable(key, value)
            return
        if gap.topic_id == self._topic_id:
            is_own = key != gap.healed_key.encode()
            (self._by_key if is_own else self._healed)[gap.key] = gap
            self._all_gaps = ()

    def _note_unreadable(self, key: bytes, value: bytes) -> None:
        if not value:
            return
        named, has_name, _ = key.decode(errors="replace").partition("|")
        found = _Unreadable(topic_id_in(value), named if has_name else None)
        self._unreadable[key] = found
        if found.may_be_of(self._topic_id, self._topic):
            log.error("unreadable_report", key=key.decode(errors="replace"))
