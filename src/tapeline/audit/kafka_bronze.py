"""Kafka against bronze: the same messages, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapeline.audit.difference import Difference, MessageRef, Pair, text_of
from tapeline.audit.messages import Message, RawMessage, sort_messages
from tapeline.audit.tables import is_gone, trade_ref
from tapeline.model.times import from_millis


def compare_messages(
    topic_id: str,
    kafka_partition: int,
    kafka: Sequence[RawMessage],
    bronze: Sequence[RawMessage],
    *,
    oldest_offset: int,
    bronze_gone_ms: int | None,
) -> Iterator[Difference]:
    """Yield the differences between a range of offsets in Kafka and the same in bronze.

    Args:
        topic_id: of both.
        kafka_partition: of both.
        kafka: what Kafka holds of the range, in order.
        bronze: the rows of the range, in order.
        oldest_offset: Kafka has expired what lies below, perhaps since it was read.
        bronze_gone_ms: bronze may have expired what Kafka received until then; None for never.
    """
    if kafka == bronze:
        return
    held = {m[0]: Message(*m) for m in kafka if m[0] >= oldest_offset}
    stored = {m[0]: Message(*m) for m in bronze if m[0] >= oldest_offset}
    offsets = sorted(o for o in held.keys() | stored.keys() if held.get(o) != stored.get(o))
    names = MessageNames(topic_id, kafka_partition, [held.get(o) or stored[o] for o in offsets])
    for offset in offsets:
        expected, found = held.get(offset), stored.get(offset)
        if expected is None:
            yield names.difference(Pair.KAFKA_BRONZE, offset, "message", "none", "in bronze")
        elif found is None:
            if not is_gone(expected.kafka_timestamp_ms, bronze_gone_ms):
                yield names.difference(Pair.KAFKA_BRONZE, offset, "message", "in bronze", "none")
        else:
            for texts in _contrast(expected, found):
                yield names.difference(Pair.KAFKA_BRONZE, offset, *texts)


class MessageNames:
    """Names messages in differences, with bar and trade where they hold one."""

    def __init__(self, topic_id: str, kafka_partition: int, messages: Sequence[RawMessage]) -> None:
        self._topic_id = topic_id
        self._kafka_partition = kafka_partition
        trades = sort_messages(topic_id, kafka_partition, messages).trades
        self._trades = {row["kafka_offset"]: row for row in trades.to_pylist()}

    def difference(
        self, pair: Pair, kafka_offset: int, what: str, expected: str, found: str
    ) -> Difference:
        """Return a difference of the message at an offset."""
        row = self._trades.get(kafka_offset)
        return Difference(
            pair=pair,
            what=what,
            expected=expected,
            found=found,
            symbol=row["symbol"] if row else None,
            window_start=from_millis(row["bucket_ms"]) if row else None,
            trade=trade_ref(row["event_time_ms"], row["trade_id"]) if row else None,
            message=MessageRef(
                topic_id=self._topic_id,
                kafka_partition=self._kafka_partition,
                kafka_offset=kafka_offset,
            ),
        )


def _contrast(expected: Message, found: Message) -> Iterator[tuple[str, str, str]]:
    if expected.kafka_timestamp_ms != found.kafka_timestamp_ms:
        times = (from_millis(m.kafka_timestamp_ms) for m in (expected, found))
        yield ("kafka_timestamp", *map(text_of, times))  # type: ignore[misc]
    for what, left, right in (
        ("message_key", expected.key, found.key),
        ("message", expected.value, found.value),
    ):
        if left != right:
            yield what, _bytes(left), _bytes(right)


def _bytes(value: bytes | None) -> str:
    return "none" if value is None else f"0x{value.hex()}"
