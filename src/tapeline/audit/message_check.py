"""Check the messages: Kafka against bronze, bronze against quarantine, trades to disk."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from tapeline.audit.context import Advance, Context
from tapeline.audit.findings import NO_KAFKA, Difference, MessageRef, Pair, text_of
from tapeline.audit.messages import Invalid, Message, sort_messages
from tapeline.audit.tables import Spill, is_gone, trade_ref
from tapeline.kafka.reader import RawMessage
from tapeline.model.times import from_millis
from tapeline.storage.messages import BUCKET_OFFSETS
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, Partition

Range = tuple[int, int]
"""The first offset, and the one after the last."""
_Texts = tuple[str, str, str]
"""What differs, what was expected and what was found."""

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


def _contrast(expected: Message, found: Message) -> Iterator[_Texts]:
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
        elif texts := _contrast_quarantined(invalid.get(offset), row, message):
            found.append((message, texts))
    names = MessageNames(topic_id, kafka_partition, [message for message, _ in found])
    for message, texts in found:
        yield names.difference(Pair.BRONZE_SILVER, message.kafka_offset, *texts)


def _contrast_quarantined(bad: Invalid | None, row: Quarantined, message: Message) -> _Texts | None:
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
