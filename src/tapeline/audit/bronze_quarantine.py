"""Bronze against quarantine: what is no valid trade, with its bytes and a reason that holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tapeline.audit.difference import Difference, MessageRef, Pair
from tapeline.audit.frames import is_gone
from tapeline.audit.kafka_bronze import name_message
from tapeline.audit.messages import Invalid, Message, RawMessage


class Quarantined(NamedTuple):
    """A row of quarantine."""

    kafka_offset: int
    kafka_timestamp_ms: int
    reason: str | None
    key: bytes | None
    value: bytes | None


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
    messages = {m[0]: Message(*m) for m in bronze} if rows else {}
    for offset in sorted(invalid.keys() | rows.keys()):
        ref = MessageRef(topic_id=topic_id, kafka_partition=kafka_partition, kafka_offset=offset)
        row, bad = rows.get(offset), invalid.get(offset)
        message = bad.message if bad else messages.get(offset)
        if row is None and message is not None:
            is_lost = not is_gone(message.kafka_timestamp_ms, quarantine_gone_ms)
            texts = ("quarantine", _reasons(bad), "none") if is_lost else None
        elif row is not None and message is None:
            is_lost = not is_gone(row.kafka_timestamp_ms, bronze_gone_ms)
            texts = ("message", "in bronze", "none") if is_lost else None
            message = Message(offset, row.kafka_timestamp_ms, row.key, row.value)
        else:
            texts = _contrast(bad, row, message)
        if texts is not None:
            yield name_message(Pair.BRONZE_SILVER, *texts, ref, message)


def _contrast(
    bad: Invalid | None, row: Quarantined | None, message: Message | None
) -> tuple[str, str, str] | None:
    """Return what a row of quarantine says otherwise than its message."""
    if row is None or message is None:
        return None
    if bad is None:
        return "quarantine", "none: it is a valid trade", str(row.reason)
    if row.reason not in bad.reasons:
        return "reason", _reasons(bad), str(row.reason)
    if (row.key, row.value) != (message.key, message.value):
        return "quarantined bytes", "those of bronze", "others"
    return None


def _reasons(bad: Invalid | None) -> str:
    return " or ".join(sorted(bad.reasons)) if bad else "none"
