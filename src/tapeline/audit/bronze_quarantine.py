"""Bronze against quarantine: what is no valid trade, with its bytes and a reason that holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tapeline.audit.difference import Difference, Pair
from tapeline.audit.kafka_bronze import MessageNames
from tapeline.audit.messages import Invalid, Message, RawMessage
from tapeline.audit.tables import is_gone

_Texts = tuple[str, str, str]


class Quarantined(NamedTuple):
    """A row of quarantine."""

    kafka_offset: int
    kafka_timestamp_ms: int
    reason: str | None
    key: bytes | None
    value: bytes | None

    @property
    def message(self) -> Message:
        """The message that it was made of."""
        return Message(self.kafka_offset, self.kafka_timestamp_ms, self.key, self.value)


def compare_quarantine(
    topic_id: str,
    kafka_partition: int,
    bronze: Sequence[RawMessage],
    invalid: Mapping[int, Invalid],
    quarantine: Sequence[Quarantined],
    *,
    bronze_gone_ms: int | None = None,
    quarantine_gone_ms: int | None = None,
) -> Iterator[Difference]:
    """Yield the differences of a range of offsets.

    Args:
        topic_id: of the messages.
        kafka_partition: of the messages.
        bronze: every message of the range.
        invalid: those that are no valid trade, by offset.
        quarantine: the rows of the range.
        bronze_gone_ms: bronze may have expired what Kafka received until then; None for never.
        quarantine_gone_ms: the same of quarantine.
    """
    rows = {row.kafka_offset: row for row in quarantine}
    stored = {m[0]: Message(*m) for m in bronze} if rows else {}
    found: list[tuple[Message, _Texts]] = []
    for offset in sorted(invalid.keys() | rows.keys()):
        row, message = rows.get(offset), stored.get(offset)
        if row is None:
            bad = invalid[offset]
            if not is_gone(bad.message.kafka_timestamp_ms, quarantine_gone_ms):
                found.append((bad.message, ("quarantine", _reasons(bad), "none")))
        elif message is None:
            if not is_gone(row.kafka_timestamp_ms, bronze_gone_ms):
                found.append((row.message, ("message", "in bronze", "none")))
        elif texts := _contrast(invalid.get(offset), row, message):
            found.append((message, texts))
    names = MessageNames(topic_id, kafka_partition, [message for message, _ in found])
    for message, texts in found:
        yield names.difference(Pair.BRONZE_SILVER, message.kafka_offset, *texts)


def _contrast(bad: Invalid | None, row: Quarantined, message: Message) -> _Texts | None:
    """Return what a row of quarantine says otherwise than its message: what, expected, found."""
    if bad is None:
        return "quarantine", "none: it is a valid trade", str(row.reason)
    if row.reason not in bad.reasons:
        return "reason", _reasons(bad), str(row.reason)
    if (row.key, row.value) != (message.key, message.value):
        return "quarantined bytes", "those of bronze", "others"
    return None


def _reasons(bad: Invalid) -> str:
    return " or ".join(sorted(bad.reasons))
