"""Check the messages: Kafka against bronze, bronze against quarantine, trades to disk."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

from tapeline.audit.bronze_quarantine import Quarantined, compare_quarantine
from tapeline.audit.context import NO_KAFKA, Advance, Context
from tapeline.audit.difference import Difference, Pair
from tapeline.audit.kafka_bronze import compare_messages
from tapeline.audit.messages import RawMessage, sort_messages
from tapeline.audit.spill import Spill
from tapeline.model.times import from_millis
from tapeline.storage.messages import BUCKET_OFFSETS
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, Partition

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
    for topic_id, partition, bucket in context.client.bronze_buckets():
        first = bucket * _CHUNKS_OF_BUCKET
        chunks[topic_id, partition].update(range(first, first + _CHUNKS_OF_BUCKET))
    baseline = context.baseline
    for partition, (oldest, end) in kafka_offsets.items():
        key = context.kafka.topic_id, partition
        committed_end = baseline.committed.get(key, -1) + 1
        if committed_end > oldest:
            last = (committed_end - 1) // WINDOW_BUCKET_OFFSETS
            chunks[key].update(range(oldest // WINDOW_BUCKET_OFFSETS, last + 1))
        context.findings.not_yet(Pair.KAFKA_BRONZE, max(0, end - max(oldest, committed_end)))
    found = {}
    for key, wanted in chunks.items():
        if baseline.affected is not None:
            wanted &= baseline.affected.get(key, set())  # noqa: PLW2901 - narrowed
        end = baseline.committed.get(key, -1) + 1
        starts = (chunk * WINDOW_BUCKET_OFFSETS for chunk in sorted(wanted))
        found[key] = [(s, min(s + WINDOW_BUCKET_OFFSETS, end)) for s in starts if s < end]
    return found


def check_messages(
    context: Context,
    ranges: Mapping[Partition, Sequence[Range]],
    kafka_offsets: Mapping[int, Range],
    spill: Spill,
    advance: Advance,
) -> None:
    """Compare the messages of every range, and write the trades they hold to disk."""
    for (topic_id, partition), some in ranges.items():
        # What Kafka holds has the id of the living topic; one of the same name may have gone.
        is_live = topic_id == context.kafka.topic_id and partition in kafka_offsets
        oldest = kafka_offsets[partition][0] if is_live else None
        bronze = context.client.bronze(topic_id, partition, some)
        quarantine = context.client.quarantine(topic_id, partition, some)
        for offsets, messages, bad_rows in zip(some, bronze, quarantine, strict=True):
            _compare_with_kafka(context, partition, offsets, messages, oldest)
            sort = sort_messages(topic_id, partition, messages)
            differences = compare_quarantine(
                topic_id,
                partition,
                messages,
                sort.invalid,
                [Quarantined(*row) for row in bad_rows],
                bronze_gone_ms=context.baseline.gone_ms["trades_bronze"],
                quarantine_gone_ms=context.baseline.gone_ms["trades_quarantine"],
            )
            context.findings.checked(Pair.BRONZE_SILVER, len(messages), differences)
            spill.add(context.scope.only(sort.trades))
            advance(offsets[1] - offsets[0])


def _compare_with_kafka(
    context: Context,
    partition: int,
    offsets: Range,
    bronze: Sequence[RawMessage],
    oldest_offset: int | None,
) -> None:
    """Compare a range with what Kafka holds of it; `oldest_offset` is where Kafka began."""
    start, stop = offsets
    first = stop if oldest_offset is None else max(start, oldest_offset)
    rows = bronze[bisect_left(bronze, first, key=itemgetter(0)) :]
    expired = bronze[: len(bronze) - len(rows)]
    times = (from_millis(timestamp_ms) for _, timestamp_ms, *_ in expired)
    context.findings.not_auditable(Pair.KAFKA_BRONZE, NO_KAFKA, times)
    if first >= stop:
        return
    held = context.kafka.read(partition, first, stop)
    differences: Iterator[Difference] = iter(())
    if held != rows:
        differences = compare_messages(
            context.kafka.topic_id,
            partition,
            held,
            rows,
            # Kafka may have expired messages while they were read.
            oldest_offset=context.kafka.oldest(partition),
            bronze_gone_ms=context.baseline.gone_ms["trades_bronze"],
        )
    context.findings.checked(Pair.KAFKA_BRONZE, len(held), differences)
