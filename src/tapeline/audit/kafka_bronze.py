"""Kafka against bronze: the same messages, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tapeline.audit.difference import Difference, MessageRef, Pair, text_of
from tapeline.audit.frames import instant, is_gone, trade_ref
from tapeline.audit.messages import Message, RawMessage, sort_messages


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
    for offset in sorted(held.keys() | stored.keys()):
        expected, found = held.get(offset), stored.get(offset)
        ref = MessageRef(topic_id=topic_id, kafka_partition=kafka_partition, kafka_offset=offset)
        if expected is None:
            yield name_message(Pair.KAFKA_BRONZE, "message", "none", "in bronze", ref, found)
        elif found is None:
            if not is_gone(expected.kafka_timestamp_ms, bronze_gone_ms):
                yield name_message(Pair.KAFKA_BRONZE, "message", "in bronze", "none", ref, expected)
        else:
            for what, left, right in _contrast(expected, found):
                yield name_message(Pair.KAFKA_BRONZE, what, left, right, ref, expected)


def name_message(
    pair: Pair, what: str, expected: str, found: str, ref: MessageRef, message: Message | None
) -> Difference:
    """Return a difference of one message, with its bar and trade where it holds one."""
    held = [] if message is None else [message]
    trades = sort_messages(ref.topic_id, ref.kafka_partition, held).trades
    difference = Difference(pair=pair, what=what, expected=expected, found=found, message=ref)
    for row in trades.rows(named=True):
        difference = replace(
            difference,
            symbol=row["symbol"],
            window_start=instant(row["bucket_ms"]),
            trade=trade_ref(row["event_time_ms"], row["trade_id"]),
        )
    return difference


def _contrast(expected: Message, found: Message) -> Iterator[tuple[str, str, str]]:
    if expected.kafka_timestamp_ms != found.kafka_timestamp_ms:
        times = (instant(m.kafka_timestamp_ms) for m in (expected, found))
        yield ("kafka_timestamp", *map(text_of, times))  # type: ignore[misc]
    for what, left, right in (
        ("message_key", expected.key, found.key),
        ("message", expected.value, found.value),
    ):
        if left != right:
            yield what, _bytes(left), _bytes(right)


def _bytes(value: bytes | None) -> str:
    return "none" if value is None else f"0x{value.hex()}"
