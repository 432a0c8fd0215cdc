"""Walk over the messages: Kafka against bronze, bronze against quarantine, trades to disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from tapeline.audit.bronze_quarantine import Quarantined, compare_quarantine
from tapeline.audit.context import NO_KAFKA, Advance, Context
from tapeline.audit.difference import Pair
from tapeline.audit.frames import instant
from tapeline.audit.ground import Partition
from tapeline.audit.kafka_bronze import compare_messages
from tapeline.audit.messages import Message, sort_messages
from tapeline.audit.spill import Spill
from tapeline.storage.rows import BUCKET_OFFSETS, WINDOW_BUCKET_OFFSETS

Range = tuple[int, int]
"""The first offset, and the one after the last."""

_CHUNKS_OF_BUCKET: Final = BUCKET_OFFSETS // WINDOW_BUCKET_OFFSETS


def message_ranges(
    context: Context, kafka_offsets: Mapping[int, Range]
) -> dict[Partition, list[Range]]:
    """Return the offsets to look at, a range being one bucket of window_state at most.

    They are what bronze holds, and what it must hold: all that Kafka holds and that is
    committed to silver. What is not committed is counted as not read yet.
    """
    chunks: dict[Partition, set[int]] = defaultdict(set)
    for topic_id, partition, bucket in context.reads.bronze_buckets():
        first = bucket * _CHUNKS_OF_BUCKET
        chunks[topic_id, partition].update(range(first, first + _CHUNKS_OF_BUCKET))
    ground = context.ground
    for partition, (oldest, end) in kafka_offsets.items():
        key = context.kafka.topic_id, partition
        committed_end = ground.committed.get(key, -1) + 1
        if committed_end > oldest:
            last = (committed_end - 1) // WINDOW_BUCKET_OFFSETS
            chunks[key].update(range(oldest // WINDOW_BUCKET_OFFSETS, last + 1))
        context.findings.not_yet(Pair.KAFKA_BRONZE, max(0, end - max(oldest, committed_end)))
    found = {}
    for key, wanted in chunks.items():
        if ground.touched is not None:
            wanted &= ground.touched.get(key, set())  # noqa: PLW2901 - narrowed
        end = ground.committed.get(key, -1) + 1
        starts = (chunk * WINDOW_BUCKET_OFFSETS for chunk in sorted(wanted))
        found[key] = [(s, min(s + WINDOW_BUCKET_OFFSETS, end)) for s in starts if s < end]
    return found


def walk_messages(
    context: Context,
    ranges: Mapping[Partition, Sequence[Range]],
    kafka_offsets: Mapping[int, Range],
    spill: Spill,
    advance: Advance,
) -> None:
    """Compare the messages of every range, and write the trades they hold to disk."""
    for (topic_id, partition), some in ranges.items():
        is_live = topic_id == context.kafka.topic_id
        bronze = context.reads.bronze(topic_id, partition, some)
        quarantine = context.reads.quarantine(topic_id, partition, some)
        for offsets, rows, bad_rows in zip(some, bronze, quarantine, strict=True):
            messages = [Message(*row) for row in rows]
            if is_live:
                oldest = kafka_offsets[partition][0] if partition in kafka_offsets else None
                _compare_with_kafka(context, partition, offsets, messages, oldest)
            sort = sort_messages(topic_id, partition, messages)
            differences = compare_quarantine(
                topic_id,
                partition,
                messages,
                sort.invalid,
                [Quarantined(*row) for row in bad_rows],
                bronze_gone_ms=context.ground.gone_ms["trades_bronze"],
                quarantine_gone_ms=context.ground.gone_ms["trades_quarantine"],
            )
            context.findings.checked(Pair.BRONZE_SILVER, len(messages), differences)
            spill.add(context.scope.only(sort.trades))
            advance(offsets[1] - offsets[0])


def _compare_with_kafka(
    context: Context,
    partition: int,
    offsets: Range,
    bronze: Sequence[Message],
    oldest_offset: int | None,
) -> None:
    """Compare a range with what Kafka holds of it; `oldest_offset` is where Kafka begins."""
    start, stop = offsets
    if oldest_offset is not None and oldest_offset < stop:
        held = context.kafka.read(partition, max(start, oldest_offset), stop)
        # Kafka may have expired messages while they were read.
        oldest_offset = context.kafka.oldest(partition)
        differences = compare_messages(
            context.kafka.topic_id,
            partition,
            held,
            [m for m in bronze if m.kafka_offset >= oldest_offset],
            oldest_offset=oldest_offset,
            bronze_gone_ms=context.ground.gone_ms["trades_bronze"],
        )
        context.findings.checked(Pair.KAFKA_BRONZE, len(held), differences)
    context.findings.not_auditable(
        Pair.KAFKA_BRONZE,
        NO_KAFKA,
        (
            instant(m.kafka_timestamp_ms)
            for m in bronze
            if oldest_offset is None or m.kafka_offset < oldest_offset
        ),
    )
