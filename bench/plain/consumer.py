"""Kafka → rows and bars → Cassandra, in one process."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from fastavro import parse_schema, schemaless_reader

from bench.plain.fold import Bars
from bench.plain.tables import Groups, Row
from bench.plain.writers import Writer
from tapeline.model.trade import TRADE_SCHEMA_JSON

HEADER_BYTES: Final = 10
_BUCKET_OFFSETS: Final = 100_000
CHUNK: Final = 5000
"""The most messages that are taken at once."""
_CHUNKS_IN_FLIGHT: Final = 4
_POLL_S: Final = 0.05
_FLUSH_LIVE_S: Final = 0.2
_FLUSH_BEHIND_S: Final = 3.0
_TIMEOUT_S: Final = 20.0


def _reader_schema() -> Any:
    """Return the trade's schema with times as the numbers that they are."""
    schema = json.loads(TRADE_SCHEMA_JSON)
    for field_schema in schema["fields"]:
        if isinstance(field_schema["type"], dict):
            field_schema["type"].pop("logicalType", None)
    return parse_schema(schema)


READER_SCHEMA: Final = _reader_schema()


@dataclass(slots=True)
class Chunk:
    """Rows of some messages, by partition of their tables, and how far they reach."""

    bronze: dict[tuple[int, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    silver: dict[tuple[str, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[int, int] = field(default_factory=dict)


class PlainConsumer:
    """Reads one topic into one keyspace.

    Args:
        bootstrap_servers: Kafka's address.
        topic: what to read, from its start.
        topic_id: names its progress.
        writer: an open writer.
        until_end: stop at the ends that the topic has now, with every bar final.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        topic_id: str,
        writer: Writer,
        *,
        until_end: bool,
    ) -> None:
        self._topic_id = topic_id
        self._writer = writer
        self._until_end = until_end
        self._bars: defaultdict[int, Bars] = defaultdict(Bars)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"plain-{time.time_ns()}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "queued.min.messages": 50_000,
                "queued.max.messages.kbytes": 32_768,
            }
        )
        partitions = self._consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
        self._ends = {
            p: self._consumer.get_watermark_offsets(TopicPartition(topic, p), _TIMEOUT_S)[1]
            for p in partitions
        }
        self._consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        self._read: dict[int, int] = {}

    async def run(self) -> None:
        """Read until cancelled, or to the end."""
        loop = asyncio.get_running_loop()
        writing: deque[asyncio.Task[None]] = deque()
        flushing: asyncio.Task[None] | None = None
        flushed_s = time.monotonic()
        while not (self._until_end and self._is_at_end()):
            messages = await loop.run_in_executor(None, self._consumer.consume, CHUNK, _POLL_S)
            if messages:
                before = writing[-1] if writing else None
                work = self._write(self._taken(messages), before)
                writing.append(asyncio.ensure_future(work))
            while writing and (writing[0].done() or len(writing) >= _CHUNKS_IN_FLIGHT):
                await writing.popleft()
            every_s = _FLUSH_BEHIND_S if len(messages) == CHUNK else _FLUSH_LIVE_S
            # One flush after the other, so that a bar's newer row is written later.
            if time.monotonic() - flushed_s >= every_s and (flushing is None or flushing.done()):
                if flushing is not None:
                    flushing.result()
                flushed_s = time.monotonic()
                flushing = asyncio.ensure_future(self._flush())
        await asyncio.gather(*writing, *([flushing] if flushing else []))
        await self._flush(is_end=True)
        self._consumer.close()

    def _is_at_end(self) -> bool:
        return all(self._read.get(p, -1) + 1 >= end for p, end in self._ends.items())

    def _taken(self, messages: Sequence[Message]) -> Chunk:
        """Decode messages, fold their trades, and lay out their rows."""
        chunk = Chunk()
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            value: Any = message.value()
            partition: Any = message.partition()
            offset: Any = message.offset()
            trade: Any = schemaless_reader(BytesIO(value[HEADER_BYTES:]), READER_SCHEMA, None)
            at_ms, received_us = trade["event_time"], trade["received_at"]
            start_ms = self._bars[partition].take(trade, at_ms, received_us)
            bucket = offset // _BUCKET_OFFSETS
            chunk.bronze[partition, bucket].append(
                [partition, bucket, offset, message.timestamp()[1], value]
            )
            symbol = trade["symbol"]
            chunk.silver[symbol, start_ms].append(
                [
                    symbol,
                    start_ms,
                    at_ms,
                    trade["trade_id"],
                    trade["price"],
                    trade["volume"],
                    trade["conditions"],
                    trade["sequence"],
                    received_us // 1000,
                    trade["source"],
                ]
            )
            chunk.offsets[partition] = offset
        self._read.update(chunk.offsets)
        return chunk

    async def _write(self, chunk: Chunk, before: asyncio.Task[None] | None) -> None:
        """Write a chunk's rows, and its progress after that of the one before."""
        await asyncio.gather(
            self._writer.write("trades_silver", list(chunk.silver.values())),
            self._writer.write("trades_bronze", list(chunk.bronze.values())),
        )
        if before is not None:
            await before
        progress = [[self._topic_id, p, offset] for p, offset in chunk.offsets.items()]
        await self._writer.write("ingest_progress", [progress])

    async def _flush(self, *, is_end: bool = False) -> None:
        rows: Groups = []
        hours: Groups = []
        for bars in self._bars.values():
            of_minutes, of_hours = bars.drain(is_end=is_end)
            rows += _by_partition(of_minutes)
            hours += _by_partition(of_hours)
        await self._writer.write("trades_gold_5m", rows)
        await self._writer.write("trades_gold_1h", hours)


def _by_partition(rows: list[Row]) -> Groups:
    groups: defaultdict[tuple[Any, Any], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[0], row[1]].append(row)
    return list(groups.values())
